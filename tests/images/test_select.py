"""Which images are taken: lists, globs, shards, and runs that only say or that stop at once."""

from __future__ import annotations

import io
import itertools
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import Result

from camcli.errors import CamcliError
from camcli.images.find import Source
from camcli.images.select import filter_sources, read_list
from camcli.runs import pipeline
from camcli.runs.shards import shard_of
from tests.support.files import make_photo, manifest

Run = Callable[..., Result]
TINY = ("--model", "squeezenet1_1", "--weights", "none", "--device", "cpu")
SOURCES = [Source(Path("/x", name), Path(name)) for name in ("a.jpg", "s/a.png", "s/t/b.jpg", "ü")]


@pytest.mark.parametrize(
    ("include", "exclude", "names"),
    [
        ([], [], ["a.jpg", "s/a.png", "s/t/b.jpg", "ü"]),
        (["*.jpg"], [], ["a.jpg", "s/t/b.jpg"]),
        (["*.jpg", "?"], ["b*"], ["a.jpg", "ü"]),
        (["s/*"], [], ["s/a.png", "s/t/b.jpg"]),
        ([], ["s/t/*", "a.jpg"], ["s/a.png", "ü"]),
        (["[ab].[jp][pn]g"], ["*/t/*"], ["a.jpg", "s/a.png"]),
    ],
)
def test_globs(include: list[str], exclude: list[str], names: list[str]) -> None:
    found = filter_sources(SOURCES, include, exclude)
    assert [source.name.as_posix() for source in found] == names


@pytest.mark.parametrize("n", [1, 2, 3, 7])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_shards_are_a_partition_in_whole_batches(n: int, size: int) -> None:
    sources = [Source(Path(str(i)), Path(str(i))) for i in range(13)]
    batches = [sources[start : start + size] for start in range(0, 13, size)]
    for i in range(1, n + 1):
        mine, shard = shard_of(sources, f"{i}/{n}", size)
        assert mine == [source for batch in batches[i - 1 :: n] for source in batch]
        assert shard.share(size) == len(mine)
        assert (shard.name, shard.images) == (f"{i}-of-{n}", 13)
    names = [shard_of(part, "1/2", size)[1].names for part in (sources, sources[1:])]
    assert names[0] != names[1]


@pytest.mark.parametrize("spec", ["0/2", "3/2", "1", "1/0", "-1/2", "a/b", "1/2/3", ""])
def test_shards_that_are_none(spec: str) -> None:
    with pytest.raises(CamcliError, match=r"--shard '.*': expected I/N with I from 1 to N"):
        shard_of(SOURCES, spec, 1)


@pytest.mark.parametrize(
    ("data", "paths"),
    [
        (b"a.jpg\nb c.jpg\r\n\n'q' \"r\".jpg", ["a.jpg", "b c.jpg", "'q' \"r\".jpg"]),
        (b"a\nb.jpg\0\xff.jpg\0", ["a\nb.jpg", "\udcff.jpg"]),
        (b"", []),
    ],
)
def test_lists(
    data: bytes, paths: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "list").write_bytes(data)
    assert read_list(str(tmp_path / "list")) == paths
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))
    assert read_list("-") == paths


