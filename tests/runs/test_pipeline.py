"""From paths to files: order, rows, records, and images that fail."""

from __future__ import annotations

import json
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, pad

from camcli import explain
from camcli.errors import CamcliWarning, MethodError
from camcli.images.find import find
from camcli.images.geometry import Centres, Placement
from camcli.images.source import Source
from camcli.render.draw import overlay
from camcli.render.style import Style
from camcli.runs import pipeline
from camcli.runs.job import Job
from tests.support.files import by_name, files, manifest
from tests.support.jobs import changed, make_job, with_network
from tests.support.networks import GapNet

NAMES = ("ant", "bee", "cat", "e:f", "e/f")


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """Seven photos in two folders, of two shapes, and a small network."""
    photos = {f"sub{i % 2}/photo {i}.jpg": (60 + 10 * i, 50) for i in range(6)}
    options: dict[str, Any] = {"methods": ("gradcam++", "guided"), "targets": ("pred", "top2", "4")}
    job = make_job(tmp_path, photos | {"z.png": (40, 40)}, **options, batch_size=3, workers=2)
    return replace(job, model=replace(job.model, class_names=NAMES))


def test_files_and_rows(job: Job) -> None:
    yielded = list(pipeline.run(job))
    rows = manifest(job.output)
    in_order = [row for rows in yielded for row in rows]
    assert rows == by_name(in_order) != in_order
    assert len(rows) == 7 * 2 * 3
    order = [(r["image"], r["method"], r["target"]) for r in in_order]
    assert order == [
        (source.image, method, target)
        for source in job.sources
        for method in job.methods
        for target in job.targets
    ]
    assert order[0][0] == "z.png", "a folder's own files come before its subfolders'"
    for row in rows:
        part = "" if row["target"] == "pred" else f".{row['target']}"
        stem = row["image"].rpartition(".")[0]
        assert row["map"] == f"{stem}.{row['method']}{part}.npy"
        assert row["overlay"] == f"{stem}.{row['method']}{part}.png"
        values = np.load(job.output / row["map"])
        assert values.dtype == np.float32
        assert row["map_shape"] == list(values.shape)
        assert (row["map_min"], row["map_max"]) == (values.min(), values.max())
        assert row["status"] in ("ok", "empty")
        assert row["class_name"] == NAMES[row["class_index"]]
    written = {row[what] for row in rows for what in ("map", "overlay")}
    assert set(files(job.output)) == written | {"manifest.jsonl"}
    assert (job.output / "run.json").is_file()


def test_maps_are_those_of_explain(job: Job) -> None:
    list(pipeline.run(job))
    for row in manifest(job.output):
        path = job.sources[0].path.parent / row["image"]
        target = int(row["target"]) if row["target"].isdigit() else row["target"]
        shown = explain(job.model, path, row["method"], target)
        values = np.load(job.output / row["map"])
        np.testing.assert_allclose(values, shown.maps[0].numpy(), rtol=1e-4, atol=1e-6)
        assert row["score"] == pytest.approx(shown.scores.item(), rel=1e-5)
        assert shown.probabilities is not None
        assert row["probability"] == pytest.approx(shown.probabilities.item(), rel=1e-5)
        with Image.open(path) as image, Image.open(job.output / row["overlay"]) as drawn:
            assert drawn.size == image.size


def test_the_overlay_is_the_map_on_its_crop(job: Job) -> None:
    _, (row,), *_ = pipeline.run(replace(job, methods=("gradcam",), targets=("pred",)))
    crop = Placement(*row["crop"], cells=Centres(*row["cells"]))
    with Image.open(job.sources[1].path) as image:
        pixels = np.asarray(image)
    expected = overlay(pixels, np.load(job.output / row["map"]), crop, Style(), signed=False)
    with Image.open(job.output / row["overlay"]) as drawn:
        assert np.array_equal(np.asarray(drawn), expected)


