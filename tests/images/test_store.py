"""Stores: what is read from and written to one is what a local folder would give."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import Result

from camcli import Model
from camcli.errors import CamcliError, ImageError, OutputError
from camcli.images import store as stores
from camcli.images.decode import decode
from camcli.images.find import Source, find
from camcli.images.preprocess import Preset
from camcli.images.store import RemotePath, parse_path
from camcli.runs import manifest, pipeline, save
from camcli.runs.files import prepare, within
from camcli.runs.job import Job
from camcli.runs.merge import merged
from camcli.runs.shards import shard_of
from tests.runs.test_resume import files
from tests.support.files import make_photo
from tests.support.networks import GapNet

pytest.importorskip("pyarrow", reason="stores need the extra camcli[ray]")
fsspec = pytest.importorskip("fsspec", reason="a store in memory needs fsspec")


@pytest.fixture
def store() -> Iterator[RemotePath]:
    """A store in this process's memory."""
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    yield RemotePath("fsspec+memory://", "bucket")
    memory.store.clear()


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """Six photos in folders, a damaged one, hidden ones, and what is no image."""
    torch.manual_seed(0)
    names = ("z.png", "a b.jpg", "sub/x.jpg", "sub/deep/y.jpg", "sub-1/w.jpg", "ü%20.jpg")
    for i, name in enumerate((*names, ".hidden.jpg", ".cache/h.jpg")):
        make_photo(tmp_path / "in" / name, 60 + i, 50)
    (tmp_path / "in" / "bad.jpg").write_text("no image")
    (tmp_path / "in" / "notes.txt").touch()
    return Job(
        sources=find([str(tmp_path / "in")]),
        model=Model(GapNet(), preset=Preset(40, 32), num_classes=5),
        methods=("gradcam",),
        targets=("pred",),
        output=tmp_path / "out",
        saves=("map",),
        batch_size=3,
        workers=2,
    )


def stored(folder: RemotePath, *, unfinished: bool = True) -> dict[str, bytes]:
    """All but run.json, as `files` gives a local folder's; with files that are not whole yet."""
    found = {file.key[len(folder.key) + 1 :]: file for file in folder.files(recursive=True)}
    found = {name: file for name, file in found.items() if unfinished or ".tmp" not in name}
    return {name: found[name].read_bytes() for name in sorted(found) if name != "run.json"}


def upload(folder: Path, store: RemotePath) -> None:
    for file in folder.rglob("*"):
        if file.is_file():
            (store / file.relative_to(folder)).write_bytes(file.read_bytes())


@pytest.mark.parametrize(
    ("url", "root", "key", "shown"),
    [
        ("s3://bucket/a/b c.jpg", "s3://bucket", "a/b c.jpg", "s3://bucket/a/b c.jpg"),
        ("s3://b/a?region=x/y", "s3://b?region=x/y", "a", "s3://b/a"),
        ("s3://key:secret@b/a", "s3://key:secret@b", "a", "s3://b/a"),
        ("gs://bucket", "gs://bucket", "", "gs://bucket/"),
        ("file:///tmp/x", "file://", "tmp/x", "file:///tmp/x"),
    ],
)
def test_urls(url: str, root: str, key: str, shown: str) -> None:
    found = parse_path(url)
    assert found == RemotePath(root, key)
    assert str(found) == shown
    assert parse_path("a/b:c") == Path("a/b:c")


def test_a_folder_is_walked_as_a_local_one(job: Job, store: RemotePath, tmp_path: Path) -> None:
    upload(tmp_path / "in", store)
    found = find([str(store)])
    assert [source.name for source in found] == [source.name for source in job.sources]
    flat = find([str(store)], recursive=False)
    assert [source.name.as_posix() for source in flat] == [
        *("a b.jpg", "bad.jpg", "z.png", "ü%20.jpg")
    ]
    one = find([str(store / "sub" / "x.jpg"), str(tmp_path / "in" / "z.png"), str(store / "none")])
    assert [source.name.as_posix() for source in one] == ["x.jpg", "z.png", "none"]
    (store / "sub" / "manifest.jsonl").write_bytes(b"")
    assert len(find([str(store)])) == len(job.sources)
    (store / "sub" / "run.json").write_bytes(b"")
    assert [s.name.as_posix() for s in find([str(store)])][-1] == "sub-1/w.jpg"
    assert len(find([str(store)], skip=store / "sub-1")) == 4
    with pytest.raises(CamcliError, match="is an output folder"):
        find([str(store / "sub")])
    with pytest.raises(CamcliError, match="is an output folder"):
        find([str(store)], skip=store)