def test_from_the_command_line(run: Run, tmp_path: Path) -> None:
    """Names that lists, shells and terminals find hard; each is explained and recorded."""
    names = ["a b.jpg", "new\nline.jpg", "'\".jpg", "\U0001f600.jpg", os.fsdecode(b"\xff.jpg")]
    for name in (*names, "left.jpg", "bad.png"):
        make_photo(tmp_path / "in" / name)
    paths = [os.fsencode(tmp_path / "in" / name) for name in (*names, "left.jpg", "bad.png")]
    (tmp_path / "list").write_bytes(b"\0".join(paths))
    listed = ("--from-file", tmp_path / "list", "--exclude", "l*", "--include", "*.jpg")
    out = tmp_path / "out"
    arguments = ("explain", *listed, "--output", out)
    told = run(*arguments, "--model", "no such model", "--dry-run", "--save", "map")
    assert (told.exit_code, out.exists()) == (0, False)
    assert told.stdout_bytes.splitlines()[0] == os.fsencode(
        f"{tmp_path}/in/a b.jpg -> {out}/a b.gradcam.npy"
    )
    assert len(told.stdout_bytes.splitlines()) == 5
    found = run(*arguments, *TINY)
    assert found.exit_code == 0, found.stderr_bytes
    assert [row["image"] for row in manifest(out)] == names
    assert all((out / f"{name[:-4]}.gradcam.png").exists() for name in names)
    assert run(*arguments, *TINY, "--shard", "2/2", "--batch-size", 2).exit_code == 0
    lines = (out / "shards" / "2-of-2.manifest.jsonl").read_text().splitlines()
    assert [json.loads(line)["image"] for line in lines] == names[2:4]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no PATHS: expected files, folders, globs, - or --from-file LIST"),
        (["--from-file", "none"], "--from-file 'none': No such file or directory"),
        (["in", "--include", "*.gif"], "no images in in: nothing to do"),
        (["in", "--shard", "3/2"], "--shard '3/2': expected I/N"),
        (["in/a.jpg", "in/sub/a.jpg", "--dry-run"], "would write the same files"),
    ],
)
def test_wrong_usage(
    arguments: list[str], message: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_photo(tmp_path / "in" / "a.jpg")
    make_photo(tmp_path / "in" / "sub" / "a.jpg")
    found = run("explain", *TINY, *arguments)
    assert found.exit_code == 2
    assert message in found.stderr_bytes.decode()
    assert found.stderr_bytes.count(b"\n") == 1


def test_a_list_cannot_write_outside_the_output_folder(run: Run, tmp_path: Path) -> None:
    """A name's folders are not kept unless it was found in a folder that was given."""
    make_photo(tmp_path / "photo.jpg")
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "link.jpg").symlink_to(tmp_path / "photo.jpg")
    given = [tmp_path / "deep" / ".." / "photo.jpg", "/../" * 3 + str(tmp_path / "photo.jpg")]
    given.append(tmp_path / "deep" / "er" / "link.jpg")
    (tmp_path / "list").write_text("\n".join(map(str, given)))
    before = set(tmp_path.rglob("*"))
    found = run("explain", "--from-file", tmp_path / "list", *TINY, "--output", tmp_path / "out")
    assert found.exit_code == 0, found.stderr_bytes
    new = set(tmp_path.rglob("*")) - before
    assert all(path.is_relative_to(tmp_path / "out") for path in new)
    assert [row["image"] for row in manifest(tmp_path / "out")] == ["photo.jpg"]


def test_fail_fast(run: Run, tmp_path: Path) -> None:
    for i in range(9):
        make_photo(tmp_path / "in" / f"{i}.jpg")
    (tmp_path / "in" / "2.jpg").write_text("no image")
    arguments = ("explain", tmp_path / "in", *TINY, "--batch-size", 1, "--output", tmp_path / "out")
    found = run(*arguments, "--fail-fast")
    assert found.exit_code == 1
    rows = manifest(tmp_path / "out")
    assert [row["image"] for row in rows[:3]] == ["0.jpg", "1.jpg", "2.jpg"]
    assert len(rows) < 9
    assert rows[2]["status"] == "error"


@pytest.mark.parametrize(
    ("number", "code", "last"),
    [(signal.SIGTERM, 143, "Terminated."), (signal.SIGINT, 130, "Interrupted.")],
)
def test_signals(
    number: signal.Signals, code: int, last: str, run: Run, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """What was written is in the manifest, and the code says which signal it was."""
    for i in range(9):
        make_photo(tmp_path / "in" / f"{i}.jpg")
    explain, calls = pipeline.explain, itertools.count()

    def signalled(*arguments: Any, **options: Any) -> Any:
        if next(calls) == 4:
            os.kill(os.getpid(), number)
        return explain(*arguments, **options)

    monkeypatch.setattr(pipeline, "explain", signalled)
    arguments = ("explain", tmp_path / "in", *TINY, "--batch-size", 1, "--output", tmp_path / "out")
    found = run(*arguments)
    assert found.exit_code == code
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, "as it was"
    assert found.stderr_bytes.decode().splitlines()[-1] == last
    rows = manifest(tmp_path / "out")
    assert [row["image"] for row in rows] == [f"{i}.jpg" for i in range(4)]
    assert not list((tmp_path / "out").glob(".camcli*"))
    assert run(*arguments, "--skip-existing").exit_code == 0
