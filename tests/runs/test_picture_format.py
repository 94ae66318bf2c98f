"""Pictures in other formats than PNG: names, rows, resuming, scales and shards follow."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from camcli.errors import OutputError
from camcli.render import encode
from camcli.render.names import FORMATS
from camcli.runs import pipeline, resume
from camcli.runs.job import Job
from camcli.runs.merge import merge
from camcli.runs.outputs import OUTPUTS, named_files
from camcli.runs.shards import shard_of
from tests.support.command import TINY, Run, stdout
from tests.support.files import files, make_photo, manifest
from tests.support.jobs import changed, make_job

PHOTOS = {"a.jpg": (60, 40), "b.png": (40, 40), "sub/c.png": (50, 70)}
PILLOW = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP"}


@pytest.fixture(params=FORMATS)
def job(request: pytest.FixtureRequest, tmp_path: Path) -> Job:
    """Return a job that writes all kinds of files, with pictures in one format."""
    return make_job(
        tmp_path, PHOTOS, methods=("gradcam",), saves=(*OUTPUTS,), picture_format=request.param
    )


def endings(folder: Path) -> Counter[str]:
    return Counter(Path(name).suffix for name in files(folder))


def test_names_rows_and_files_have_the_format(job: Job) -> None:
    list(pipeline.run(job))
    for row in manifest(job.output):
        named = named_files(row)
        assert named.keys() == OUTPUTS.keys()
        for name, file in named.items():
            assert file.endswith(OUTPUTS[name].ending_in(job.picture_format))
            if OUTPUTS[name].picture:
                with Image.open(job.output / file) as picture:
                    assert picture.format == PILLOW[job.picture_format]
    found = endings(job.output)
    assert found[f".{job.picture_format}"] == 12
    assert found.keys() == {f".{job.picture_format}", ".npy", ".jsonl"}


def test_the_record_names_the_encoder(job: Job) -> None:
    list(pipeline.run(job))
    record = json.loads((job.output / "run.json").read_bytes())
    package = encode.package_of(job.picture_format)
    assert record["format"] == job.picture_format
    assert record["encoder"] == f"{package} {version(package)}"
    assert record["versions"][package] == version(package)


def test_results_of_another_encoder_are_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(tmp_path, PHOTOS)
    if encode.isal_zlib is None:
        pytest.skip("isal is not installed or not used on this machine")
    own = job.environment
    monkeypatch.setattr(encode, "isal_zlib", None)
    assert replace(job).environment != own
    assert replace(job).settings == job.settings


def test_existing_results_are_kept(job: Job) -> None:
    list(pipeline.run(job))
    pictures = [*job.output.rglob("*.gradcam*")]
    before = [file.stat().st_ino for file in pictures]  # a file that is written again is another
    list(pipeline.run(changed(job, skip_existing=True)))
    assert [file.stat().st_ino for file in pictures] == before


def test_another_format_is_refused_until_it_replaces_the_first(job: Job, tmp_path: Path) -> None:
    list(pipeline.run(job))
    others = [one for one in FORMATS if one != job.picture_format]
    for other in others:
        again = replace(job, picture_format=other)
        with pytest.raises(OutputError, match=f"format {job.picture_format}, here {other}"):
            next(pipeline.run(changed(again, skip_existing=True)))
    saves = ("map", "overlay")
    again = changed(job, picture_format=others[0], saves=saves, overwrite=True)
    list(pipeline.run(again))
    assert endings(job.output) == {f".{others[0]}": 3, ".npy": 3, ".jsonl": 1}
    fresh = replace(again, output=tmp_path / "fresh")
    list(pipeline.run(fresh))
    assert files(fresh.output) == files(job.output)


def test_a_folder_from_before_formats_goes_on_with_png(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(tmp_path, PHOTOS)
    with monkeypatch.context() as before:
        earlier = {name: value for name, value in resume.LATER.items() if name != "format"}
        before.setattr(resume, "LATER", earlier)
        digest = job.settings
    assert replace(job).settings == digest


def test_one_scale_redraws_pictures_in_their_format(job: Job) -> None:
    job = replace(job, scale="run", saves=("map", "overlay", "heatmap"))
    list(pipeline.run(job))
    for row in manifest(job.output):
        assert row["top"]
        with Image.open(job.output / row["heatmap"]) as picture:
            assert picture.format == PILLOW[job.picture_format]
            bright = np.asarray(picture).max()
        assert bright > 40


def test_shards_merge_to_one_run(job: Job, tmp_path: Path) -> None:
    list(pipeline.run(job))
    for number in (1, 2):
        sources, shard = shard_of(job.sources, f"{number}/2", job.inputs.batch_size)
        output = tmp_path / "shards"
        list(pipeline.run(replace(job, sources=sources, shard=shard, output=output)))
    merge([tmp_path / "shards"], tmp_path / "merged")
    merged = {k: v for k, v in files(tmp_path / "merged").items() if not k.startswith("shards/")}
    assert merged == files(job.output)


def test_a_jpeg_is_not_written_over_an_input(tmp_path: Path, run: Run) -> None:
    for name in ("a.jpg", "a.gradcam.jpg"):
        make_photo(tmp_path / name)
    arguments = ("explain", tmp_path / "a.jpg", tmp_path / "a.gradcam.jpg", *TINY)
    found = run(*arguments, "--output", tmp_path, "--format", "jpg")
    assert found.exit_code == 2
    assert b"a.gradcam.jpg' is an input and would be written over" in found.stderr_bytes
    assert run(*arguments, "--output", tmp_path, "--dry-run").exit_code == 0


def test_the_command_the_report_and_the_check_take_them(tmp_path: Path, run: Run) -> None:
    photo, out = make_photo(tmp_path / "in" / "a.jpg"), tmp_path / "out"
    command = ("explain", photo, *TINY, "--save", "overlay,map,panel", "--format", "jpg")
    listed = stdout(run(*command, "--output", out, "--dry-run"))
    assert listed.count(".jpg\n") == 2
    assert run(*command, "--output", out).exit_code == 0
    assert all(f"{out / name}\n" in listed for name in files(out) if "gradcam" in name)
    assert cv2.imread(str(out / "a.gradcam.panel.jpg")) is not None
    assert run("report", out, "--sheet", tmp_path / "sheet.png").exit_code == 0
    assert "a.gradcam.jpg" in (out / "report.html").read_text()
    shutil.copytree(out, tmp_path / "copy")
    assert run("check", out, tmp_path / "copy").exit_code == 0