def test_a_run_on_a_store_gives_the_same_bytes(
    job: Job, store: RemotePath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    list(pipeline.run(job))
    upload(tmp_path / "in", store / "in")
    there = replace(job, sources=find([str(store / "in")]), output=store / "out")
    list(pipeline.run(there))
    local = files(tmp_path / "out")
    local["manifest.jsonl"] = local["manifest.jsonl"].replace(
        str(tmp_path / "in").encode(), str(store / "in").encode()
    )
    assert stored(store / "out") == local
    (store / "out" / "z.gradcam.npy").unlink()
    written = []
    write = save.write
    for module in (save, pipeline):
        monkeypatch.setattr(
            module, "write", lambda file, *more: written.append(file.name) or write(file, *more)
        )
    list(pipeline.run(replace(there, skip_existing=True)))
    assert written == ["z.gradcam.npy", "run.json"]
    assert stored(store / "out") == local


@pytest.mark.parametrize("local", [True, False])
def test_stopped_runs_and_shards(
    job: Job, local: bool, store: RemotePath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts of a journal are there for the next run, and gone when one is done."""
    monkeypatch.setattr(manifest, "JOURNAL_SECONDS", 0.0)
    list(pipeline.run(job))
    output = RemotePath("file://", str(tmp_path / "store")[1:]) if local else store
    run = pipeline.run(replace(job, output=output))
    next(run), next(run)
    assert len([*(output / ".camcli").glob("*-00000[01].manifest.jsonl")]) == 2
    lost = stored(output, unfinished=False)  # a writer may be in the midst of a file
    run.close()
    (output / "manifest.jsonl").unlink()
    for name, data in lost.items():  # as if it had been killed
        (output / name).write_bytes(data)
    assert len([*replace(job, output=output).earlier()]) == 2
    list(pipeline.run(replace(job, output=output, skip_existing=True)))
    assert stored(output) == files(tmp_path / "out")
    for number in (1, 2):
        sources, shard = shard_of(job.sources, f"{number}/2", job.batch_size)
        part = replace(job, sources=sources, shard=shard, output=output / "shared")
        list(pipeline.run(part))
    merged([output / "shared"], output / "shared")
    whole = (output / "shared" / "manifest.jsonl").read_bytes()
    assert whole == (tmp_path / "out" / "manifest.jsonl").read_bytes()


def test_what_stores_refuse_is_one_line(
    job: Job, store: RemotePath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ImageError, match=r"^fsspec\+memory:///bucket/no.jpg: No such file or dir"):
        decode(store / "no.jpg")
    with pytest.raises(CamcliError, match=r"^'nix://there/': Unrecognized filesystem type"):
        find(["nix://there/x.jpg"])
    with pytest.raises(OutputError, match="lie outside of its folder"):
        within(store, "../x")
    (tmp_path / "file").touch()
    below = RemotePath("file://", str(tmp_path / "file" / "out")[1:])
    with pytest.raises(OutputError, match=r"cannot write to 'file://.*/file/out': Not a directory"):
        prepare(below)
    over = replace(job, sources=[Source(store / "x.gradcam.npy", Path("x.npy"))], output=store)
    with pytest.raises(OutputError, match="is an input and would be written over"):
        list(pipeline.run(over))
    monkeypatch.setitem(sys.modules, "pyarrow.fs", None)
    stores._system.cache_clear()
    with pytest.raises(CamcliError, match=r"need pyarrow, .*: pip install 'camcli\[ray\]'"):
        find([str(store)])


def test_from_the_command_line(run: Callable[..., Result], tmp_path: Path) -> None:
    photo = make_photo(tmp_path / "in" / "a.jpg")
    url = f"file://{tmp_path}"
    tiny = ("--model", "squeezenet1_1", "--weights", "none", "--device", "cpu")
    found = run("explain", f"{url}/in", *tiny, "--output", f"{url}/out")
    assert found.exit_code == 0, found.stderr_bytes
    assert f"{url}/out/a.gradcam.png".encode() in found.stdout_bytes
    assert run("explain", photo, *tiny, "--output", tmp_path / "local").exit_code == 0
    assert files(tmp_path / "out") == files(tmp_path / "local")
    assert not [name for name in os.listdir(tmp_path / "out") if name.endswith(".tmp")]
