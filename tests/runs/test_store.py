"""Runs on remote stores read and write the same bytes as on local folders."""

from __future__ import annotations

import os
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from camcli.errors import CamcliWarning, OutputError
from camcli.images.find import find
from camcli.images.source import Source
from camcli.images.store import RemotePath
from camcli.runs import manifest, pipeline, recording, resume, save
from camcli.runs.files import DAY, path_inside, prepare
from camcli.runs.job import Job
from camcli.runs.merge import merge
from camcli.runs.shards import shard_of
from tests.support.command import TINY, Run
from tests.support.files import files, make_photo
from tests.support.jobs import changed, make_job
from tests.support.stores import stored, upload


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """Six photos in folders and a damaged one, in batches of three."""
    names = ("z.png", "a b.jpg", "sub/x.jpg", "sub/deep/y.jpg", "sub-1/w.jpg", "ü%20.jpg")
    photos = {name: (60 + i, 50) for i, name in enumerate(names)} | {"bad.jpg": None}
    return make_job(tmp_path, photos, saves=("map",), batch_size=3, workers=2)


def test_a_run_on_a_store_writes_the_same_bytes(
    job: Job, store: RemotePath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    list(pipeline.run(job))
    upload(tmp_path / "in", store / "in")
    remote = replace(job, sources=find([str(store / "in")]), output=store / "out")
    list(pipeline.run(remote))
    local = files(tmp_path / "out")
    local["manifest.jsonl"] = local["manifest.jsonl"].replace(
        str(tmp_path / "in").encode(), str(store / "in").encode()
    )
    assert stored(store / "out") == local
    (store / "out" / "z.gradcam.npy").unlink()
    written = []
    write = save.write
    for module in (save, recording):
        monkeypatch.setattr(
            module, "write", lambda file, *more: written.append(file.name) or write(file, *more)
        )
    list(pipeline.run(changed(remote, skip_existing=True)))
    assert written == ["z.gradcam.npy", "run.json"]
    assert stored(store / "out") == local


@pytest.mark.parametrize("local", [True, False])
def test_stopped_runs_are_resumed_and_shards_merge(
    job: Job, local: bool, store: RemotePath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next run reads the parts of a journal, and a finished run removes them."""
    monkeypatch.setattr(manifest, "JOURNAL_SECONDS", 0.0)
    list(pipeline.run(job))
    output = RemotePath("file://", str(tmp_path / "store")[1:]) if local else store
    run = pipeline.run(replace(job, output=output))
    next(run), next(run)
    assert len([*(output / ".camcli").glob("*-00000[01].manifest.jsonl")]) == 2
    kept = stored(output, unfinished=False)  # a writer may be in the middle of a file
    kept = {name: data for name, data in kept.items() if not name.endswith(".running")}
    run.close()
    (output / "manifest.jsonl").unlink()
    for name, data in kept.items():  # the state that a killed run leaves
        (output / name).write_bytes(data)
    assert len([*resume.parsed(resume.lines(output))]) == 2
    list(pipeline.run(changed(job, output=output, skip_existing=True)))
    assert stored(output) == files(tmp_path / "out")
    for number in (1, 2):
        sources, shard = shard_of(job.sources, f"{number}/2", job.inputs.batch_size)
        part = replace(job, sources=sources, shard=shard, output=output / "shared")
        list(pipeline.run(part))
    merge([output / "shared"], output / "shared")
    whole = (output / "shared" / "manifest.jsonl").read_bytes()
    assert whole == (tmp_path / "out" / "manifest.jsonl").read_bytes()


def test_outputs_on_stores_that_are_refused(job: Job, store: RemotePath, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="lie outside of its folder"):
        path_inside(store, "../x")
    (tmp_path / "file").touch()
    below = RemotePath("file://", str(tmp_path / "file" / "out")[1:])
    with pytest.raises(OutputError, match=r"cannot write to 'file://.*/file/out': Not a directory"):
        prepare(below)
    over = replace(job, sources=[Source(store / "x.gradcam.npy", Path("x.npy"))], output=store)
    with pytest.raises(OutputError, match="is an input and would be written over"):
        list(pipeline.run(over))


def test_the_command_takes_urls(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="stores need the extra camcli[ray]")
    photo = make_photo(tmp_path / "in" / "a.jpg")
    url = f"file://{tmp_path}"
    found = run("explain", f"{url}/in", *TINY, "--output", f"{url}/out")
    assert found.exit_code == 0, found.stderr_bytes
    assert f"{url}/out/a.gradcam.png".encode() in found.stdout_bytes
    assert run("explain", photo, *TINY, "--output", tmp_path / "local").exit_code == 0
    assert files(tmp_path / "out") == files(tmp_path / "local")
    assert not [name for name in os.listdir(tmp_path / "out") if name.endswith(".tmp")]


@pytest.mark.parametrize(("process", "age"), [("7@elsewhere", 0), ("7@elsewhere", 2 * DAY)])
def test_another_run_on_a_store_is_told(
    process: str, age: int, job: Job, store: RemotePath
) -> None:
    """A mark of more than a day belongs to a run that was killed."""
    mark = store / ".camcli" / f".camcli-{process}.manifest.jsonl.running"
    mark.write_bytes(str(time.time() - age).encode())
    told = pytest.warns(CamcliWarning, match="process 7 on elsewhere may be writing to")
    with nullcontext() if age else told:
        list(pipeline.run(replace(job, output=store)))
    left = [file.name for file in (store / ".camcli").glob("*.running")]
    assert left == ([] if age else [mark.name])
