"""Options of `camcli explain` that select images: lists, globs and shards."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.support.command import TINY, Run, refused
from tests.support.files import make_photo, manifest

ODD_NAMES = ("a b.jpg", "new\nline.jpg", "'\".jpg", "\U0001f600.jpg", os.fsdecode(b"\xff.jpg"))
"""File names that lists, shells and terminals have trouble with."""


@pytest.fixture
def selected(tmp_path: Path) -> tuple[object, ...]:
    """Arguments that list images with odd names and two more, which the globs leave out."""
    for name in (*ODD_NAMES, "left.jpg", "bad.png"):
        make_photo(tmp_path / "in" / name)
    paths = [os.fsencode(tmp_path / "in" / name) for name in (*ODD_NAMES, "left.jpg", "bad.png")]
    (tmp_path / "list").write_bytes(b"\0".join(paths))
    globs = ("--exclude", "l*", "--include", "*.jpg")
    return "explain", "--from-file", tmp_path / "list", *globs, "--output", tmp_path / "out"


def test_a_dry_run_prints_the_files_and_loads_no_model(
    selected: tuple[object, ...], run: Run, tmp_path: Path
) -> None:
    found = run(*selected, "--model", "no such model", "--dry-run", "--save", "map")
    assert found.exit_code == 0
    assert not (tmp_path / "out").exists()
    stems = (name[:-4] for name in ODD_NAMES)
    lines = (f"{tmp_path}/in/{s}.jpg -> {tmp_path}/out/{s}.gradcam.npy\n" for s in stems)
    assert sorted(found.stdout_bytes) == sorted(b"".join(map(os.fsencode, lines)))
    assert os.fsencode(f"{tmp_path}/in/new\nline.jpg -> {tmp_path}/out/") in found.stdout_bytes


def test_listed_images_are_explained_and_recorded(
    selected: tuple[object, ...], run: Run, tmp_path: Path
) -> None:
    found = run(*selected, *TINY)
    assert found.exit_code == 0, found.stderr_bytes
    assert [row["image"] for row in manifest(tmp_path / "out")] == sorted(ODD_NAMES)
    for name in ODD_NAMES:
        assert (tmp_path / "out" / f"{name[:-4]}.gradcam.png").exists()


def test_a_shard_explains_its_batches(
    selected: tuple[object, ...], run: Run, tmp_path: Path
) -> None:
    assert run(*selected, *TINY, "--shard", "2/2", "--batch-size", 2).exit_code == 0
    rows = (tmp_path / "out" / "shards" / "2-of-2.manifest.jsonl").read_text().splitlines()
    assert [json.loads(row)["image"] for row in rows] == sorted(ODD_NAMES[2:4])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no PATHS: expected files, folders, globs, - or --from-file LIST"),
        (["--from-file", "none"], "--from-file 'none': No such file or directory"),
        (["in", "--include", "*.gif"], "no images in in: nothing to do"),
        (["in", "--shard", "3/2"], "--shard '3/2': expected I/N"),
    ],
)
def test_wrong_usage_is_one_line(
    arguments: list[str], message: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_photo(tmp_path / "in" / "a.jpg")
    assert message in refused(run("explain", *TINY, *arguments))


def test_a_list_cannot_write_outside_the_output_folder(run: Run, tmp_path: Path) -> None:
    """Names are those below the folder that holds all images."""
    make_photo(tmp_path / "photo.jpg")
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "link.jpg").symlink_to(tmp_path / "photo.jpg")
    given = [tmp_path / "deep" / ".." / "photo.jpg", "/../" * 3 + str(tmp_path / "photo.jpg")]
    given.append(tmp_path / "deep" / "er" / "link.jpg")
    (tmp_path / "list").write_text("\n".join(map(str, given)))
    before = set(tmp_path.rglob("*"))
    found = run("explain", "--from-file", tmp_path / "list", *TINY, "--output", tmp_path / "out")
    assert found.exit_code == 0, found.stderr_bytes
    new = set(tmp_path.rglob("*")) - before
    assert all(path.is_relative_to(tmp_path / "out") for path in new)
    assert [row["image"] for row in manifest(tmp_path / "out")] == [
        *("deep/er/link.jpg", "photo.jpg")
    ]
