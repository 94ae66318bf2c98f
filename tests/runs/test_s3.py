"""Runs on a server of the S3 protocol: the bytes of a local folder, whatever the store does."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from camcli.errors import CamcliWarning, OutputError
from camcli.runs import manifest, pipeline
from camcli.runs.job import Job
from camcli.runs.merge import merge
from camcli.runs.shards import shard_of
from tests.support.jobs import changed, make_job
from tests.support.s3 import S3, Fault, expected, on_s3
from tests.support.stores import stored

IMAGES = 7


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """Six photos in folders and a damaged one, in batches of three, explained in `tmp_path/out`."""
    names = ("z.png", "a b.jpg", "sub/x.jpg", "sub/deep/y.jpg", "sub-1/w.jpg", "ü%20.jpg")
    photos = {name: (60 + i, 50) for i, name in enumerate(names)} | {"bad.jpg": None}
    job = make_job(tmp_path, photos, batch_size=3, workers=2)
    list(pipeline.run(job))
    return job


def test_a_run_writes_the_same_bytes_with_the_requests_that_scaling_md_states(
    job: Job, s3: S3, tmp_path: Path
) -> None:
    """One HEAD and one GET for an image, one PUT for a file, one listing of the output folder."""
    remote = on_s3(job, s3, tmp_path)
    list(pipeline.run(remote))
    assert s3.count("in/") == {"HEAD": IMAGES, "GET": IMAGES}
    assert s3.count("out/") - s3.count("out/.camcli/") - s3.count("out/shards") == {
        "PUT": (IMAGES - 1) * 2 + 2,  # manifest.jsonl and run.json
        "HEAD": 2,  # are there a manifest and a run.json
    }
    listed = [one.query for one in s3.requests if one.query.endswith("prefix=out%2F")]
    assert len(listed) == 1
    assert stored(remote.output) == expected(tmp_path, s3)
    s3.requests.clear()
    list(pipeline.run(changed(remote, skip_existing=True)))
    read_again = 2  # the others of the damaged image's batch
    assert s3.count("in/") == {"HEAD": IMAGES + read_again, "GET": IMAGES + read_again}
    written = [one.key for one in s3.requests if one.method == "PUT" and ".camcli" not in one.key]
    assert written == ["out/manifest.jsonl", "out/run.json"]
    assert stored(remote.output) == expected(tmp_path, s3)


FAULTS = ("slow down", "broken", "dropped", "truncated")


def test_faults_do_not_change_the_bytes(job: Job, s3: S3, tmp_path: Path) -> None:
    """Every kind of request fails twice in each way, of reading, of listing and of writing."""
    remote = on_s3(job, s3, tmp_path)
    kinds = [*itertools.product(FAULTS, ("GET", "HEAD", "LIST", "PUT", "DELETE"))]
    s3.fail(*(Fault(what, kind, times=2) for what, kind in kinds))
    list(pipeline.run(remote))
    assert stored(remote.output) == expected(tmp_path, s3)
    assert not any(f.times for f in s3.proxy.faults if f.kind in ("GET", "PUT"))


@pytest.mark.parametrize(("what", "kind"), [("gone", "GET"), ("gone", "HEAD"), ("denied", "GET")])
def test_an_image_that_vanishes_is_one_line_of_the_manifest(
    job: Job, s3: S3, tmp_path: Path, what: str, kind: str
) -> None:
    remote = on_s3(job, s3, tmp_path)
    s3.fail(Fault(what, kind, "in/sub/x.jpg"))
    found = [row for rows in pipeline.run(remote) for row in rows if row["status"] == "error"]
    assert [row["image"] for row in found] == ["bad.jpg", "sub/x.jpg"]
    assert found[1]["error"].startswith(f"s3://{s3.bucket}/in/sub/x.jpg: ")
    assert "\n" not in found[1]["error"]
    assert not [name for name in stored(remote.output) if name.startswith("sub/x")]
    list(pipeline.run(changed(remote, skip_existing=True)))
    assert stored(remote.output) == expected(tmp_path, s3)


def test_a_file_that_cannot_be_written_is_one_line_of_the_manifest(
    job: Job, s3: S3, tmp_path: Path
) -> None:
    remote = on_s3(job, s3, tmp_path)
    s3.fail(Fault("denied", "PUT", "out/sub/x.gradcam.npy"))
    found = [row for rows in pipeline.run(remote) for row in rows if row["status"] == "error"]
    assert [row["image"] for row in found] == ["bad.jpg", "sub/x.jpg"]
    assert "cannot write 's3://" in found[1]["error"]
    list(pipeline.run(changed(remote, skip_existing=True)))
    assert stored(remote.output) == expected(tmp_path, s3)


@pytest.mark.parametrize("kind", ["GET", "HEAD"])
def test_earlier_rows_that_cannot_be_read_are_not_lost(
    job: Job, s3: S3, tmp_path: Path, kind: str
) -> None:
    remote = on_s3(job, s3, tmp_path)
    list(pipeline.run(remote))
    s3.fail(Fault("denied", kind, "out/manifest.jsonl"))
    with pytest.raises(OutputError, match=r"^cannot read 's3://.*/out/manifest.jsonl': .*DENIED"):
        list(pipeline.run(changed(remote, skip_existing=True, sources=remote.sources[:2])))
    assert stored(remote.output) == expected(tmp_path, s3)


def test_a_part_of_the_journal_is_sent_later(
    job: Job, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest, "JOURNAL_SECONDS", 0.0)
    remote = on_s3(job, s3, tmp_path)
    s3.fail(Fault("denied", "PUT", "-000001.manifest.jsonl"))
    run = pipeline.run(remote)
    next(run)
    with pytest.warns(CamcliWarning, match=r"cannot write 's3://.*-000001.manifest.*DENIED"):
        next(run)
    next(run)
    parts = sorted((remote.output / ".camcli").glob("*-00000*.manifest.jsonl"), key=str)
    assert [part.read_bytes().count(b"\n") for part in parts] == [1, 2]
    list(run)
    assert stored(remote.output) == expected(tmp_path, s3)


def test_a_run_that_ends_while_its_mark_is_read_is_no_error(
    job: Job, s3: S3, tmp_path: Path
) -> None:
    remote = on_s3(job, s3, tmp_path)
    mark = remote.output / ".camcli" / ".camcli-7@elsewhere.manifest.jsonl.running"
    mark.write_bytes(b"0")
    s3.fail(Fault("gone", "HEAD", mark.name))
    list(pipeline.run(remote))


def test_shards_on_s3_merge(job: Job, s3: S3, tmp_path: Path) -> None:
    remote = on_s3(job, s3, tmp_path)
    for number in (1, 2):
        sources, shard = shard_of(remote.sources, f"{number}/2", job.inputs.batch_size)
        list(pipeline.run(replace(remote, sources=sources, shard=shard)))
    s3.fail(*(Fault(what, kind) for what in FAULTS for kind in ("GET", "PUT", "LIST")))
    merge([remote.output], remote.output)
    found = {k: v for k, v in stored(remote.output).items() if not k.startswith("shards/")}
    assert found == expected(tmp_path, s3)
