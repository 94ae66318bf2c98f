"""Damaged, huge and tiny images, full disks and errors during a run: never a traceback."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from camcli.errors import ImageError, WriteError
from camcli.images.decode import decode
from camcli.images.find import find
from camcli.render import draw as render_draw
from camcli.runs import batches, pipeline, worker
from camcli.runs.job import Job
from tests.support.command import TINY, Run, stderr
from tests.support.files import make_photo, manifest
from tests.support.jobs import changed, make_job

hypothesis = pytest.importorskip("hypothesis")
from hypothesis import given, settings  # noqa: E402 - after the check
from hypothesis import strategies as st  # noqa: E402

FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "ICO", "TGA")


def encoded(kind: str) -> bytes:
    pixels = np.arange(24 * 20 * 3, dtype=np.uint8).reshape(24, 20, 3)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


WHOLE = {kind: encoded(kind) for kind in FORMATS}


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Draw an image file with bytes changed, cut off and appended."""
    data = bytearray(WHOLE[draw(st.sampled_from(FORMATS))])
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, min(len(data) - 1, draw(st.sampled_from((40, 4000))))))
        data[at] = draw(st.integers(0, 255))
    end = draw(st.one_of(st.just(len(data)), st.integers(0, len(data))))
    return bytes(data[:end]) + draw(st.binary(max_size=8))


@settings(max_examples=250, deadline=5000, database=None, derandomize=True)
@given(damaged())
def test_damaged_bytes_are_an_image_or_one_line(data: bytes) -> None:
    try:
        pixels = decode(io.BytesIO(data), max_pixels=1_000_000)
    except ImageError as error:
        message = str(error)
    else:
        message = ""
        assert pixels.dtype == np.uint8
        assert pixels.ndim == 3
        assert pixels.shape[2] == 3
        assert pixels.size
    assert "\n" not in message


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return make_job(tmp_path, {f"{i}.jpg": (60, 50) for i in range(6)}, batch_size=2, workers=2)


