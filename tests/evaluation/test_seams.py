"""A metric is one function: everything else follows from the fields of its row.

Each test registers a metric that camcli does not know and runs the command with it.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from camcli.evaluation import registry
from camcli.evaluation.evidence import MapEvidence
from camcli.evaluation.grid_pointing import GridEvidence
from camcli.evaluation.objects import Object
from camcli.evaluation.protocol import Protocol
from camcli.evaluation.registry import (
    METRIC_EVIDENCE,
    METRICS,
    Alarm,
    Curve,
    Matrix,
    register_metric,
)
from camcli.images.decode import decode
from camcli.images.geometry import MapArray
from tests.support.command import Run, line_of, stdout
from tests.support.evaluation import BLOBS, COLOURS, TINY

ROWS = ("gradcam", "random", "centre")


@pytest.fixture
def add(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Register a function as the metric `toy`, and load the command as a new process would."""

    def call(function: Callable[..., Any], **fields: Any) -> None:
        register_metric("toy", **{"better": "higher", "source": "Nobody 2020", **fields})(function)
        for module in ("camcli.cli.evaluate", "camcli.cli.evaluate_options"):
            monkeypatch.delitem(sys.modules, module, raising=False)

    yield call
    registry._metrics.pop("toy", None)
    for module in ("camcli.cli.evaluate", "camcli.cli.evaluate_options"):
        monkeypatch.delitem(sys.modules, module, raising=False)


def plain(probability: Tensor) -> Tensor:
    """Toy: one plus the class probability."""
    return 1 + probability


def test_a_metric_is_an_option_of_the_command(run: Run, add: Callable[..., None]) -> None:
    assert "toy" not in run("evaluate", "--help").stdout_bytes.decode()
    add(plain, default=True)
    text = " ".join(run("evaluate", "--help").stdout_bytes.decode().split())
    assert re.search(r"\[default: average-drop, [^;]*, toy; with --boxes pointing,", text)


@pytest.mark.parametrize("options", [("--metric", "toy"), ("--metric", "all"), ()])
def test_a_metric_is_in_the_table_and_in_every_file(
    options: tuple[str, ...], run: Run, photos: Path, tmp_path: Path, add: Callable[..., None]
) -> None:
    add(plain, percent=True, better="lower", default=True)
    out, steps = tmp_path / "out", ("--sanity-steps", 1, "--window", 60)
    found = run("evaluate", photos, *TINY, *steps, "--limit", 1, *options, "--output", out)
    assert found.exit_code == 0
    (line,) = (x for x in stdout(found).splitlines() if x.startswith("toy"))
    assert line.split()[:4] == ["toy", "%", "lower", "1"]
    record = json.loads((out / "metrics.json").read_text())["metrics"]["toy"]
    assert (record["unit"], record["better"], record["source"]) == (
        *("percent", "lower", "Nobody 2020"),
    )
    assert record["rows"]["gradcam"]["mean"] > 1
    assert record["rows"]["gradcam"]["verdict"] == "fails", "every row has the same value"
    rows = list(csv.DictReader((out / "scores.csv").read_text().splitlines()))
    assert [row["method"] for row in rows] == list(ROWS)
    assert all(1 < float(row["toy"]) < 2 for row in rows)
    assert "`toy` % (lower)" in (out / "table.md").read_text()
    assert not (out / "toy.png").exists(), "it has no curve"


def test_a_metric_has_a_panel_of_its_values(
    run: Run, photos: Path, tmp_path: Path, add: Callable[..., None]
) -> None:
    add(plain)
    command = ("evaluate", photos, *TINY, "--metric", "toy", "--output", tmp_path / "out")
    heights = []
    for more in ((), ("--metric", "complexity")):
        assert run(*command, *more).exit_code == 0
        heights.append(decode(tmp_path / "out" / "distributions.png").shape[0])
    assert heights[1] == 2 * heights[0]


