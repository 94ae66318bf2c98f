"""Names of output files, folders and files that cannot be written."""

from __future__ import annotations

import os
import re
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from camcli.errors import OutputError
from camcli.images.find import find
from camcli.images.source import Source
from camcli.runs import pipeline
from camcli.runs.files import write
from camcli.runs.job import Job
from camcli.runs.manifest import MANIFEST
from camcli.runs.manifest import manifest as written_manifest
from camcli.runs.names import Wanted, name_of
from tests.support.files import files, make_photo
from tests.support.jobs import make_job


@pytest.fixture
def job(tmp_path: Path) -> Job:
    job = make_job(tmp_path, {"z.png": (40, 40)})
    return replace(job, model=replace(job.model, class_names=("ant", "bee", "cat", "e:f", "e/f")))


def test_results_with_one_file_name_stop_the_run(job: Job) -> None:
    with pytest.raises(OutputError, match=r"would write the same file '.*gradcam\.e_f\.npy'"):
        next(pipeline.run(replace(job, targets=("e/f", "e:f"))))
    assert not job.output.exists()


def test_an_input_is_not_written_over(job: Job, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    other = make_photo(folder / "z.gradcam.png")
    sources = find([str(folder / "z.png"), str(other)])
    job = replace(job, sources=sources, output=folder)
    before = other.read_bytes()
    with pytest.raises(OutputError, match=r"z.gradcam.png' is an input and would be written over"):
        next(pipeline.run(job))
    assert other.read_bytes() == before


def test_an_unfinished_manifest_is_named_by_process_and_host(tmp_path: Path) -> None:
    """Processes of two machines that share a folder may have the same number."""
    with written_manifest(tmp_path / MANIFEST, "", lambda: (), lambda: None) as add:
        add([{}])
        names = [file.name for file in tmp_path.iterdir()]
    host = re.sub(r"[^A-Za-z0-9]", "_", socket.gethostname())
    assert names == [f".camcli-{os.getpid()}@{host}.manifest.jsonl"]


def test_outputs_stay_below_their_folder() -> None:
    name = name_of(Source(Path("x"), Path("a/x.jpg")), Wanted("cam", "../../etc/e\n"), "map")
    assert name == "a/x.cam..._.._etc_e_.npy"


def test_an_output_folder_that_cannot_be_written(job: Job, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"cannot write to '.*file/out': Not a directory"):
        next(pipeline.run(replace(job, output=tmp_path / "file" / "out")))


def test_a_write_that_fails_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "x.npy", b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OutputError, match=r"cannot write '.*x.npy': No space left on device"):
        write(tmp_path / "x.npy", b"new")
    assert files(tmp_path) == {"x.npy": b"old"}