@settings(
    max_examples=15, deadline=None, database=None, derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(files=st.lists(damaged(), min_size=6, max_size=6))
def test_every_file_is_written_or_has_a_reason(files: list[bytes], job: Job) -> None:
    for source, data in zip(job.sources, files, strict=True):
        source.path.write_bytes(data)
    list(pipeline.run(job))
    rows = manifest(job.output)
    assert [row["image"] for row in rows] == [f"{i}.jpg" for i in range(6)]
    for row in rows:
        assert bool(row["error"]) == (row["status"] == "error")
        if not row["error"]:
            assert np.isfinite(np.load(job.output / row["map"])).all()
    shutil.rmtree(job.output)


@pytest.mark.parametrize("fit", ["preset", "squash", "full"])
def test_images_of_one_row_column_or_pixel(fit: str, job: Job, tmp_path: Path) -> None:
    sizes = {"dot.png": (1, 1), "line.png": (1, 300), "row.png": (300, 1)}
    for name, size in sizes.items():
        make_photo(tmp_path / "thin" / name, *size)
    list(pipeline.run(changed(job, sources=find([str(tmp_path / "thin")]), fit=fit)))
    for row in manifest(job.output):
        if fit == "full" and row["image"] != "dot.png":
            assert "expected a longer side of at most 20 times the shorter one" in row["error"]
            continue
        assert row["status"] != "error", row["error"]
        with Image.open(job.output / row["overlay"]) as drawn:
            assert drawn.size == sizes[row["image"]]


def test_images_larger_than_max_pixels_are_errors(run: Run, tmp_path: Path) -> None:
    make_photo(tmp_path / "in" / "big.jpg", 101, 100)
    make_photo(tmp_path / "in" / "fits.jpg", 100, 100)
    header = b"P6 60000 60000 255\n"  # without the 3.6 billion pixels
    (tmp_path / "in" / "huge.ppm").write_bytes(header)
    out = tmp_path / "out"
    found = run("explain", tmp_path / "in", *TINY, "--max-pixels", 10_000, "--output", out)
    assert found.exit_code == 1
    errors = [row["error"] for row in manifest(out)]
    assert errors == [
        f"{tmp_path}/in/big.jpg: 101 x 100 pixels, more than --max-pixels 10000",
        None,
        f"{tmp_path}/in/huge.ppm: more than 178956970 pixels",
    ]


def full_after(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `Path.write_bytes` fail after `count` files, as on a full disk."""
    left, write = iter(range(count)), Path.write_bytes

    def limited(self: Path, data: bytes) -> int:
        if next(left, None) is None:
            raise OSError(28, "No space left on device")
        return write(self, data)

    monkeypatch.setattr(Path, "write_bytes", limited)


def test_a_run_on_a_full_disk_can_be_finished_later(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    full_after(7, monkeypatch)
    with pytest.raises(WriteError, match=r"run\.json': No space left on device"):
        list(pipeline.run(changed(job, workers=1)))
    rows = manifest(job.output)
    assert [row["status"] for row in rows] == ["ok"] * 3 + ["error"] * 3
    assert "No space left on device" in rows[-1]["error"]
    monkeypatch.undo()
    list(pipeline.run(changed(job, skip_existing=True)))
    assert {row["status"] for row in manifest(job.output)} == {"ok"}


def test_an_output_folder_that_is_removed_is_one_line(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(4):
        make_photo(tmp_path / "in" / f"{i}.jpg")
    explain, out = worker.explain, tmp_path / "out"

    def vanishing(*arguments: object, **options: object) -> object:
        shutil.rmtree(out, ignore_errors=True)
        out.with_name("out").touch()  # so that the folder cannot be made again
        return explain(*arguments, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(worker, "explain", vanishing)
    found = run("explain", tmp_path / "in", *TINY, "--output", out, "--batch-size", 4)
    assert found.exit_code == 1
    assert "Traceback" not in stderr(found)
    *_, last = stderr(found).splitlines()
    assert last.startswith("Error: ")


def test_a_run_on_a_disk_that_becomes_read_only_can_be_finished_later(
    run: Run, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["explain", tmp_path / "in", *TINY, "--output", out := tmp_path / "out"]
    arguments += ["--batch-size", 2, "--workers", 1]
    write_bytes, left = Path.write_bytes, iter(range(5))

    def refused(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    def write(self: Path, data: bytes) -> int:
        if next(left, None) is None:
            for change in ("replace", "unlink", "mkdir"):
                monkeypatch.setattr(Path, change, refused)
            refused()
        return write_bytes(self, data)

    monkeypatch.setattr(Path, "write_bytes", write)
    found = run(*arguments)
    assert found.exit_code == 1
    *_, last = stderr(found).splitlines()
    assert last.startswith(f"Error: cannot write '{out}/")
    assert last.endswith("Read-only file system")
    assert "Traceback" not in stderr(found)
    monkeypatch.undo()
    before = {file: file.stat().st_mtime_ns for file in out.glob("[01].*")}
    assert run(*arguments, "--skip-existing").exit_code == 0
    assert [row["status"] for row in manifest(out)] == ["ok"] * 6
    assert before == {file: file.stat().st_mtime_ns for file in before}, (
        "finished images are not explained again"
    )
    assert not list(out.glob(".*"))


def test_a_link_in_the_output_folder_is_not_followed(run: Run, tmp_path: Path) -> None:
    """A link to a folder is refused and a link to a file is replaced."""
    for name in ("sub/a.jpg", "b.jpg"):
        make_photo(tmp_path / "in" / name)
    (elsewhere := tmp_path / "elsewhere").mkdir()
    (precious := elsewhere / "precious").write_bytes(b"precious")
    (out := tmp_path / "out").mkdir()
    (out / "sub").symlink_to(elsewhere)
    (out / "b.gradcam.npy").symlink_to(precious)
    found = run("explain", tmp_path / "in", *TINY, "--output", out)
    assert found.exit_code == 1
    assert list(elsewhere.iterdir()) == [precious]
    assert precious.read_bytes() == b"precious"
    ok, refused = manifest(out)
    assert (ok["image"], ok["status"]) == ("b.jpg", "ok")
    assert f"'sub/a.gradcam.png' would lie outside of its folder '{out}'" in refused["error"]


@pytest.mark.parametrize(
    ("module", "name", "image"), [(batches, "preprocess", 4), (render_draw, "overlay", 1)]
)
def test_a_bug_in_a_reader_or_writer_is_raised_after_finished_rows_are_recorded(
    module: ModuleType, name: str, image: int, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    function, calls = getattr(module, name), iter(range(9))

    def failing(*arguments: object) -> object:
        if next(calls) == image:
            raise AssertionError("a bug")
        return function(*arguments)

    monkeypatch.setattr(module, name, failing)
    job = changed(job, workers=1)
    with pytest.raises(AssertionError, match="a bug"):
        list(pipeline.run(job))
    images = {row["image"] for row in manifest(job.output)}
    assert "0.jpg" in images
    assert f"{image}.jpg" not in images
    assert not list(job.output.glob(".*"))
    monkeypatch.undo()
    list(pipeline.run(changed(job, skip_existing=True)))
    assert {row["status"] for row in manifest(job.output)} == {"ok"}
