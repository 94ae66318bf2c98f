"""Shards and their merging: the records of a run of all, byte for byte, or a line that says why."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import Result

from camcli import Model
from camcli.errors import CamcliError
from camcli.images.find import find
from camcli.images.preprocess import Preset
from camcli.runs import pipeline
from camcli.runs.job import Job
from camcli.runs.merge import merge
from camcli.runs.options import InputOptions
from camcli.runs.shards import shard_of
from tests.support.files import files, make_photo
from tests.support.jobs import changed
from tests.support.networks import GapNet

Run = Callable[..., Result]


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """Eleven photos, one damaged, in batches of two: the last has one image."""
    torch.manual_seed(0)
    for i in range(11):
        make_photo(tmp_path / "in" / f"{i:02}.jpg", 40 + 3 * i, 40)
    (tmp_path / "in" / "05.jpg").write_text("no image")
    return Job(
        sources=find([str(tmp_path / "in")]),
        model=Model(GapNet(), preset=Preset(40, 32), num_classes=5),
        methods=("gradcam", "cam"),
        targets=("pred",),
        output=tmp_path / "out",
        saves=("map",),
        inputs=InputOptions(batch_size=2, workers=1),
    )


def shards(job: Job, count: int, folders: Sequence[Path], numbers: Sequence[int] = ()) -> None:
    """Run the shards, each into the next of the folders."""
    for number in numbers or range(1, count + 1):
        sources, shard = shard_of(job.sources, f"{number}/{count}", job.inputs.batch_size)
        output = folders[number % len(folders)]
        list(pipeline.run(replace(job, sources=sources, shard=shard, output=output)))


def results(folder: Path) -> dict[str, bytes]:
    """Without the shards' own records."""
    return {name: data for name, data in files(folder).items() if not name.startswith("shards/")}


@pytest.mark.parametrize("count", [1, 3, 8])
def test_a_shared_folder_becomes_that_of_a_run_of_all(job: Job, count: int, tmp_path: Path) -> None:
    """Also where there are more shards than batches."""
    list(pipeline.run(job))
    shards(job, count, [tmp_path / "shared"])
    assert not (tmp_path / "shared" / "manifest.jsonl").exists()
    found, counts = merge([tmp_path / "shared"], tmp_path / "shared")
    assert (found, counts["images"], counts["error"]) == (count, 11, 2)
    assert results(tmp_path / "shared") == results(tmp_path / "out")
    records = [json.loads((tmp_path / name / "run.json").read_text()) for name in ("out", "shared")]
    for record in records:
        record.pop("started"), record.pop("seconds")
    assert records[0] == records[1]


def test_folders_of_their_own_are_joined_in_another(job: Job, tmp_path: Path) -> None:
    list(pipeline.run(job))
    folders = [tmp_path / name for name in "abc"]
    shards(job, 3, folders)
    merge(folders, tmp_path / "joined")
    assert results(tmp_path / "joined") == results(tmp_path / "out")
    merge([tmp_path / "joined"], tmp_path / "joined")
    assert results(tmp_path / "joined") == results(tmp_path / "out"), "once more"


def test_a_shard_goes_on_beside_others_that_run(job: Job, tmp_path: Path) -> None:
    """It neither takes nor sweeps what is theirs, nor do they what is its."""
    shared = tmp_path / "shared"
    sources, shard = shard_of(job.sources, "2/3", job.inputs.batch_size)
    part = replace(job, sources=sources, shard=shard, output=shared)
    run = pipeline.run(part)
    next(run)
    shards(job, 3, [shared], [1, 3])
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
    assert results(shared) == before, "a run of all trusts what its shards did"


def test_what_does_not_belong_together(job: Job, tmp_path: Path) -> None:
    def refused(*folders: Path, match: str) -> None:
        with pytest.raises(CamcliError, match=match):
            merge(folders, tmp_path / "joined")
        assert not (tmp_path / "joined").exists()

    a, b, c = (tmp_path / name for name in "abc")
    refused(tmp_path, match=r"no shards in '.*': expected what camcli explain --shard wrote")
    shards(job, 4, [a], [1, 3])
    refused(a, match="2 of 4 shards missing: 2, 4")
    shutil.copytree(a, b)
    refused(a, b, match=r"shard 1/4 in '.*/a' is also in '.*/b': name one of them")
    shards(job, 3, [c], [2])
    refused(a, c, match=r"shard 1/4 in '.*' is of 4 shards, shard 2/3 in '.*' of 3")
    shutil.rmtree(c)
    shards(replace(job, sources=job.sources[:-1]), 4, [c], [2])
    refused(a, c, match=r"is of 11 images in all, shard 2/4 in '.*/c' of 10")
    shutil.rmtree(c)
    shards(replace(job, methods=("gradcam",)), 4, [c], [2])
    refused(a, c, match=r"was made with methods \['gradcam', 'cam'\], .* with \['gradcam'\]")
    (c / "shards" / "2-of-4.run.json").write_text("{}")
    refused(a, c, match=r"2-of-4.run.json' is not a shard's record")
    shutil.rmtree(c)
    shards(job, 4, [c], [2, 4])
    (c / "shards" / "2-of-4.manifest.jsonl").write_text('{"image": "cut')
    refused(a, c, match=r"2-of-4.manifest.jsonl' is not a manifest")


def test_from_the_command_line(run: Run, tmp_path: Path) -> None:
    for i in range(3):
        make_photo(tmp_path / "in" / f"{i}.jpg")
    tiny = ("--model", "squeezenet1_1", "--weights", "none", "--device", "cpu", "--batch-size", 1)
    out = tmp_path / "out"
    for number in range(1, 5):
        arguments = ("explain", tmp_path / "in", *tiny, "--shard", f"{number}/4", "--output", out)
        assert run(*arguments).exit_code == 0, "the fourth has nothing to do"
    found = run("merge", out)
    assert found.exit_code == 0
    assert found.stderr_bytes.decode() == f"4 shards, 3 images -> {out}\n"
    found = run("merge", out, tmp_path / "in")
    assert found.exit_code == 2
    assert b"2 folders: expected --output DIR" in found.stderr_bytes
    make_photo(tmp_path / "in" / "2.png")
    found = run("explain", tmp_path / "in", *tiny, "--shard", "1/4", "--output", out)
    assert b"would write the same files" in found.stderr_bytes, "though in another shard"