class Apart(GapNet):
    """A network whose cells see the sum of two places."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + avg_pool2d(pad(x, (4, 0, 4, 0)), 5, 1))


def test_rows_tell_where_the_cells_are(job: Job) -> None:
    """Two convolutions of 3x3 and stride 2: the first cell is centred at 3.5, the next at 7.5."""
    one = replace(job, sources=job.sources[1:2], methods=("gradcam", "guided"), targets=("pred",))
    list(pipeline.run(one))
    of_map, of_image = manifest(one.output)
    assert of_map["crop"] == of_image["crop"] == [10, 5, 50, 45], "1.25 pixels for one of the input"
    assert of_map["placement"] == of_image["placement"] == "centres"
    assert of_map["cells"] == [10 + 1.25 * 3.5, 5 + 1.25 * 3.5, 5, 5]
    assert of_image["cells"] == [10 + 0.625, 5 + 0.625, 1.25, 1.25]
    other = changed(with_network(one, Apart()), layers=("last",), overwrite=True)
    with pytest.warns(CamcliWarning, match="layer 'last': the places of its cells .* not known"):
        list(pipeline.run(other))
    of_map, of_image = manifest(one.output)
    assert (of_map["placement"], of_image["placement"]) == ("equal-parts", "centres")
    assert of_map["cells"] == pytest.approx([10 + 20 / 7, 5 + 20 / 7, 40 / 7, 40 / 7])


@pytest.mark.parametrize("change", [{"workers": 1}, {"workers": 7}, {}])
def test_runs_repeat_to_the_byte(job: Job, change: dict[str, int], tmp_path: Path) -> None:
    list(pipeline.run(job))
    list(pipeline.run(changed(job, output=tmp_path / "again", **change)))
    assert files(job.output) == files(tmp_path / "again")


def test_run_record(job: Job) -> None:
    list(pipeline.run(job))
    record = json.loads((job.output / "run.json").read_text())
    assert record["methods"] == ["gradcam++", "guided"]
    assert record["counts"]["images"] == 7
    assert record["versions"]["torch"].startswith(torch.__version__.split("+")[0])
    assert record["seconds"] > 0


def test_several_layers(job: Job) -> None:
    """Each layer has a row and a map; the automatic layer is not named in the file's name."""
    methods = ("gradcam", "guided-backprop")
    job = replace(damaged(job), methods=methods, targets=("pred", "top2"), layers=(None, "trunk.0"))
    list(pipeline.run(job))
    rows = manifest(job.output)
    assert len(rows) == len(job.sources) * (2 * 2 + 2)
    good = [row for row in rows if row["status"] != "error"]
    for row in good:
        target = "" if row["target"] == "pred" else f".{row['target']}"
        layer = ".trunk.0" if row["layer"] == "trunk.0" else ""
        stem = row["image"].rpartition(".")[0]
        assert row["map"] == f"{stem}.{row['method']}{target}{layer}.npy"
    assert [row["layer"] for row in good[:6]] == ["last", "trunk.0"] * 2 + [None] * 2
    assert len({row["map"] for row in good}) == len(good)
    keys = [(row["image"], row["method"], row["target"], row["layer"]) for row in rows]
    assert len(set(keys)) == len(keys)
    trunk = np.load(job.output / next(r["map"] for r in good if r["layer"] == "trunk.0"))
    assert trunk.shape == (15, 15)


def test_fused_layers(job: Job) -> None:
    job = replace(job, methods=("gradcam", "guided-backprop"), targets=("top2",))
    list(pipeline.run(replace(job, layers=(None, "trunk"), fuse="product")))
    rows = manifest(job.output)
    assert [row["layer"] for row in rows[:2]] == ["product(last, trunk)", None]
    assert [row["map"] for row in rows[:2]] == [
        *("sub0/photo 0.gradcam.top2.product.npy", "sub0/photo 0.guided-backprop.top2.npy")
    ]
    assert rows[0]["map_shape"] == [32, 32]
    record = json.loads((job.output / "run.json").read_text())
    assert (record["layers"], record["fuse"]) == (["auto", "trunk"], "product")


