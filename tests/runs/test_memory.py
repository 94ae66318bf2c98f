"""The memory of a run: failed images keep nothing, and pixels wait within a limit."""

from __future__ import annotations

import gc
import io
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from camcli.errors import ImageError
from camcli.images.decode import Picture, decode, read
from camcli.images.memory import Budget
from camcli.runs import pipeline, save
from camcli.runs.items import Failed, Loaded
from camcli.runs.job import Job
from tests.support.command import Run, refused
from tests.support.files import files, make_photo, manifest
from tests.support.jobs import changed, make_job

PHOTOS = {f"{i}.jpg": (300 + i, 200) for i in range(7)}
PEAK = """
import resource, subprocess, sys
subprocess.run([sys.executable, "-m", "camcli", *sys.argv[1:]], capture_output=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
"""Prints the peak memory of a command in kilobytes: of this child alone, and of no other test."""


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return make_job(tmp_path, PHOTOS, batch_size=3, workers=2)


@contextmanager
def freeing_images() -> Iterator[None]:
    """Check that no image of Pillow is left at the end, without help of the garbage collector."""

    def images() -> list[Image.Image]:
        return [one for one in gc.get_objects() if issubclass(type(one), Image.Image)]

    gc.collect()
    before = images()
    gc.disable()
    try:
        yield
        assert not [one for one in images() if not any(one is other for other in before)]
    finally:
        gc.enable()


def test_a_failure_keeps_no_frames(job: Job) -> None:
    """The frames of a traceback hold the image that was being decoded."""
    file = job.sources[0].path
    file.write_bytes(file.read_bytes()[:-2000])
    with freeing_images():
        failed = pipeline.load_image(job, job.sources[0])
    assert isinstance(failed, Failed)
    assert failed.error.__traceback__ is None
    assert failed.error.__context__ is None


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has other units elsewhere")
def test_memory_does_not_grow_with_failed_images(tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (4000, 3000), "red").save(stream, "JPEG")
    peaks = []
    for count in (2, 30):
        (folder := tmp_path / str(count)).mkdir()
        for number in range(count):
            (folder / f"{number}.jpg").write_bytes(stream.getvalue()[:-2000])
        network = ("--model", "tests.support.networks:GapNet", "--device", "cpu")
        command = ("explain", folder, *network, "--output", tmp_path / "out", "--workers", 2)
        found = subprocess.run(
            [sys.executable, "-c", PEAK, *map(str, command)], capture_output=True, check=True
        )
        peaks.append(int(found.stdout) / 1000)
        rows = manifest(tmp_path / "out")
        assert len(rows) == count
        assert all("image file is truncated" in row["error"] for row in rows)
    assert peaks[1] - peaks[0] < 250, "megabytes for 28 more images of 36 megabytes each"


@pytest.mark.parametrize("saves", [("overlay", "map", "panel", "boxes"), ("map",)])
def test_results_are_the_same_for_any_memory(saves: tuple[str, ...], job: Job) -> None:
    job = changed(job, saves=saves, methods=("gradcam", "cam"))
    list(pipeline.run(job))
    for number, limit in enumerate((1, 400_000)):
        other = changed(job, output=job.output.with_name(f"out{number}"), memory=limit)
        list(pipeline.run(other))
        assert files(other.output) == files(job.output)


def test_pixels_without_room_are_dropped_and_read_again_once(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = Budget(2 * 3 * 200 * 301)  # half of it is the room for one image
    first, second = (pipeline.load_image(job, one, budget) for one in job.sources[:2])
    assert isinstance(first, Loaded)
    assert isinstance(second, Loaded)
    assert (first.pixels is None, second.pixels is None) == (False, True)
    assert second.shape == (200, 301)
    reads = []

    def counted(path: Path, *options: Any) -> Picture:
        reads.append(path)
        return read(path, *options)

    monkeypatch.setattr(save, "read", counted)
    list(pipeline.run(changed(job, memory=1, methods=("gradcam", "cam"))))
    assert sorted(reads) == [source.path for source in job.sources]


def test_a_job_without_pictures_holds_no_pixels(job: Job) -> None:
    loaded = pipeline.load_image(changed(job, saves=("map",)), job.sources[0], Budget())
    assert isinstance(loaded, Loaded)
    assert loaded.pixels is None


@pytest.mark.parametrize("change", ["other", "gone"])
def test_a_file_that_changes_before_its_picture_is_drawn_is_an_error(
    change: str, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = job.sources[1].path

    def late(path: Path, *options: Any) -> Picture:
        if path == victim and change == "gone":
            path.unlink()
        elif path == victim:
            make_photo(path, 301, 200, quality=20)
        return read(path, *options)

    monkeypatch.setattr(save, "read", late)
    list(pipeline.run(changed(job, memory=1)))
    rows = manifest(job.output)
    reason = "No such file or directory" if change == "gone" else "changed while it was explained"
    assert rows[1]["error"] == f"{victim}: {reason}"
    assert [row["status"] for row in rows] == ["ok", "error", *["ok"] * 5]


def test_memory_is_an_option_of_explain_and_evaluate(run: Run, tmp_path: Path) -> None:
    make_photo(tmp_path / "a.jpg")
    network = ("--model", "tests.support.networks:GapNet", "--memory")
    for command in ("explain", "evaluate"):
        out = ("--output", tmp_path / command)
        assert run(command, tmp_path / "a.jpg", *network, "1.5 MB", *out).exit_code == 0
        for given in ("2", "0GB", "much", "-1GB"):
            assert f"'{given}': expected an amount of memory, as 500MB or 2GB" in refused(
                run(command, tmp_path / "a.jpg", *network, given, *out)
            )


def test_damaged_files_of_all_kinds_leave_nothing_behind() -> None:
    """Errors inside Pillow may be in cycles, which only the garbage collector would free."""
    seeds = []
    for kind in ("PNG", "GIF", "TIFF", "WEBP", "BMP", "JPEG", "JPEG2000", "PPM", "ICO", "TGA"):
        stream = io.BytesIO()
        Image.new("RGB", (64, 64), "red").save(stream, kind)
        seeds += [stream.getvalue()[:-cut] for cut in (4, 40)]
    with freeing_images():
        for data in seeds:
            with suppress(ImageError):
                decode(io.BytesIO(data))