def test_a_metric_with_a_curve_is_plotted(
    run: Run, photos: Path, tmp_path: Path, add: Callable[..., None]
) -> None:
    def start(deletion_curve: Tensor) -> Tensor:
        return deletion_curve[:, 0]

    add(start, trace=Curve("deletion_curve", "share", "probability", "numbered"))
    out = tmp_path / "out"
    command = ("evaluate", photos, *TINY, "--output", out, "--metric")
    assert run(*command, "toy").exit_code == 0
    assert {file.name for file in out.glob("*.png")} == {"toy.png", "distributions.png"}
    curves = json.loads((out / "metrics.json").read_text())["curves"]["toy"]
    assert [*curves] == list(ROWS)
    assert len(curves["centre"]) == 5
    shape = decode(out / "toy.png").shape
    assert run(*command, "deletion").exit_code == 0
    assert not (out / "toy.png").exists(), "plots of an earlier evaluation are removed"
    assert shape == decode(out / "deletion.png").shape
    photo = (photos / "0.png").rename(out / "toy.png")
    refused = run("evaluate", photo, *TINY, "--output", out)
    assert b"is an input and would be overwritten" in refused.stderr_bytes


def test_a_metric_with_a_matrix_has_one_in_every_table(
    run: Run, photos: Path, tmp_path: Path, add: Callable[..., None]
) -> None:
    def lead(masked_probability: Tensor, other_masked_probabilities: Tensor) -> Tensor:
        return (masked_probability - other_masked_probabilities).mean(0)

    add(lead, trace=Matrix("masked_probability", "other_masked_probabilities"))
    out = tmp_path / "out"
    found = run("evaluate", photos, *TINY, "--metric", "toy", "--output", out)
    _, _, printed = stdout(found).partition("\ntoy against")
    header, *values = printed.splitlines()
    assert header.split() == list(ROWS)
    assert [line.split()[0] for line in values if line.startswith(ROWS)] == list(ROWS)
    matrix = json.loads((out / "metrics.json").read_text())["toy"]
    assert matrix["random"]["random"] is None
    assert matrix["random"]["centre"] == pytest.approx(-matrix["centre"]["random"])
    assert f"{matrix['random']['centre']:.3f}" == line_of(printed, "random").split()[-1]
    assert "| toy against | `gradcam` | random | centre |" in (out / "table.md").read_text()
    assert not (out / "toy.png").exists()


def test_a_metric_of_grids_is_measured_on_grids(
    run: Run, coloured: Path, add: Callable[..., None]
) -> None:
    def position(grid_cell: Tensor) -> Tensor:
        return grid_cell.double()

    add(position)
    command = ("evaluate", coloured, *COLOURS, "--metric", "toy", "--json", "--min-confidence")
    record = json.loads(run(*command, 0, "--target", 2).stdout_bytes)
    assert record["metrics"]["toy"]["rows"]["gradcam"]["images"] == 12
    assert record["metrics"]["toy"]["rows"]["gradcam"]["mean"] == 1.5
    (remark,) = json.loads(run(*command, 1).stdout_bytes)["remarks"]
    assert remark.startswith("toy needs 4 images of different classes")
    conditions = line_of(stdout(run(*command[:-2], "--target", 2)), "Measured with")
    assert "toy with target pred" in conditions
    assert "min-confidence 0.99, grid-image-size full" in conditions


def test_a_metric_of_annotations_needs_boxes(
    run: Run, annotated: Path, ground_truth: tuple[object, ...], add: Callable[..., None]
) -> None:
    def count(photo_map: MapArray, objects: Sequence[Object]) -> float:
        """Toy: the number of objects."""
        assert photo_map.ndim == 2
        return len(objects)

    add(count, default=True, class_mean=True, top1="toy-top1")
    refused = run("evaluate", annotated, *BLOBS, "--metric", "toy")
    assert b"\nError: metric 'toy' needs annotations" in refused.stderr_bytes
    assert "toy" not in run("evaluate", annotated, *BLOBS).stdout_bytes.decode()
    record = json.loads(run("evaluate", annotated, *BLOBS, *ground_truth, "--json").stdout_bytes)
    found = record["metrics"]["toy"]
    assert found["rows"]["gradcam"]["images"] == 2
    assert found["rows"]["gradcam"]["mean"] >= 1
    assert found["by_class"]["gradcam"] >= 1
    assert record["toy-top1"]["gradcam"] == found["rows"]["gradcam"]["mean"], "no photo was skipped"


