"""Commands on a server of the S3 protocol: killed and run again, and those that take no store."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command import TINY, Run, refused, stdout
from tests.support.files import files, make_photo
from tests.support.s3 import S3, Fault, url
from tests.support.stores import stored, upload
from tests.support.waiting import wait_until

OPTIONS = (*TINY, "--batch-size", "2", "--workers", "1", "--fit", "squash")


def make_photos(folder: Path) -> Path:
    for i in range(6):
        make_photo(folder / f"{i}.jpg", 60 + i, 50)
    return folder


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_run_is_continued(s3: S3, run: Run, tmp_path: Path, number: int) -> None:
    """It ends while the store does not answer: each object is whole, and the rest is added."""
    photos = make_photos(tmp_path / "in")
    assert run("explain", photos, *OPTIONS, "--output", tmp_path / "out").exit_code == 0
    upload(photos, s3.folder / "in")
    held = Fault("silent", "PUT", "out/3.gradcam")
    s3.fail(held)
    arguments = ["explain", url(s3.folder / "in"), *OPTIONS, "--output", url(s3.folder / "out")]
    command = [sys.executable, "-m", "camcli", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        wait_until(lambda: held.times == 0)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == (143 if number == signal.SIGTERM else -number), errors
    whole, found = files(tmp_path / "out"), stored(s3.folder / "out")
    pictures = {name: data for name, data in found.items() if name.startswith(tuple("012345"))}
    assert 0 < len(pictures) < 12
    assert pictures.items() <= whole.items()
    s3.proxy.silence.set()
    again = run(*arguments, "--skip-existing")
    assert again.exit_code == 0, again.stderr_bytes
    assert stored(s3.folder / "out") == whole


def test_shards_merge(s3: S3, run: Run, tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "in")
    assert run("explain", photos, *OPTIONS, "--output", tmp_path / "out").exit_code == 0
    upload(photos, s3.folder / "in")
    output = url(s3.folder / "out")
    for shard in ("1/2", "2/2"):
        given = (url(s3.folder / "in"), *OPTIONS, "--output", output, "--shard", shard)
        assert run("explain", *given).exit_code == 0
    found = run("merge", output)
    assert found.exit_code == 0, found.stderr_bytes
    assert b"secret" not in found.stderr_bytes
    merged = stored(s3.folder / "out").items()
    assert {k: v for k, v in merged if not k.startswith("shards/")} == files(tmp_path / "out")


def test_images_on_a_store_are_measured(s3: S3, run: Run, tmp_path: Path) -> None:
    """The second evaluation replaces the plots of the first."""
    photos = make_photos(tmp_path / "in")
    upload(photos, s3.folder / "in")
    few = (*TINY, "--curve-steps", "2", "--method", "cam", "--limit", "2", "--json")
    for metric in ("insertion", "deletion"):
        s3.fail(Fault("slow down", "GET", times=3), Fault("broken", "PUT", times=2))
        pairs = (url(s3.folder / "in"), url(s3.folder / "out")), (photos, tmp_path / "out")
        found, expected = (
            run("evaluate", at, *few, "--metric", metric, "--output", output)
            for at, output in pairs
        )
        assert found.exit_code == 0, found.stderr_bytes
        assert b"secret" not in found.stderr_bytes
        records = [json.loads(stdout(one)) for one in (found, expected)]
        for record in records:
            record.pop("seconds", None)
        assert records[0] == records[1]
        assert stored(s3.folder / "out") == files(tmp_path / "out")


@pytest.mark.parametrize(
    "arguments",
    [
        ["check", ".", ".", "--diff", "s3://key:secret@b/out"],
        ["compare", ".", ".", "--output", "s3://key:secret@b/out"],
        ["audit", ".", "--class-map", "s3://key:secret@b/out"],
        ["figure", "s3://key:secret@b/out"],
    ],
)
def test_commands_that_take_no_store_say_so(
    arguments: list[str], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    line = refused(run(*arguments))
    assert line.endswith("'s3://b/out' is on a store: expected a path on this machine")
    assert not [*tmp_path.iterdir()]
