"""`--only`: images are explained that a forward pass selects, and all are counted."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from camcli import Model
from camcli.errors import CamcliError, CamcliWarning
from camcli.runs import pipeline
from camcli.runs.accuracy import accuracy
from camcli.runs.filters import read_filters
from camcli.runs.items import LeftOut
from camcli.runs.job import Job
from camcli.runs.merge import merge
from camcli.runs.predictions import Prediction
from camcli.runs.shards import shard_of
from camcli.runs.truth import Truth
from tests.support.files import manifest
from tests.support.jobs import with_network
from tests.support.networks import GapNet, LimitedMemory
from tests.support.truth import (
    ANTS,
    NAMES,
    RANKS,
    classes_by_rank,
    job_on,
    make_photos,
    nine_classes,
    record_in,
    rows_of,
    shares_of,
    write_csv,
)

COUNTS = {"images": 5, "top1": 1, "top5": 3}


@pytest.fixture
def model(tmp_path: Path) -> Model:
    """A network whose predictions of the photos differ in class and confidence."""
    make_photos(tmp_path)
    model = nine_classes()
    assert isinstance(model.module, GapNet)
    inputs = torch.stack(
        [pipeline.load_image(job_on(tmp_path, model), one).input for one in sources_of(tmp_path)]  # type: ignore[union-attr]
    )
    with torch.no_grad():
        model.module.fc.weight *= 300
        scores = model.module(inputs)
        model.module.fc.bias -= scores.mean(0)
    return model


def sources_of(folder: Path) -> list[object]:
    return list(job_on(folder, nine_classes()).sources)


@pytest.fixture
def shares(tmp_path: Path, model: Model) -> dict[str, Tensor]:
    found = shares_of(tmp_path, model)
    assert len({int(of_image.argmax()) for of_image in found.values()}) > 1
    return found


@pytest.fixture
def true(shares: Mapping[str, Tensor]) -> dict[str, int]:
    return classes_by_rank(shares)


def confidence_between(shares: Mapping[str, Tensor]) -> float:
    """Return a probability that is above the confidence of two images of five."""
    low, high = sorted(float(of_image.max()) for of_image in shares.values())[1:3]
    return round((low + high) / 2, 6)


@pytest.mark.parametrize("spec", ["wrong", "right", "true=crane", "true!=crane"])
@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_the_true_class_selects(
    spec: str, batch_size: int, tmp_path: Path, model: Model, true: dict[str, int]
) -> None:
    truth = write_csv(tmp_path, "class_index", true)
    rows = rows_of(job_on(tmp_path, model, truth, only=(spec,), batch_size=batch_size))
    expected = {
        "wrong": [image for image, rank in zip(true, RANKS, strict=True) if rank],
        "right": ["0.jpg"],
        "true=crane": [image for image in true if NAMES[true[image]] == "crane"],
        "true!=crane": [image for image in true if NAMES[true[image]] != "crane"],
    }
    assert [*rows] == expected[spec]
    maps = sorted(path.name for path in (tmp_path / "out").glob("*.npy"))
    assert maps == [image.replace(".jpg", ".gradcam.npy") for image in expected[spec]]
    record = record_in(tmp_path / "out")
    assert record["accuracy"] == COUNTS, "of all images, also of those left out"
    assert record["only"] == [spec]
    assert record["counts"].get("left_out", 0) == len(true) - len(rows)
    assert record["counts"].get("earlier_images", 0) == 0


def test_the_prediction_selects(tmp_path: Path, model: Model, shares: dict[str, Tensor]) -> None:
    """Without true classes, too."""
    best = {image: NAMES[int(of_image.argmax())] for image, of_image in shares.items()}
    sure = {image: float(of_image.max()) for image, of_image in shares.items()}
    limit, name = confidence_between(shares), best["0.jpg"]
    expected: dict[str, Callable[[str], bool]] = {
        f"confidence<{limit}": lambda image: sure[image] < limit,
        f"confidence >= {limit}": lambda image: sure[image] >= limit,
        f"predicted={name.upper()}": lambda image: best[image] == name,
        f"predicted!={name}": lambda image: best[image] != name,
        "unsure": lambda image: sure[image] < 0.2,
    }
    for number, (spec, holds) in enumerate(expected.items()):
        job = replace(job_on(tmp_path, model, only=(spec,)), output=tmp_path / str(number))
        assert [*rows_of(job)] == [image for image in shares if holds(image)]
        assert record_in(tmp_path / str(number))["accuracy"] is None


def test_all_filters_must_hold(tmp_path: Path, model: Model, shares: dict[str, Tensor]) -> None:
    true, limit = classes_by_rank(shares), confidence_between(shares)
    only = ("wrong", f"confidence>{limit}")
    rows = rows_of(job_on(tmp_path, model, write_csv(tmp_path, "class_index", true), only=only))
    chosen = [image for image in true if image != "0.jpg" and float(shares[image].max()) > limit]
    assert [*rows] == chosen
    assert record_in(tmp_path / "out")["only"] == [*only]


def test_selected_images_have_the_rows_of_a_whole_run(
    tmp_path: Path, model: Model, true: dict[str, int]
) -> None:
    truth = write_csv(tmp_path, "class_index", true)
    whole = job_on(tmp_path, model, truth, targets=("pred", "true"), batch_size=1)
    every = manifest_of(whole)
    part = replace(whole, only=read_filters(("wrong",), model, whole.truth))
    wrong = manifest_of(replace(part, output=tmp_path / "part"))
    assert wrong == [row for row in every if not row["correct"]]
    for row in wrong:
        maps = [np.load(tmp_path / folder / row["map"]) for folder in ("out", "part")]
        np.testing.assert_array_equal(*maps)


def manifest_of(job: Job) -> list[dict[str, object]]:
    list(pipeline.run(job))
    return manifest(Path(str(job.output)))


def test_earlier_rows_of_images_left_out_stay(
    tmp_path: Path, model: Model, true: dict[str, int]
) -> None:
    """run.json names a selection as long as there are results of it."""
    job = job_on(tmp_path, model, write_csv(tmp_path, "class_index", true), batch_size=1)
    wrong, right = (
        replace(job, only=read_filters((spec,), model, job.truth)) for spec in ("wrong", "right")
    )
    list(pipeline.run(wrong))
    assert record_in(tmp_path / "out")["only"] == ["wrong"]
    first = manifest(tmp_path / "out")
    list(pipeline.run(right))
    both = manifest(tmp_path / "out")
    assert [row for row in both if not row["correct"]] == first
    assert len(both) == 5
    record = record_in(tmp_path / "out")
    assert record["only"] == ["wrong", "right"]
    assert (record["counts"]["earlier_images"], record["counts"]["left_out"]) == (4, 4)
    list(pipeline.run(replace(job, targets=("2",))))
    assert record_in(tmp_path / "out")["only"] == ["wrong", "right"]
    list(pipeline.run(replace(job, targets=("2", "pred"))))
    assert record_in(tmp_path / "out")["only"] is None


def test_kept_results_are_selected_by_their_rows(
    tmp_path: Path, model: Model, true: dict[str, int]
) -> None:
    truth = write_csv(tmp_path, "class_index", true)
    whole = job_on(tmp_path, model, truth, batch_size=1, skip_existing=True)
    every = manifest_of(whole)
    wrong = replace(whole, only=read_filters(("wrong",), model, whole.truth))
    network = LimitedMemory(0, RuntimeError("nothing is run"))
    network.fc = torch.nn.Linear(4, 9)
    found = [*pipeline.run(with_network(wrong, network))]
    assert network.sizes == []
    assert [isinstance(rows, LeftOut) for rows in found] == [rank == 0 for rank in RANKS]
    assert manifest(tmp_path / "out") == every
    assert record_in(tmp_path / "out")["accuracy"] == COUNTS
    (tmp_path / "out" / "1.gradcam.npy").unlink()
    found = [*pipeline.run(wrong)]
    assert [isinstance(rows, LeftOut) for rows in found] == [rank == 0 for rank in RANKS]
    assert manifest(tmp_path / "out") == every


def test_nothing_selected_is_recorded(tmp_path: Path, model: Model, true: dict[str, int]) -> None:
    job = job_on(tmp_path, model, write_csv(tmp_path, "class_index", true), only=("confidence<0",))
    assert manifest_of(job) == []
    record = record_in(tmp_path / "out")
    assert (record["accuracy"], record["counts"]) == (COUNTS, {"images": 5, "left_out": 5})


def test_an_image_that_cannot_be_decided_is_an_error(
    tmp_path: Path, model: Model, true: dict[str, int]
) -> None:
    """One is damaged, and one has no true class."""
    (tmp_path / "in" / "1.jpg").write_text("no image")
    labels = {image: index for image, index in true.items() if image != "2.jpg"}
    job = job_on(tmp_path, model, write_csv(tmp_path, "class_index", labels), only=("right",))
    with pytest.warns(CamcliWarning, match="images without a true class: 1 of 5"):
        rows = rows_of(job)
    assert [(image, row["status"]) for image, row in rows.items()] == [
        ("0.jpg", "ok"),
        ("1.jpg", "error"),
        ("2.jpg", "error"),
    ]
    assert "no true class" in rows["2.jpg"]["error"]
    named = job_on(tmp_path, model, f"csv:{tmp_path / 'truth.csv'}", only=("true=gnu",))
    with pytest.warns(CamcliWarning, match="images without a true class: 1 of 5"):
        assert "2.jpg" not in rows_of(replace(named, output=tmp_path / "gnu"))


def test_a_network_that_gives_nan_is_an_error(tmp_path: Path, model: Model) -> None:
    assert isinstance(model.module, GapNet)
    torch.nn.init.constant_(model.module.fc.weight, torch.nan)
    rows = rows_of(job_on(tmp_path, model, only=("unsure",)))
    assert {row["status"] for row in rows.values()} == {"error"}
    assert len(rows) == 5


def test_memory_may_be_short_while_deciding(
    tmp_path: Path, model: Model, true: dict[str, int]
) -> None:
    job = job_on(tmp_path, model, write_csv(tmp_path, "class_index", true), only=("wrong",))
    expected = rows_of(replace(job, output=tmp_path / "expected"))
    network = LimitedMemory(2, torch.OutOfMemoryError("CUDA out of memory."))
    network.fc = torch.nn.Linear(4, 9)
    with pytest.warns(CamcliWarning, match="out of memory with 5 images at once"):
        found = rows_of(with_network(job, network))
    assert [*found] == [*expected]
    assert [row["true_index"] for row in found.values()] == [
        row["true_index"] for row in expected.values()
    ]


def test_shards_of_a_selection_merge(tmp_path: Path, model: Model, true: dict[str, int]) -> None:
    truth = write_csv(tmp_path, "class_index", true)
    job = job_on(tmp_path, model, truth, batch_size=1, only=("wrong",))
    list(pipeline.run(job))
    shared = tmp_path / "shared"
    for spec in ("1/2", "2/2"):
        sources, shard = shard_of(job.sources, spec, 1)
        list(pipeline.run(replace(job, sources=sources, shard=shard, output=shared)))
    _, counts = merge([shared], shared)
    assert counts == {"images": 5, "left_out": 1, "ok": 4}
    assert manifest(shared) == manifest(tmp_path / "out")
    records = [record_in(folder) for folder in (tmp_path / "out", shared)]
    for record in records:
        del record["started"], record["seconds"]
    assert records[0] == records[1]


def test_an_image_left_out_can_be_sent() -> None:
    found = pickle.loads(pickle.dumps(LeftOut(Prediction(1, correct=True, top5=True))))  # noqa: S301 - made here
    assert isinstance(found, LeftOut)
    assert accuracy(found) == {"images": 1, "top1": 1, "top5": 1}


def test_a_class_map_names_what_is_true(tmp_path: Path, model: Model) -> None:
    """A label of one class has the name of that class in its rows."""
    file = tmp_path / "classes.txt"
    file.write_text("pet: 3\nbirds: 2, 6, 8\n")
    truth = write_csv(tmp_path, "class", dict.fromkeys(ANTS, "birds") | {"1.jpg": "pet"})
    for only in ("true=Pet", "true=dog", "true!=Birds"):
        job = job_on(tmp_path, model, truth, class_map=file, only=(only,))
        assert [*rows_of(replace(job, output=tmp_path / only))] == ["1.jpg"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("wrng", "--only 'wrng': expected wrong, right, unsure, confidence<P"),
        ("confidence<50%", "--only 'confidence<50%': expected"),
        ("confidence<2", "--only 'confidence<2': expected"),
        ("confidence=0.5", "--only 'confidence=0.5': expected"),
        ("predicted=", "--only 'predicted=': expected"),
        ("predicted=doge", "--only: unknown class 'doge': did you mean 'dog'"),
        ("wrong", "--only 'wrong' needs the true classes: expected --truth"),
        ("right", "--only 'right' needs the true classes: expected --truth"),
        ("true=dog", "--only 'true=dog' needs the true classes: expected --truth"),
    ],
)
def test_wrong_filters_are_one_line(spec: str, message: str) -> None:
    with pytest.raises(CamcliError) as raised:
        read_filters((spec,), nine_classes(), None)
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)


def test_filters_need_classes_and_names() -> None:
    model = nine_classes()
    with pytest.raises(CamcliError, match="--only is for classes, and custom gives values"):
        read_filters(("unsure",), replace(model, activation="none"), None)
    with pytest.raises(CamcliError, match="'predicted=dog': the model has no class names"):
        read_filters(("predicted=dog",), replace(model, class_names=None), None)
    with pytest.raises(CamcliError, match="unknown class 'doge'"):
        read_filters(("true=doge",), model, Truth("csv:a.csv", of_images={}))