def test_fields_of_the_row_decide_marks_and_remarks(
    run: Run, photos: Path, add: Callable[..., None]
) -> None:
    add(plain, compared=False, alarm=Alarm(1, "is a toy ({value:.0f})"))
    record = json.loads(run("evaluate", photos, *TINY, "--metric", "toy", "--json").stdout_bytes)
    assert record["remarks"] == ["gradcam is a toy (1)"]
    assert record["metrics"]["toy"]["rows"]["gradcam"]["verdict"] is None


def test_a_metric_of_randomized_weights_keeps_the_batch_norms(
    run: Run, photos: Path, add: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def last(randomized_correlation: Tensor) -> Tensor:
        return randomized_correlation[:, -1]

    add(last)
    monkeypatch.setattr("camcli.models.fold_batchnorm.fold_batchnorm", None)  # must not be called
    found = run("evaluate", photos, *TINY, "--metric", "toy", "--sanity-steps", 2)
    assert found.exit_code == 0
    assert "sanity-steps 2" in line_of(stdout(found), "Measured with")


def test_registering_refuses_fields_that_do_not_fit_the_function() -> None:
    def unknown(nonsense: Tensor) -> Tensor:
        return nonsense

    def two_places(mask: Tensor, grid_map: Tensor) -> Tensor:
        return mask + grid_map

    def of_grids(grid_map: Tensor) -> Tensor:
        return grid_map

    for name, function, trace, message in (
        ("toy", unknown, None, r"needs \['nonsense'\]"),
        ("toy", two_places, None, r"needs evidence of \['grid', 'image'\]: expected one place"),
        ("toy", plain, Curve("mask", "x", "y"), "keeps 'mask', which it does not need"),
        ("toy", plain, Matrix("mask", "raw_map"), r"expected the parameters \['mask', 'raw_map'\]"),
        ("toy", of_grids, Curve("grid_map", "x", "y"), "expected evidence of images"),
        ("grid", plain, None, "'grid' is registered twice"),
    ):
        with pytest.raises(ValueError, match=message):
            register_metric(name, better="higher", source="here", trace=trace)(function)
    assert "toy" not in METRICS


def test_a_parameter_with_a_default_is_no_evidence(add: Callable[..., None]) -> None:
    def scaled(mask: Tensor, scale: float = 2) -> Tensor:
        return scale * mask.mean((1, 2))

    add(scaled)
    assert METRICS["toy"].needs == {"mask"}


def test_every_kind_of_evidence_can_be_taken() -> None:
    grids = {field.name for field in dataclasses.fields(GridEvidence)}
    for name, kind in METRIC_EVIDENCE.items():
        taken = name in grids if kind.place == "grid" else hasattr(MapEvidence, name)
        assert taken, name
    asked = {name for metric in METRICS.values() for name in metric.needs}
    assert asked == set(METRIC_EVIDENCE), "each is used"


def test_every_option_of_the_protocol_decides_some_evidence() -> None:
    options = {field.name for field in dataclasses.fields(Protocol)}
    named = {option for kind in METRIC_EVIDENCE.values() for option in kind.options}
    assert named == options - {"gradient_sign", "placement", "seed"}, "which decide all maps"
    assert Protocol().deciding(["road_morf"]) == {
        "gradient_sign": "abs", "placement": "centres", "road_noise": 0.01, "seed": 0}  # fmt: skip


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_is_documented(name: str) -> None:
    metric = METRICS[name]
    assert metric.summary.endswith(".")
    assert metric.place == "annotation" or "(N,)" in (metric.function.__doc__ or "")
    assert re.search(r"(19|20)\d\d", metric.source)
