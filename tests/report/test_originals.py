"""Finding the explained images, and their thumbnails."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from camcli.errors import ImageError
from camcli.images.decode import decode, thumbnail
from camcli.report import originals
from camcli.runs.originals import CHANGED
from tests.support.command import Run, stderr
from tests.support.files import make_photo
from tests.support.report import read_page, write_manifest


def test_a_nearby_file_with_other_bytes_is_not_shown(
    run: Run, folder: Path, tmp_path: Path
) -> None:
    make_photo(tmp_path / "photos" / "plain.jpg", quality=20)
    assert "originals not found in --images or near the folder: 1 of 3" in stderr(
        run("report", folder)
    )
    plain = read_page(folder).image("plain.jpg")
    assert plain["size"] == [90, 60], "read from the overlay"
    assert "thumbnail" not in plain
    assert "original" not in plain


def test_a_named_file_with_other_bytes_is_shown_with_a_note(
    run: Run, folder: Path, tmp_path: Path
) -> None:
    make_photo(tmp_path / "photos" / "plain.jpg", quality=20)
    found = run("report", folder, "--images", tmp_path / "photos")
    assert "originals that differ from the explained files: 1 of 3" in stderr(found)
    plain = read_page(folder).image("plain.jpg")
    assert plain["note"] == CHANGED
    assert plain["thumbnail"].startswith("data:image/webp;base64,")


def test_a_named_file_of_another_size_is_not_shown(run: Run, folder: Path, tmp_path: Path) -> None:
    photo = make_photo(tmp_path / "photos" / "plain.jpg", width=50)
    run("report", folder, "--images", tmp_path / "photos")
    plain = read_page(folder).image("plain.jpg")
    assert plain["note"] == f"{photo} has another size: not shown"
    assert "thumbnail" not in plain


@pytest.mark.parametrize("name", ["{}/photos/plain.jpg", "../photos/plain.jpg"])
def test_names_that_leave_the_folder_are_not_looked_for(
    name: str, run: Run, folder: Path, tmp_path: Path
) -> None:
    name = name.format(tmp_path)
    write_manifest(folder, [{"image": name, "method": "m", "target": "t", "status": "ok"}])
    assert run("report", folder, "--images", tmp_path / "photos").exit_code == 0
    assert read_page(folder).image(name).keys() == {"name", "results"}


def test_thumbnails_are_upright_and_know_the_originals_size(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    photo = make_photo(tmp_path / "turned.jpg", 400, 200, exif=exif)
    picture, size = thumbnail(photo, 50)
    small = picture.pixels
    whole = decode(photo)
    assert small.shape == (50, 25, 3)
    assert size == (whole.shape[1], whole.shape[0]) == (200, 400)
    expected = np.asarray(Image.fromarray(whole).resize((25, 50), Image.Resampling.BOX), float)
    assert np.abs(small - expected).mean() < 5


def test_a_thumbnail_of_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(ImageError, match=r"empty\.jpg: the file is empty"):
        thumbnail(tmp_path / "empty.jpg", 50)


def test_the_size_of_thumbnails_follows_the_budget() -> None:
    assert originals.thumbnail_side(10, 32_000_000) == originals.MAX_SIDE
    assert originals.thumbnail_side(10_000, 32_000_000) == 141
    assert originals.thumbnail_side(10_000_000, 32_000_000) == originals.MIN_SIDE