def damaged(job: Job) -> Job:
    """Return the job with a text file, an empty, a truncated and a missing one in addition."""
    folder = job.sources[0].path.parent
    whole = job.sources[1].path.read_bytes()
    (folder / "a-text.jpg").write_text("no image")
    (folder / "b-empty.jpg").touch()
    (folder / "c-short.jpg").write_bytes(whole[: len(whole) // 2])
    return replace(job, sources=find([str(folder), str(folder / "missing.jpg")]))


def test_damaged_images_do_not_affect_others(job: Job, tmp_path: Path) -> None:
    list(pipeline.run(job))
    list(pipeline.run(replace(damaged(job), output=tmp_path / "again")))
    good, all_rows = manifest(job.output), manifest(tmp_path / "again")
    bad = [row for row in all_rows if row["status"] == "error"]
    assert {row["image"] for row in bad} == {
        *("a-text.jpg", "b-empty.jpg", "c-short.jpg", "missing.jpg")
    }
    assert len(bad) == 4 * 6, "one row for each method and target"
    for row in bad:
        assert row["image"] in row["error"]
        assert row["map"] is row["overlay"] is row["score"] is None
        assert list(row) == list(good[0])
    assert [r["image"] for r in all_rows if r["status"] != "error"] == [r["image"] for r in good]


def test_an_image_that_the_network_refuses_does_not_affect_others(job: Job) -> None:
    class NarrowOnly(GapNet):
        def forward(self, x: Tensor) -> Tensor:
            if x.shape[3] > 50:
                raise RuntimeError("too wide\nand more")
            return super().forward(x)

    run = pipeline.run(changed(with_network(job, NarrowOnly()), fit="full"))
    rows = [row for rows in run for row in rows]
    failed = {row["image"] for row in rows if row["status"] == "error"}
    wide = {f"sub{i % 2}/photo {i}.jpg" for i in range(2, 6)}
    assert failed == wide
    assert all("too wide" in row["error"] for row in rows if row["status"] == "error")
    assert [r["image"] for r in rows[::6]] == [s.name.as_posix() for s in job.sources]


def test_empty_maps_and_nan_are_marked(job: Job) -> None:
    nn.init.zeros_(job.model.module.fc.weight)  # type: ignore[union-attr, arg-type]
    job = replace(job, methods=("gradcam",), targets=("pred",))
    list(pipeline.run(job))
    assert {row["status"] for row in manifest(job.output)} == {"empty"}
    job = changed(job, overwrite=True)
    nn.init.constant_(job.model.module.fc.weight, float("nan"))  # type: ignore[union-attr, arg-type]
    list(pipeline.run(job))
    for row in manifest(job.output):
        assert row["status"] == "error"
        assert "NaN or infinity" in row["error"]
        assert row["map"] is row["overlay"] is None


def test_a_refused_run_keeps_earlier_results(job: Job) -> None:
    list(pipeline.run(job))
    before, record = files(job.output), (job.output / "run.json").read_bytes()
    no_relu = changed(with_network(job, GapNet(act=nn.SiLU)), overwrite=True)
    with pytest.raises(MethodError, match="needs ReLUs"):
        list(pipeline.run(no_relu))
    assert files(job.output) == before
    assert (job.output / "run.json").read_bytes() == record


def test_a_score_that_is_not_finite_is_an_error(job: Job) -> None:
    nn.init.constant_(job.model.module.fc.bias, float("inf"))  # type: ignore[union-attr, arg-type]
    list(pipeline.run(job))
    assert {row["status"] for row in manifest(job.output)} == {"error"}


def test_a_run_stopped_early_keeps_its_results(job: Job) -> None:
    run = pipeline.run(job)
    done = [next(run), next(run)]
    run.close()
    rows = manifest(job.output)
    assert all(row in rows for of_image in done for row in of_image)
    assert rows == by_name(rows)
    recorded = {row[what] for row in rows for what in ("map", "overlay")}
    assert set(files(job.output)) == recorded | {"manifest.jsonl"}
    assert (job.output / "run.json").is_file()
    assert not [thread for thread in threading.enumerate() if "ThreadPool" in thread.name]


def test_reading_is_a_bounded_number_of_images_ahead(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks: list[object] = []

    class Counting(ThreadPoolExecutor):
        def submit(self, *task: Any, **named: Any) -> Future[Any]:
            tasks.append(task)
            return super().submit(*task, **named)

    monkeypatch.setattr(pipeline, "ThreadPoolExecutor", Counting)
    many = [Source(job.sources[0].path, f"{i}.png") for i in range(60)]
    job = replace(job, sources=many, methods=("gradcam",), targets=("pred",))
    with closing(pipeline.run(job)) as run:
        next(run)
        assert job.inputs.batch_size < len(tasks) <= 8 * job.inputs.batch_size
