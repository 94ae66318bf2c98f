"""From paths to files: order, names, records, and what happens to images that cannot be done."""

from __future__ import annotations

import json
import os
import re
import socket
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

from camcli import Model, explain
from camcli.capture.windows import Window
from camcli.errors import CamcliWarning, MethodError, OutputError, TargetError
from camcli.images.find import Source, find
from camcli.images.geometry import Crop
from camcli.images.preprocess import Preset
from camcli.render.draw import Style, overlay
from camcli.runs import pipeline
from camcli.runs.files import write
from camcli.runs.job import Job
from camcli.runs.manifest import MANIFEST
from camcli.runs.manifest import manifest as written_manifest
from camcli.runs.names import Wanted, name_of
from camcli.runs.options import InputOptions
from tests.support.files import files, make_photo, manifest
from tests.support.jobs import changed
from tests.support.networks import OUT_OF_MEMORY, GapNet, LimitedMemory

NAMES = ("ant", "bee", "cat", "e:f", "e/f")


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """Seven photos in two folders, of two shapes, and a small network."""
    torch.manual_seed(0)
    folder = tmp_path / "in"
    for i in range(6):
        make_photo(folder / f"sub{i % 2}" / f"photo {i}.jpg", 60 + 10 * i, 50)
    make_photo(folder / "z.png", 40, 40)
    model = Model(GapNet(), preset=Preset(40, 32), class_names=NAMES, num_classes=5)
    return Job(
        sources=find([str(folder)]),
        model=model,
        methods=("gradcam++", "guided"),
        targets=("pred", "top2", "4"),
        output=tmp_path / "out",
        inputs=InputOptions(batch_size=3, workers=2),
    )


def test_files_and_rows(job: Job) -> None:
    yielded = list(pipeline.run(job))
    rows = manifest(job.output)
    assert [row for rows in yielded for row in rows] == rows
    assert len(rows) == 7 * 2 * 3
    order = [(r["image"], r["method"], r["target"]) for r in rows]
    assert order == [
        (source.name.as_posix(), method, target)
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


def test_maps_are_the_engines(job: Job) -> None:
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
    list(pipeline.run(replace(job, methods=("gradcam",), targets=("pred",))))
    row = manifest(job.output)[1]
    crop = Crop(*row["crop"])
    with Image.open(job.sources[1].path) as image:
        pixels = np.asarray(image)
    expected = overlay(pixels, np.load(job.output / row["map"]), crop, Style(), signed=False)
    with Image.open(job.output / row["overlay"]) as drawn:
        assert np.array_equal(np.asarray(drawn), expected)


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
    """One row and one map for each, the automatic layer's without a part of the name."""
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
        *("z.gradcam.top2.product.npy", "z.guided-backprop.top2.npy")
    ]
    assert rows[0]["map_shape"] == [32, 32]
    record = json.loads((job.output / "run.json").read_text())
    assert (record["layers"], record["fuse"]) == (["auto", "trunk"], "product")


def test_fusing_one_layer_stops_the_run(job: Job) -> None:
    with pytest.raises(MethodError, match="needs two layers or more"):
        next(pipeline.run(replace(job, fuse="mean")))
    assert not job.output.exists()


