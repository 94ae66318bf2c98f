"""Resumed runs: which results are kept or made again, and folders of other runs."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from camcli import Model
from camcli.capture.windows import Window
from camcli.errors import CamcliWarning, OutputError
from camcli.images.preprocess import Preset
from camcli.render.style import Style
from camcli.runs import job as jobs
from camcli.runs import pipeline, resume, save, worker
from camcli.runs.job import Job
from tests.support.command import TINY, Run
from tests.support.files import files, make_photo, manifest
from tests.support.jobs import changed, make_job
from tests.support.networks import GapNet
from tests.support.waiting import wait_until

DEAD = 2**22 + 1
"""Above Linux's largest process id."""


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """Eight photos of two shapes, one of them damaged, in batches of three."""
    photos = {f"{i}.jpg": (60 + 15 * (i % 2), 50) for i in range(8)} | {"4.jpg": None}
    options: dict[str, Any] = {"methods": ("gradcam++", "guided"), "targets": ("pred", "2")}
    return make_job(tmp_path, photos, **options, fit="full", batch_size=3, workers=2)


def made(job: Job, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Run a job and return the names, without endings, of the files that it wrote."""
    written: list[str] = []
    write = save.write

    def counting(file: Path, data: bytes, owner: str | None = None) -> None:
        written.append(file.name)
        write(file, data, owner)

    monkeypatch.setattr(save, "write", counting)
    list(pipeline.run(job))
    monkeypatch.undo()
    return sorted({name.partition(".")[0] for name in written} - {"run"})


def test_existing_results_are_kept(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    list(pipeline.run(job))
    before = files(job.output)
    again = changed(job, skip_existing=True)
    assert made(again, monkeypatch) == []
    assert files(job.output) == before
    (job.output / "1.guided.npy").unlink()
    (job.output / "6.gradcam++.2.png").unlink()
    assert made(again, monkeypatch) == ["1", "6"]
    assert files(job.output) == before
    job.sources[7].path.write_bytes(job.sources[0].path.read_bytes())
    with pytest.warns(CamcliWarning, match=r"1 images have new results, .* changed: 7\.jpg$"):
        assert made(again, monkeypatch) == ["7"]
    assert made(replace(again, methods=("gradcam++", "guided", "cam")), monkeypatch) == [
        *"0123567"
    ], "a method was added"


@pytest.mark.parametrize("saves", [("heatmap",), ("panel",), ("boxes",), ("panel", "boxes")])
def test_results_without_a_map_are_kept_and_replaced(
    saves: tuple[str, ...], job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = replace(job, methods=("gradcam",), saves=saves)
    list(pipeline.run(job))
    before = files(job.output)
    fields = ["boxes_overlay" if what == "boxes" else what for what in saves]
    rows = [row for row in manifest(job.output) if row["status"] != "error"]
    assert {row[field] for row in rows for field in fields} == before.keys() - {"manifest.jsonl"}
    assert all(row["map"] is row["overlay"] is None for row in rows)
    again = changed(job, skip_existing=True)
    assert made(again, monkeypatch) == []
    (job.output / rows[0][fields[-1]]).unlink()
    assert made(again, monkeypatch) == ["0"]
    assert files(job.output) == before
    list(pipeline.run(changed(job, fit="squash", saves=("map",), overwrite=True)))
    assert {Path(name).suffix for name in files(job.output)} == {".npy", ".jsonl"}


def test_a_file_that_no_row_names_is_made_again(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may show an earlier image of the same name."""
    job = replace(job, methods=("gradcam",), targets=("pred",))
    list(pipeline.run(replace(job, saves=("panel",))))
    stale = (job.output / "3.gradcam.panel.png").read_bytes()
    make_photo(job.sources[3].path, 30, 60)
    with pytest.warns(CamcliWarning, match=r"1 images have new results"):
        list(pipeline.run(job))
    assert made(changed(job, saves=("panel",), skip_existing=True), monkeypatch) == ["3"]
    assert (job.output / "3.gradcam.panel.png").read_bytes() != stale


def test_a_failed_image_is_tried_again(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    list(pipeline.run(job))
    make_photo(job.sources[4].path)
    assert made(changed(job, skip_existing=True), monkeypatch) == ["4"]
    assert not [row for row in manifest(job.output) if row["status"] == "error"]


def other_weights(job: Job) -> Job:
    module = GapNet()
    module.load_state_dict(job.model.module.state_dict())
    nn.init.ones_(module.fc.bias)
    return replace(job, model=replace(job.model, module=module))


@pytest.mark.parametrize(
    "change",
    [
        lambda job: replace(job, layers=("trunk",)),
        lambda job: changed(job, fit="squash"),
        lambda job: replace(job, style=Style("jet")),
        lambda job: replace(job, style=Style(alpha=0.4)),
        lambda job: replace(job, style=Style(blend="even")),
        lambda job: replace(job, window=Window(8)),
        lambda job: replace(job, model=replace(job.model, name="other")),
        lambda job: replace(job, model=replace(job.model, class_names=("a", "b", "c", "d", "e"))),
        lambda job: replace(job, model=replace(job.model, preset=Preset(40, 32, (0.4,) * 3))),
        other_weights,
    ],
)
def test_a_folder_of_another_run_is_refused_until_overwritten(
    change: Callable[[Job], Job], job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    list(pipeline.run(replace(job, saves=("map", "panel"))))
    (job.output / "notes.txt").touch()
    before, other = files(job.output), replace(change(job), methods=("gradcam",))
    for skip in (False, True):
        with pytest.raises(OutputError, match=r"holds results of another run \(custom, given, lay"):
            next(pipeline.run(changed(other, skip_existing=skip)))
    assert files(job.output) == before
    list(pipeline.run(replace(other, output=tmp_path / "fresh")))
    assert made(changed(other, overwrite=True, skip_existing=True), monkeypatch) == [*"0123567"]
    assert files(job.output) == files(tmp_path / "fresh") | {"notes.txt": b""}


def test_a_folder_from_before_blends_goes_on_with_even_ones(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pictures are those of an even blend, which no record named."""
    even = replace(job, style=Style(blend="even"))
    with monkeypatch.context() as before:
        before.setattr(resume, "LATER", {})
        list(pipeline.run(even))
    record = json.loads((job.output / "run.json").read_bytes())
    del record["blend"]
    (job.output / "run.json").write_text(json.dumps(record))
    with pytest.raises(OutputError, match="blend even, here heat"):
        next(pipeline.run(changed(job, skip_existing=True)))
    assert made(changed(even, skip_existing=True), monkeypatch) == []


def test_other_methods_batches_and_workers_may_share_a_folder(job: Job) -> None:
    list(pipeline.run(job))
    list(pipeline.run(changed(job, methods=("cam",), batch_size=1, workers=1, saves=("map",))))
    assert (job.output / "0.guided.npy").exists()


def test_results_of_another_version_are_made_again(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    list(pipeline.run(job))
    monkeypatch.setattr(jobs, "__version__", "99")
    with pytest.warns(CamcliWarning, match=r"7 images have new results, .*: 0\.jpg, .*, \.\.\.$"):
        list(pipeline.run(changed(job, skip_existing=True, output=job.output)))
    first = manifest(job.output)[0]["digest"]
    monkeypatch.undo()
    with pytest.warns(CamcliWarning, match=r"7 images have new results"):
        list(pipeline.run(replace(job)))
    assert first.partition("-")[0] == manifest(job.output)[0]["digest"].partition("-")[0]
    assert first != manifest(job.output)[0]["digest"]


@pytest.mark.parametrize("seed", range(12))
def test_a_killed_run_is_finished_to_the_same_bytes(job: Job, seed: int) -> None:
    """The journal is cut at a random byte, files are missing and temporary files are left."""
    list(pipeline.run(job))
    whole, chance = files(job.output), random.Random(seed)
    text = whole["manifest.jsonl"]
    (job.output / "manifest.jsonl").unlink()
    (job.output / "run.json").unlink()
    cut = chance.randrange(len(text))
    (job.output / f".camcli-{DEAD}.manifest.jsonl").write_bytes(text[:cut])
    (job.output / f".camcli-{DEAD}-1.tmp").write_bytes(b"unfinished")
    (job.output / f".camcli-{os.getpid()}-1.tmp").write_bytes(b"of a running process")
    for name in chance.sample(sorted(whole), chance.randrange(4)):
        (job.output / name).unlink(missing_ok=True)
    list(pipeline.run(changed(job, skip_existing=True, workers=chance.randint(1, 3))))
    (job.output / f".camcli-{os.getpid()}-1.tmp").unlink()
    assert files(job.output) == whole


@pytest.mark.parametrize("images", [0, 1, 4])
def test_a_resumed_run_that_is_stopped_loses_no_rows(job: Job, images: int) -> None:
    list(pipeline.run(job))
    whole = files(job.output)
    (job.output / "0.guided.npy").unlink()
    (job.output / "6.guided.npy").unlink()
    run = pipeline.run(changed(job, skip_existing=True))
    for _ in range(images):
        next(run)
    run.close()
    if images:
        known = {row["image"] for row in manifest(job.output)}
        assert known >= {"1.jpg", "2.jpg", "3.jpg", "5.jpg", "7.jpg"}
    list(pipeline.run(changed(job, skip_existing=True)))
    assert files(job.output) == whole


def test_a_manifest_cannot_name_files_outside_its_folder(job: Job, tmp_path: Path) -> None:
    list(pipeline.run(job))
    (tmp_path / "precious.npy").touch()
    row = manifest(job.output)[0] | {"map": "../precious.npy", "digest": "other-"}
    (job.output / "manifest.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(OutputError, match="outside of its folder"):
        list(pipeline.run(changed(job, overwrite=True)))
    assert (tmp_path / "precious.npy").exists()


def test_old_manifests_without_digests_are_replaced(job: Job) -> None:
    list(pipeline.run(job))
    rows = [{k: v for k, v in row.items() if k != "digest"} for row in manifest(job.output)]
    lines = "".join(json.dumps(row) + "\n" for row in rows) + "{cut sho"
    (job.output / "manifest.jsonl").write_text(lines)
    assert len([*resume.parsed(resume.lines(job.output))]) == len(rows)
    list(pipeline.run(changed(job, skip_existing=True)))
    assert all(row["digest"] for row in manifest(job.output))


def test_lines_that_hold_no_row_are_told(job: Job) -> None:
    list(pipeline.run(job))
    whole = files(job.output)
    with (job.output / "manifest.jsonl").open("a") as stream:
        stream.write('{"image": 3}\n[1]\n{"image": "cut')
    with pytest.warns(CamcliWarning, match=r"hold no row are left out: 2 \(such as: "):
        list(pipeline.run(changed(job, skip_existing=True)))
    assert files(job.output) == whole


def test_a_resumed_run_has_the_batches_of_a_whole_run(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last digits of a real network's results depend on the batch size."""
    seen: list[list[float]] = []
    explain = worker.explain

    def recorded(model: Model, inputs: torch.Tensor, *more: object, **options: object) -> object:
        seen.append(inputs.sum((1, 2, 3)).tolist())
        return explain(model, inputs, *more, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(worker, "explain", recorded)
    make_photo(job.sources[4].path, 60, 50)
    list(pipeline.run(job))
    first, seen[:] = list(seen), []
    (job.output / "2.guided.npy").unlink()
    (job.output / "7.guided.npy").unlink()
    list(pipeline.run(changed(job, skip_existing=True)))
    assert [len(batch) for batch in first] == [2, 1, 2, 1, 1, 1], "by window, then by shape"
    assert seen == first[:2] + first[4:], "the second window is done"


def has_written(process: subprocess.Popen[bytes], folder: Path, count: int) -> bool:
    """Return whether a run has written `count` maps or has ended."""
    return process.poll() is not None or len(list(folder.glob("*.npy"))) >= count


def test_a_killed_process_is_finished_to_the_same_bytes(tmp_path: Path, run: Run) -> None:
    """SIGKILL stops a run and then the run that resumes it, each at a random moment."""
    for i in range(16):
        make_photo(tmp_path / "in" / f"{i:02}.jpg", 300 + i % 3, 250)
    arguments = ["explain", str(tmp_path / "in"), *TINY]
    arguments += ["--batch-size", "4", "--skip-existing", "--output"]
    assert run(*arguments, tmp_path / "whole").exit_code == 0
    killed, chance = tmp_path / "killed", random.Random()
    for until in (chance.randint(1, 9), chance.randint(10, 14)):
        command = [sys.executable, "-m", "camcli", *arguments, str(killed)]
        quiet = subprocess.DEVNULL
        with subprocess.Popen(command, stdout=quiet, stderr=quiet) as process:
            wait_until(partial(has_written, process, killed, until))
            process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "killed before it ended"
        for file in killed.glob("*.npy"):
            assert np.load(file).size
    assert run(*arguments, killed).exit_code == 0
    found, expected = files(killed), files(tmp_path / "whole")
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []
