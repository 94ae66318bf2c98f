"""The index of a manifest: a run with it writes what a run without it writes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from camcli.errors import OutputError
from camcli.runs import index, pipeline, resume
from camcli.runs.index import index_file, open_index
from camcli.runs.job import Job
from camcli.runs.manifest import MANIFEST
from tests.support.files import make_photo, manifest
from tests.support.jobs import changed, make_job

PHOTOS = {f"{i % 3}/{i}.png": (40, 40) for i in range(9)} | {"a.jpg": None, "0/3.jpg": (30, 30)}


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "INDEXED_BYTES", 0)
    monkeypatch.setattr(index, "PIECE_BYTES", 2000)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return make_job(tmp_path, PHOTOS, targets=("pred", "1"), saves=("map",), batch_size=2)


def finished(job: Job, **options: Any) -> bytes:
    """Run a job, and return the manifest."""
    list(pipeline.run(changed(job, **options)))
    return Path(job.output / MANIFEST).read_bytes()


def states(job: Job) -> Iterator[bytes]:
    """Yield the manifest after each of several runs with results of earlier ones."""
    yield finished(job)
    Path(job.output / "0/0.gradcam.npy").unlink()
    Path(job.output / "2/8.gradcam.npy").unlink()
    Path(job.output / "2/8.gradcam.1.npy").unlink()
    yield finished(job, sources=job.sources[3:5], methods=("cam",))
    yield finished(job, skip_existing=True)
    yield finished(job, sources=job.sources[:4], targets=("2",), skip_existing=True)
    make_photo(Path(str(job.sources[2].path)), 50, 40)
    with pytest.warns(match="1 images have new results"):
        yield finished(job, skip_existing=True)
    yield finished(job, layers=("features",), sources=job.sources[:1], overwrite=True)


def test_runs_with_an_index_write_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"targets": ("pred", "1"), "saves": ("map",), "batch_size": 2}
    plain, indexed = (make_job(tmp_path / name, PHOTOS, **options) for name in ("a", "b"))
    monkeypatch.setattr(index, "INDEXED_BYTES", 1 << 20)
    expected = [*states(plain)]
    assert not index_file(plain.output / MANIFEST).exists()
    monkeypatch.setattr(index, "INDEXED_BYTES", 0)
    for found, wanted in zip(states(indexed), expected, strict=True):
        assert found.replace(b"/b/in/", b"/a/in/") == wanted


def test_rows_in_an_index_are_parsed_when_they_are_asked_for(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = finished(job)
    parsed: list[bytes] = []
    parse = resume.parse_row
    monkeypatch.setattr(resume, "parse_row", lambda line: (parsed.append(line), parse(line))[1])
    assert finished(job, skip_existing=True) == before
    assert not parsed


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:3000])


def replaced_by_a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize(
    "damage", [Path.unlink, cut, lambda file: file.write_text("no index"), replaced_by_a_folder]
)
def test_an_index_that_is_lost_is_made_again(job: Job, damage: Callable[[Path], object]) -> None:
    before, file = finished(job), job.output / MANIFEST
    damage(index_file(file))
    assert finished(job, skip_existing=True) == before
    if not index_file(file).is_dir():
        assert open_index(file, job.settings)


def test_a_manifest_that_changed_is_read_as_a_whole(job: Job) -> None:
    before, file = finished(job), job.output / MANIFEST
    rows = manifest(job.output)
    file.write_text("".join(json.dumps(row, indent=None) + "\n" for row in reversed(rows)))
    assert open_index(file, job.settings) is None
    assert finished(job, skip_existing=True) == before
    assert open_index(file, job.settings)
    assert open_index(file, "other settings") is None


def test_an_index_of_other_lines_is_refused(job: Job) -> None:
    finished(job)
    file = job.output / MANIFEST
    times = file.stat()
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(sorted(lines, reverse=True)))
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(OutputError, match="is not the index of its manifest: remove it"):
        finished(job, skip_existing=True)


def test_all_rows_are_those_of_the_manifest(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    finished(job)
    index_file(job.output / MANIFEST).rename(away := job.output / "index")
    expected = [*resume.all_rows(job.output).lines()]
    assert not index_file(job.output / MANIFEST).exists()
    away.rename(index_file(job.output / MANIFEST))
    monkeypatch.setattr(resume, "parse_row", lambda line: pytest.fail("a row was parsed"))
    assert [*resume.all_rows(job.output).lines()] == expected
    assert b"".join(expected) == Path(job.output / MANIFEST).read_bytes()