def damaged(job: Job) -> Job:
    """The job with a text file, an empty and a truncated one, and a missing one among the rest."""
    folder = job.sources[0].path.parent
    whole = job.sources[1].path.read_bytes()
    (folder / "a-text.jpg").write_text("no image")
    (folder / "b-empty.jpg").touch()
    (folder / "c-short.jpg").write_bytes(whole[: len(whole) // 2])
    return replace(job, sources=find([str(folder), str(folder / "missing.jpg")]))


def test_bad_images_fail_alone(job: Job, tmp_path: Path) -> None:
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


def test_an_input_the_network_cannot_take_fails_alone(job: Job) -> None:
    class Picky(GapNet):
        def forward(self, x: Tensor) -> Tensor:
            if x.shape[3] > 50:
                raise RuntimeError("too wide\nand more")
            return super().forward(x)

    model = replace(job.model, module=Picky())
    rows = [r for rows in pipeline.run(changed(job, model=model, fit="full")) for r in rows]
    failed = {row["image"] for row in rows if row["status"] == "error"}
    assert failed == {"sub0/photo 2.jpg", "sub0/photo 4.jpg"} | {
        f"sub1/photo {i}.jpg" for i in (1, 3, 5) if 32 * (60 + 10 * i) // 50 > 50
    } - {"sub0/photo 0.jpg"}
    assert all("too wide" in row["error"] for row in rows if row["status"] == "error")
    assert [r["image"] for r in rows[::6]] == [s.name.as_posix() for s in job.sources]


def test_maps_without_meaning_are_marked(job: Job) -> None:
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


def test_names_that_collide_stop_the_run(job: Job, tmp_path: Path) -> None:
    one, other = make_photo(tmp_path / "1" / "x.jpg"), make_photo(tmp_path / "2" / "x.png")
    with pytest.raises(OutputError, match=r"1/x.jpg' and '.*2/x.png' would write the same files"):
        next(pipeline.run(replace(job, sources=find([str(one), str(other)]))))
    with pytest.raises(OutputError, match=r"would write the same file '.*gradcam\.e_f\.npy'"):
        next(pipeline.run(replace(job, methods=("gradcam",), targets=("e/f", "e:f"))))
    assert not job.output.exists()


def test_a_run_that_is_refused_leaves_an_earlier_one(job: Job) -> None:
    list(pipeline.run(job))
    before, record = files(job.output), (job.output / "run.json").read_bytes()
    no_relu = changed(job, model=replace(job.model, module=GapNet(act=nn.SiLU)), overwrite=True)
    with pytest.raises(MethodError, match="needs ReLUs"):
        list(pipeline.run(no_relu))
    assert files(job.output) == before
    assert (job.output / "run.json").read_bytes() == record


def test_an_input_is_not_written_over(job: Job, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    other = make_photo(folder / "z.gradcam.png")
    sources = find([str(folder / "z.png"), str(other)])
    job = replace(job, sources=sources, methods=("gradcam",), targets=("pred",), output=folder)
    before = other.read_bytes()
    with pytest.raises(OutputError, match=r"z.gradcam.png' is an input and would be written over"):
        next(pipeline.run(job))
    assert other.read_bytes() == before


def test_a_score_that_is_not_finite_is_an_error(job: Job) -> None:
    nn.init.constant_(job.model.module.fc.bias, float("inf"))  # type: ignore[union-attr, arg-type]
    list(pipeline.run(job))
    assert {row["status"] for row in manifest(job.output)} == {"error"}


def test_two_runs_at_once_keep_their_manifests_apart(job: Job) -> None:
    """Of two machines, too, whose processes may have the same number."""
    folder = job.sources[0].path.parent
    with written_manifest(folder / MANIFEST) as add:
        add([{}])
        names = [p.name for p in folder.iterdir() if "manifest" in p.name]
    host = re.sub(r"[^A-Za-z0-9]", "_", socket.gethostname())
    assert names == [f".camcli-{os.getpid()}@{host}.manifest.jsonl"]


def test_wrong_targets_stop_the_run(job: Job) -> None:
    with pytest.raises(TargetError, match="unknown target 'cow'"):
        next(pipeline.run(replace(job, targets=("pred", "cow"))))
    assert not job.output.exists()


def test_outputs_stay_below_their_folder() -> None:
    name = name_of(Source(Path("x"), Path("a/x.jpg")), Wanted("cam", "../../etc/e\n"), "map")
    assert name == Path("a/x.cam..._.._etc_e_.npy")


def test_an_output_folder_that_cannot_be_written(job: Job, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"cannot write to '.*file/out': Not a directory"):
        next(pipeline.run(replace(job, output=tmp_path / "file" / "out")))


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "x.npy", b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OutputError, match=r"cannot write '.*x.npy': No space left on device"):
        write(tmp_path / "x.npy", b"new")
    assert files(tmp_path) == {"x.npy": b"old"}


def test_stopping_early_keeps_what_is_done(job: Job) -> None:
    run = pipeline.run(job)
    done = [next(run), next(run)]
    run.close()
    rows = manifest(job.output)
    assert rows[: 2 * len(done[0])] == [row for rows in done for row in rows]
    recorded = {row[what] for row in rows for what in ("map", "overlay")}
    assert set(files(job.output)) == recorded | {"manifest.jsonl"}
    assert (job.output / "run.json").is_file()
    assert not [thread for thread in threading.enumerate() if "ThreadPool" in thread.name]


def test_reading_stays_a_batch_ahead(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a consumer has seen one image, a bounded number of tasks was given to the threads."""
    tasks: list[object] = []

    class Counting(ThreadPoolExecutor):
        def submit(self, *task: Any, **named: Any) -> Future[Any]:
            tasks.append(task)
            return super().submit(*task, **named)

    monkeypatch.setattr(pipeline, "ThreadPoolExecutor", Counting)
    many = [replace(job.sources[0], name=Path(f"{i}.png")) for i in range(60)]
    job = replace(job, sources=many, methods=("gradcam",), targets=("pred",))
    with closing(pipeline.run(job)) as run:
        next(run)
        assert job.inputs.batch_size < len(tasks) <= 8 * job.inputs.batch_size


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_a_batch_that_memory_is_short_for_is_halved(
    error: Exception, job: Job, tmp_path: Path
) -> None:
    net = LimitedMemory(1, error)
    net.load_state_dict(job.model.module.state_dict())
    job = changed(job, batch_size=4)
    list(pipeline.run(job))
    short = replace(job, output=tmp_path / "short", model=replace(job.model, module=net))
    with pytest.warns(CamcliWarning) as said:
        list(pipeline.run(short))
    assert [str(one.message) for one in said if one.category is CamcliWarning] == [
        "out of memory with 4 images at once: going on with 2",
        "out of memory with 2 images at once: going on with 1",
    ]
    assert [size for size in net.sizes if size > 1] == [4, 2], "tried once, and not again"
    for row, alike in zip(manifest(short.output), manifest(job.output), strict=True):
        assert row["status"] == "ok"
        assert row["image"] == alike["image"]
        values, expected = (np.load(o.output / row["map"]) for o in (short, job))
        np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-6)


def test_windows_are_halved_too(job: Job) -> None:
    net = LimitedMemory(3, OUT_OF_MEMORY[0])
    net.load_state_dict(job.model.module.state_dict())
    job = replace(job, sources=job.sources[:1], methods=("occlusion",), targets=("pred",))
    job = changed(job, model=replace(job.model, module=net), window=Window(8, 4), batch_size=16)
    with pytest.warns(CamcliWarning, match="images at once"):
        assert [row["status"] for rows in pipeline.run(job) for row in rows] == ["ok"]
    assert net.sizes.count(2) > 3


def test_memory_too_short_for_one_image(job: Job) -> None:
    """An error of that image, in one line; a batch of one is no reason to make others smaller."""
    net = LimitedMemory(0, OUT_OF_MEMORY[0])
    job = changed(job, model=replace(job.model, module=net), batch_size=1)
    rows = [row for rows in pipeline.run(job) for row in rows]
    assert {row["status"] for row in rows} == {"error"}
    path = job.sources[0].path
    assert rows[0]["error"] == (
        f"{path}: custom failed (out of memory for one image of 32x32: "
        f"CUDA out of memory. Tried to allocate 2.00 GiB.)"
    )
