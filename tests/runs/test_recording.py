"""A folder keeps the rows and files that it is given, by one run or by several."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from camcli.errors import CamcliWarning, OutputError
from camcli.images.find import find
from camcli.images.source import Source
from camcli.runs import pipeline
from camcli.runs.job import Job
from camcli.runs.lock import locked
from camcli.runs.manifest import MANIFEST
from camcli.runs.merge import merge
from camcli.runs.names import unique_stems
from camcli.runs.rows import Rows
from camcli.runs.shards import shard_of
from tests.support.files import by_name, files, make_photo, manifest
from tests.support.jobs import changed, make_job

NAMES = ("b.jpg", "a.jpg", "sub/c.jpg", "d.jpg")


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return make_job(tmp_path, dict.fromkeys(NAMES, (60, 50)), batch_size=1, workers=1)


def of(job: Job, *names: str, **changes: Any) -> Job:
    """Return the job for some of its images."""
    chosen = [source for source in job.sources if source.image in names]
    return changed(job, sources=chosen, **changes)


def results(folder: Path) -> list[tuple[str, str, str]]:
    return [(row["image"], row["method"], row["target"]) for row in manifest(folder)]


def record(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return found


@pytest.mark.parametrize("skip", [False, True])
def test_runs_of_parts_leave_what_one_run_leaves(job: Job, skip: bool, tmp_path: Path) -> None:
    list(pipeline.run(job))
    parts = replace(job, output=tmp_path / "parts")
    for names in (("b.jpg", "sub/c.jpg"), ("d.jpg", "b.jpg"), ("a.jpg",)):
        list(pipeline.run(of(parts, *names, skip_existing=skip)))
    assert files(parts.output) == files(job.output)
    assert manifest(job.output) == by_name(manifest(job.output))
    assert record(parts.output)["counts"] == {
        **{"images": 1, "ok": 1, "earlier_images": 3, "earlier_results": 3}
    }


def test_other_methods_and_targets_are_added(job: Job) -> None:
    list(pipeline.run(job))
    list(pipeline.run(changed(job, methods=("cam",))))
    list(pipeline.run(of(job, "a.jpg", targets=("2",))))
    every = {(name, method, "pred") for name in NAMES for method in ("cam", "gradcam")}
    assert results(job.output) == sorted(every | {("a.jpg", "gradcam", "2")})


def test_a_row_stays_while_one_of_its_files_exists(job: Job) -> None:
    list(pipeline.run(job))
    (job.output / "a.gradcam.png").unlink()
    for ending in ("png", "npy"):
        (job.output / f"b.gradcam.{ending}").unlink()
    list(pipeline.run(of(job, "d.jpg")))
    a, d, c = manifest(job.output)
    assert [row["image"] for row in (a, d, c)] == ["a.jpg", "d.jpg", "sub/c.jpg"]
    assert (a["overlay"], a["map"]) == (None, "a.gradcam.npy")


def test_files_of_an_earlier_run_stay_in_the_row(job: Job) -> None:
    list(pipeline.run(of(job, "a.jpg", saves=("boxes", "panel"))))
    list(pipeline.run(of(job, "a.jpg", saves=("map",))))
    (row,) = manifest(job.output)
    assert {row["map"], row["panel"], row["boxes_overlay"]} == files(job.output).keys() - {MANIFEST}
    assert row["boxes"]


def test_a_failed_image_replaces_its_rows(job: Job) -> None:
    list(pipeline.run(job))
    photo = job.sources[0].path.read_bytes()
    job.sources[0].path.write_bytes(b"not an image")
    list(pipeline.run(job))
    assert [row["status"] for row in manifest(job.output)] == ["error", "ok", "ok", "ok"]
    job.sources[0].path.write_bytes(photo)
    list(pipeline.run(job))
    assert [row["status"] for row in manifest(job.output)] == ["ok"] * 4


def test_another_image_of_the_same_name_is_told(job: Job, tmp_path: Path) -> None:
    list(pipeline.run(of(job, "a.jpg")))
    other = make_photo(tmp_path / "other" / "a.jpg", 40, 70)
    with pytest.warns(CamcliWarning, match=r"1 images have new results, .* changed: a\.jpg$"):
        list(pipeline.run(replace(job, sources=find([str(other)]))))


def test_shards_of_a_second_list_are_added(job: Job, tmp_path: Path) -> None:
    for names in (NAMES[:2], NAMES[2:]):
        part = of(job, *names)
        for number in (1, 2):
            sources, shard = shard_of(part.sources, f"{number}/2", 1)
            list(pipeline.run(replace(part, sources=sources, shard=shard)))
    merge([job.output], job.output)
    assert [row["image"] for row in manifest(job.output)] == sorted(NAMES)
    assert record(job.output)["counts"]["earlier_images"] == 2


def names_of(job: Job, folder: Path, *given: str) -> list[str]:
    """Explain images of a folder, and return the names of all maps in the output folder."""
    for name in given:
        if not (folder / name).exists():
            make_photo(folder / "new.jpg").rename(folder / name)
    sources = find([str(folder / name) for name in given])
    list(pipeline.run(replace(job, sources=sources, saves=("map",))))
    return [row["map"] for row in manifest(job.output)]


def test_images_with_one_stem_keep_their_suffix(job: Job, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    found = names_of(job, photos, "3.jpg", "3.png", "4.jpg", "3.png.jpg", "x.3.jpg")
    assert found == [
        *("3.jpg.gradcam.npy", "3.png.gradcam.npy", "3.png.jpg.gradcam.npy"),
        *("4.gradcam.npy", "x.3.gradcam.npy"),
    ]
    before = files(job.output)
    assert names_of(job, photos, "3.png", "4.jpg") == found, "as in the first run"
    assert files(job.output) == before


def test_an_image_keeps_its_names_beside_later_ones(job: Job, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    assert names_of(job, photos, "3.jpg") == ["3.gradcam.npy"]
    both = ["3.gradcam.npy", "3.png.gradcam.npy"]
    assert names_of(job, photos, "3.png") == both
    assert names_of(job, photos, "3.jpg", "3.png") == both
    list(pipeline.run(changed(job, sources=find([str(photos)]), skip_existing=True)))
    assert [row["map"] for row in manifest(job.output)] == both


def test_two_images_of_one_name_are_refused() -> None:
    twice = [Source(Path("1/x.jpg"), Path("x.jpg")), Source(Path("2/x.jpg"), Path("x.jpg"))]
    with pytest.raises(OutputError, match=r"'1/x.jpg' and '2/x.jpg' would write the same files"):
        unique_stems(twice)


HOLD = """
import sys
from pathlib import Path
from camcli.runs.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def hold(file: Path) -> subprocess.Popen[str]:
    """Start a process that holds the lock of a manifest until its standard input ends."""
    command = [sys.executable, "-c", HOLD, str(file)]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_run_waits_and_names_the_first(tmp_path: Path) -> None:
    with hold(tmp_path / MANIFEST) as first:
        command = [sys.executable, "-W", "always", "-c", HOLD, str(tmp_path / MANIFEST)]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as second:
            assert second.stderr is not None
            assert second.stdout is not None
            line = second.stderr.readline()
            assert f"process {first.pid} on " in line
            assert f"is writing to '{tmp_path}': waiting for its end" in line
            first.kill()
            assert second.stdout.readline() == "held\n"
            second.communicate()
    assert not list(tmp_path.iterdir())


def test_a_process_does_not_wait_for_itself(tmp_path: Path) -> None:
    refused = pytest.raises(OutputError, match=r"this process is writing to '.*' already")
    with locked(tmp_path / MANIFEST), refused, locked(tmp_path / MANIFEST):
        pass
    with locked(tmp_path / MANIFEST):
        pass


def test_rows_are_found_by_image_and_sorted() -> None:
    rows = Rows()
    for image in ("b/1.jpg", "a.jpg", "b.jpg", "\udcff.jpg", "\U0001f600.jpg"):
        for layer in ("y", None):
            rows.add({"image": image, "method": "cam", "target": "pred", "layer": layer})
    lines = [json.loads(line) for line in rows.lines()]
    assert [(row["image"], row["layer"]) for row in lines] == [
        (name, layer)
        for name in ("a.jpg", "b.jpg", "b/1.jpg", "\udcff.jpg", "\U0001f600.jpg")
        for layer in (None, "y")
    ]
    names = [row["image"] for row in lines[::2]]
    assert [name for some in rows.images() for name in some] == names
    rows.remove("a.jpg", "cam", "pred")
    assert rows.of_image("a.jpg") == []
