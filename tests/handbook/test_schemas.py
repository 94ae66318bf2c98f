"""The JSON Schemas of docs/schemas agree with the code and with what the commands write."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from tests.handbook.schemas import FOLDER, SCHEMAS, json_schema, text
from tests.support.command import stdout
from tests.support.files import SAMPLES
from tests.support.training import draw_squares

jsonschema = pytest.importorskip("jsonschema")
hypothesis = pytest.importorskip("hypothesis")
from hypothesis import given, settings  # noqa: E402 - after the check
from hypothesis import strategies as st  # noqa: E402

from tests.support.records import EXAMPLES, damaged  # noqa: E402

OF_EXAMPLES = {"row": "manifest-row", "change": "check-row", "card": "model"}
"""The schemas of the examples that have another name."""
Run = Callable[..., Result]


def check(name: str, *values: Any) -> None:
    """Raise an error unless there are values and all fit a schema."""
    assert values
    for value in values:
        jsonschema.validate(value, json_schema(name))


def lines(given: str | Path) -> list[Any]:
    text = given.read_text() if isinstance(given, Path) else given
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_files_agree_with_the_code(name: str) -> None:
    assert (FOLDER / f"{name}.json").read_text() == text(name), "python -m tests.test_docs"
    jsonschema.Draft202012Validator.check_schema(json_schema(name))


def test_there_are_no_other_files() -> None:
    assert {file.stem for file in FOLDER.iterdir()} == set(SCHEMAS)


@pytest.mark.parametrize("name", EXAMPLES)
@settings(max_examples=100, deadline=None, database=None, derandomize=True)
@given(data=st.data())
def test_what_camcli_reads_fits_the_schema(name: str, data: st.DataObject) -> None:
    """A schema is never stricter than the check of the code."""
    schema = OF_EXAMPLES.get(name, name)
    check(schema, EXAMPLES[name][1])
    try:
        found = SCHEMAS[schema][1].parse(data.draw(damaged(name)))
    except ValueError:
        return
    check(schema, found)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_field_of_another_kind_does_not_fit(name: str) -> None:
    record, example = EXAMPLES[name]
    for field in (*record.required, *record.optional):
        if isinstance(example[field], str | float | bool):
            with pytest.raises(jsonschema.ValidationError):
                check(OF_EXAMPLES.get(name, name), example | {field: {"not": ["this"]}})


def test_files_that_commands_write(run: Run, tmp_path: Path) -> None:
    a, b, truth = tmp_path / "a", tmp_path / "b", tmp_path / "truth.csv"
    truth.write_text("image,class\nchelsea.jpg,Egyptian cat\nhens.jpg,hen\nduck.jpg,drake\n")
    photos = [SAMPLES / f"{name}.jpg" for name in ("chelsea", "hens", "duck")]
    judged = ("--truth", f"csv:{truth}", "--save", "map,boxes")
    check("manifest-row", *lines(stdout(run("explain", *photos, *judged, "--json", "--output", a))))
    run("explain", *photos, *judged, "--fit", "full", "--output", b)
    check("manifest-row", *lines(a / "manifest.jsonl"))
    check("run", json.loads((a / "run.json").read_text()))
    check("check-row", *lines(stdout(run("check", b, a, "--json"))))
    check("compare-row", *lines(stdout(run("compare", a, b, "--json", "--output", tmp_path / "c"))))
    check("compare", json.loads((tmp_path / "c/compare.json").read_text()))
    check("audit", json.loads(stdout(run("audit", a, "--json"))))
    run("explain", *photos, "--shard", "1/1", "--save", "map", "--output", tmp_path / "s")
    (shard,) = (tmp_path / "s/shards").glob("*.json")
    check("shard", json.loads(shard.read_text()))


def test_what_commands_print(run: Run) -> None:
    photo = SAMPLES / "chelsea.jpg"
    check("metrics", json.loads(stdout(run("evaluate", photo, "--metric", "complexity", "--json"))))
    check("network", *lines(stdout(run("models", "resnet", "--json"))))
    check("layer", *lines(stdout(run("layers", "mini", "--json"))))


def test_files_of_a_training(run: Run, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    squares, output = draw_squares(tmp_path / "photos"), tmp_path / "model"
    run("train", squares, "--epochs", 1, "--image-size", 33, "--output", output)
    check("model", json.loads((output / "model.json").read_text()))
    check("epoch", *lines(output / "metrics.jsonl"))
