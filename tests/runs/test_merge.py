"""Merged shards equal one run of all images, byte for byte."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from camcli.errors import CamcliError
from camcli.runs import pipeline
from camcli.runs.job import Job
from camcli.runs.merge import merge
from camcli.runs.shards import shard_of
from tests.support.command import TINY, Run, stderr
from tests.support.files import files, make_photo, manifest
from tests.support.jobs import changed, make_job


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """Eleven photos, one damaged, in batches of two: the last has one image."""
    photos = {f"{i:02}.jpg": (40 + 3 * i, 40) for i in range(11)} | {"05.jpg": None}
    methods = ("gradcam", "cam")
    return make_job(tmp_path, photos, methods=methods, saves=("map",), batch_size=2, workers=1)


def run_shards(job: Job, count: int, folders: Sequence[Path], numbers: Sequence[int] = ()) -> None:
    """Run shards (all by default) and write them to the folders in turn."""
    for number in numbers or range(1, count + 1):
        sources, shard = shard_of(job.sources, f"{number}/{count}", job.inputs.batch_size)
        output = folders[number % len(folders)]
        list(pipeline.run(replace(job, sources=sources, shard=shard, output=output)))


def results(folder: Path) -> dict[str, bytes]:
    """Return the content of all files except the records of the shards."""
    return {name: data for name, data in files(folder).items() if not name.startswith("shards/")}


@pytest.mark.parametrize("count", [1, 3, 8])
def test_shards_in_one_folder_merge_to_one_run(job: Job, count: int, tmp_path: Path) -> None:
    """There are six batches, so two of eight shards are empty."""
    list(pipeline.run(job))
    run_shards(job, count, [tmp_path / "shared"])
    assert not (tmp_path / "shared" / "manifest.jsonl").exists()
    found, counts = merge([tmp_path / "shared"], tmp_path / "shared")
    assert (found, counts["images"], counts["error"]) == (count, 11, 2)
    assert results(tmp_path / "shared") == results(tmp_path / "out")
    records = [json.loads((tmp_path / name / "run.json").read_text()) for name in ("out", "shared")]
    for record in records:
        record.pop("started"), record.pop("seconds")
    assert records[0] == records[1]


def test_shards_in_several_folders_merge_into_another(job: Job, tmp_path: Path) -> None:
    list(pipeline.run(job))
    folders = [tmp_path / name for name in "abc"]
    run_shards(job, 3, folders)
    merge(folders, tmp_path / "joined")
    assert results(tmp_path / "joined") == results(tmp_path / "out")
    merge([tmp_path / "joined"], tmp_path / "joined")
    assert results(tmp_path / "joined") == results(tmp_path / "out"), (
        "merging again changes nothing"
    )


def test_a_stopped_shard_is_finished_after_others_ran_in_its_folder(
    job: Job, tmp_path: Path
) -> None:
    shared = tmp_path / "shared"
    sources, shard = shard_of(job.sources, "2/3", job.inputs.batch_size)
    part = replace(job, sources=sources, shard=shard, output=shared)
    run = pipeline.run(part)
    next(run)
    run_shards(job, 3, [shared], [1, 3])
    run.close()
    with pytest.raises(
        CamcliError, match=r"shard 2/3 in '.*' has \d of its 4 images: run it again"
    ):
        merge([shared], shared)
    list(pipeline.run(changed(part, skip_existing=True)))
    merge([shared], shared)
    list(pipeline.run(job))
    assert results(shared) == results(tmp_path / "out")
    before = results(shared)
    list(pipeline.run(changed(job, output=shared, skip_existing=True)))
    assert results(shared) == before, "a run of all images keeps the results of its shards"


def test_incomplete_or_different_shards_are_refused(job: Job, tmp_path: Path) -> None:
    def check(*folders: Path, match: str) -> None:
        with pytest.raises(CamcliError, match=match):
            merge(folders, tmp_path / "joined")
        assert not (tmp_path / "joined").exists()

    a, b, c = (tmp_path / name for name in "abc")
    check(tmp_path, match=r"no shards in '.*': expected what camcli explain --shard wrote")
    run_shards(job, 4, [a], [1, 3])
    check(a, match="2 of 4 shards missing: 2, 4")
    shutil.copytree(a, b)
    check(a, b, match=r"shard 1/4 in '.*/a' is also in '.*/b': name one of them")
    run_shards(job, 3, [c], [2])
    check(a, c, match=r"shard 1/4 in '.*' is of 4 shards, shard 2/3 in '.*' of 3")
    shutil.rmtree(c)
    run_shards(replace(job, sources=job.sources[:-1]), 4, [c], [2])
    check(a, c, match=r"is of 11 images in all, shard 2/4 in '.*/c' of 10")
    shutil.rmtree(c)
    run_shards(replace(job, methods=("gradcam",)), 4, [c], [2])
    check(a, c, match=r'was made with methods \["gradcam", "cam"\], .* with \["gradcam"\]')
    (c / "shards" / "2-of-4.run.json").write_text("{}")
    check(a, c, match=r"2-of-4.run.json' is not a shard's record")
    shutil.rmtree(c)
    run_shards(job, 4, [c], [2, 4])
    (c / "shards" / "2-of-4.manifest.jsonl").write_text('{"image": "cut')
    check(a, c, match=r"2-of-4.manifest.jsonl' line 1: not JSON")


def test_the_merge_command(run: Run, tmp_path: Path) -> None:
    for i in range(3):
        make_photo(tmp_path / "in" / f"{i}.jpg")
    out = tmp_path / "out"
    explain = ("explain", tmp_path / "in", *TINY, "--batch-size", 1, "--output", out, "--shard")
    for number in range(1, 5):
        assert run(*explain, f"{number}/4").exit_code == 0, "the fourth has no images"
    found = run("merge", out)
    assert found.exit_code == 0
    assert stderr(found) == f"4 shards, 3 images -> {out}\n"
    found = run("merge", out, tmp_path / "in")
    assert found.exit_code == 2
    assert "2 folders: expected --output DIR" in stderr(found)
    make_photo(tmp_path / "in" / "2.png")
    for number in range(1, 5):
        assert run(*explain, f"{number}/4").exit_code == 0
    assert run("merge", out).exit_code == 0
    assert [row["map"] for row in manifest(out)] == [
        *("0.gradcam.npy", "1.gradcam.npy", "2.jpg.gradcam.npy", "2.png.gradcam.npy")
    ], "images of different shards have different files"
