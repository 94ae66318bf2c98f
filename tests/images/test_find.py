"""Folders, globs and single files as lists of images."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from camcli.errors import CamcliError
from camcli.images.decode import decode
from camcli.images.find import EVALUATION_FILES, RUN_FILES, find
from tests.support.files import SAMPLES, make_photo


def names(*paths: object, **options: object) -> list[str]:
    found = find([str(path) for path in paths], **options)  # type: ignore[arg-type]
    return [source.image for source in found]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("b.jpg", "a.PNG", "sub/c.webp", "sub/deep/d.jpg", ".hidden/e.jpg", ".f.jpg"):
        make_photo(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not an image")
    return tmp_path


def test_a_folder_yields_its_images_in_order(tree: Path) -> None:
    assert names(tree) == ["a.PNG", "b.jpg", "sub/c.webp", "sub/deep/d.jpg"]
    assert names(tree, recursive=False) == ["a.PNG", "b.jpg"]


def test_each_image_is_found_once(tree: Path) -> None:
    assert names(tree / "b.jpg", tree, tree / "b.jpg") == [
        *("b.jpg", "a.PNG", "sub/c.webp", "sub/deep/d.jpg")
    ]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["sub", "b.jpg"], ["sub/c.webp", "sub/deep/d.jpg", "b.jpg"]),
        (["sub/deep", "sub/c.webp"], ["deep/d.jpg", "c.webp"]),
        (["sub", "sub/deep/d.jpg"], ["c.webp", "deep/d.jpg"]),
        (["sub/../b.jpg", "b.jpg", "sub/c.webp"], ["b.jpg", "sub/c.webp"]),
        (["b.jpg", "-", "sub/c.webp"], ["b.jpg", "stdin", "sub/c.webp"]),
        (["sub/none.jpg", "b.jpg"], ["sub/none.jpg", "b.jpg"]),
    ],
)
def test_images_of_several_folders_are_named_below_the_common_one(
    given: list[str], expected: list[str], tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tree)
    assert names(*given) == expected
    assert names(*(tree / one if one != "-" else one for one in given)) == expected


def test_a_link_and_its_target_are_two_images(tree: Path) -> None:
    (tree / "link.jpg").symlink_to(tree / "b.jpg")
    (tree / "other").symlink_to(tree / "sub")
    assert names(tree / "b.jpg", tree / "link.jpg") == ["b.jpg", "link.jpg"]
    assert names(tree / "other" / "c.webp", tree / "sub" / "c.webp") == [
        *("other/c.webp", "sub/c.webp")
    ]
    (tree / "sub" / "b.jpg").symlink_to(tree / "b.jpg")
    assert names(tree / "other" / ".." / "b.jpg", tree / "b.jpg") == ["b.jpg"]


def test_globs(tree: Path) -> None:
    assert names(tree / "*.jpg") == ["b.jpg"]
    assert names(tree / "**" / "*.jpg") == ["b.jpg", "sub/deep/d.jpg"]
    odd = make_photo(tree / "odd [1] *.jpg")
    assert names(odd) == ["odd [1] *.jpg"], "the name of an existing file is not a pattern"
    assert names(tree / "none*.jpg") == ["none*.jpg"], "kept, so that reading it reports the error"


def test_an_empty_path_is_refused() -> None:
    with pytest.raises(CamcliError, match="an empty path"):
        names("")


@pytest.mark.parametrize("files", [RUN_FILES, EVALUATION_FILES])
def test_an_output_folder_is_refused(tree: Path, files: tuple[str, ...]) -> None:
    with pytest.raises(CamcliError, match="is an output folder: name its images"):
        names(tree, skip=tree / "sub" / "..")
    for file in files:
        assert names(tree), "all of the files mark an output folder"
        (tree / file).touch()
    with pytest.raises(CamcliError, match="is an output folder: name its images"):
        names(tree)


def test_output_folders_below_a_folder_are_left_out(tree: Path) -> None:
    make_photo(tree / "out" / "b.gradcam.png")
    assert "out/b.gradcam.png" in names(tree)
    assert "out/b.gradcam.png" not in names(tree, skip=tree / "out")
    (tree / "out" / "manifest.jsonl").touch()
    (tree / "out" / "run.json").touch()
    assert "out/b.gradcam.png" not in names(tree)


def test_a_loop_of_symbolic_links_is_followed_once(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tree / "sub" / "loop").symlink_to(tree)
    scandir, read = os.scandir, []
    monkeypatch.setattr(os, "scandir", lambda path: (read.append(path), scandir(path))[1])
    assert names(tree) == ["a.PNG", "b.jpg", "sub/c.webp", "sub/deep/d.jpg"]
    assert len(read) == 4, "the folder, sub, sub/deep and sub/loop"


def test_an_unreadable_folder_is_kept_as_a_source(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def locked(path: str) -> object:
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", locked)
    assert names(tree) == ["a.PNG", "b.jpg", "sub/c.webp", "sub/deep"]


def test_the_sample_images_are_readable_and_have_their_sources_listed() -> None:
    sources = find([str(SAMPLES)])
    assert len(sources) == 9
    assert "cat_dog.jpg" in {source.name.name for source in sources}
    for source in sources:
        assert decode(source.path).shape[2] == 3
    table = (SAMPLES / "SOURCES.md").read_text()
    for name in os.listdir(SAMPLES):
        assert name == "SOURCES.md" or name in table
