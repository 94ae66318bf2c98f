"""The page of `camcli compare`: pictures of both maps, names that are text, and its size limit."""

from __future__ import annotations

import base64
import io
import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from camcli.images.decode import decode
from camcli.images.geometry import Crop, Pixels
from camcli.images.store import RemotePath
from camcli.render.draw import overlay
from camcli.render.style import Style
from camcli.report.compare_pictures import Painter, Picture
from camcli.runs.manifest import read_run
from camcli.runs.originals import Search
from camcli.snapshots.networks import contrasts
from tests.support.command import Run, stdout
from tests.support.files import make_photo, manifest
from tests.support.report import (
    CROP,
    HOSTILE_CLASS,
    HOSTILE_NAME,
    MAP,
    ODD_NAME,
    PageParser,
    make_output_folder,
    write_manifest,
)
from tests.support.stores import upload


def make_pair(top: Path) -> tuple[Path, Path]:
    """Write two output folders beside their photos; in B the map of one image is another."""
    a = make_output_folder(top)
    b = make_output_folder(top / "other").rename(top / "b")
    np.save(b / "plain.gradcam.npy", MAP[::-1])
    rows = manifest(b)
    for row in rows:
        row |= {"class_name": "fox", "probability": 0.75} if row["image"] == "plain.jpg" else {}
        row |= {"correct": False, "true_name": "ox"}
    write_manifest(b, rows)
    write_manifest(a, [row | {"correct": True, "true_name": "ox"} for row in manifest(a)])
    return a, b


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return make_pair(tmp_path)


def written(
    run: Run, pair: tuple[Any, ...], *options: Any, output: Path | None = None
) -> tuple[str, PageParser]:
    output = output or pair[0].parent / "cmp"
    found = run("compare", *pair, "--output", output, *options)
    assert found.exit_code == 0
    page = (output / "compare.html").read_text()
    return page, PageParser(page)


def rows_of(page: PageParser) -> list[dict[str, str | None]]:
    return [found for tag, found in page.elements if tag == "tr" and "data-number" in found]


def test_rows_in_the_order_of_disagreement(run: Run, pair: tuple[Path, Path]) -> None:
    _, page = written(run, pair)
    rows = rows_of(page)
    assert len(rows) == 8
    assert [row["data-name"] for row in rows[:2]] == ["plain.jpg"] * 2
    assert rows[0]["data-show"] == "differ a explained"
    correlations = [row.get("data-correlation") for row in rows]
    assert float(correlations[0] or 1) < 0.9
    assert correlations[1:4] == ["1.000000"] * 3
    assert correlations[4:] == [None] * 4, "empty maps and failed images"


def test_every_picture_has_a_text(run: Run, pair: tuple[Path, Path]) -> None:
    _, page = written(run, pair)
    pictures = [found for tag, found in page.elements if tag == "img"]
    assert len(pictures) == 12, "those of failed images are missing"
    assert all((one["src"] or "").startswith("data:image/webp;base64,") for one in pictures)
    texts = [one["alt"] or "" for one in pictures]
    assert texts[0] == f"A: gradcam for {HOSTILE_CLASS}, plain.jpg"
    assert texts[1] == "B: gradcam for fox, plain.jpg"
    assert all(texts)


def test_names_are_never_markup(run: Run, pair: tuple[Path, Path]) -> None:
    for folder in pair:
        record = json.loads((folder / "run.json").read_text())
        record["model"] = "</title><script>window.hit=1</script>"
        (folder / "run.json").write_text(json.dumps(record))
    text, page = written(run, pair)
    assert [tag for tag, _ in page.elements].count("script") == 1
    assert not [tag for tag, found in page.elements if {"onerror", "style"} & set(found)]
    assert page.texts["h1"][0].startswith("</title>")
    assert HOSTILE_CLASS not in text.replace(page.texts["script"][0], "")
    names = {row["data-name"] for row in rows_of(page)}
    assert {HOSTILE_NAME, ODD_NAME} < names
    policy = next(a["content"] for tag, a in page.elements if tag == "meta" and "http-equiv" in a)
    assert policy is not None
    assert "default-src 'none'" in policy


def test_the_script_sets_text_and_no_html() -> None:
    source = (files("camcli.report") / "compare.js").read_text()
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", source)
    assert not re.search(r"https?:", source)


def test_the_page_fits_its_size(
    run: Run, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, page = written(run, pair)
    assert "the page shows" not in whole
    one = max(len(found["src"] or "") for tag, found in page.elements if tag == "img")
    for name, value in {"MEGABYTE": 7 * one, "_MARKUP": 100, "_BYTES_PER_ROW": 110}.items():
        monkeypatch.setattr(f"camcli.report.compare_page.{name}", value)
    text, page = written(run, pair, "--size", 1)
    shown = len(rows_of(page))
    assert 0 < shown < 8
    assert f"the page shows the {shown} results that disagree most, of 8: a larger --size" in text


def test_photos_that_are_not_found(run: Run, pair: tuple[Path, Path], tmp_path: Path) -> None:
    text, _ = written(run, pair)
    assert "for 2 of 8 results: their maps" in text, "the failed image does not exist"
    for name in ("photos", "other/photos"):
        (tmp_path / name).rename(tmp_path / name.replace("photos", ".hidden"))
    text, page = written(run, pair)
    assert "for 8 of 8 results: their maps are shown alone" in text
    assert [tag for tag, _ in page.elements].count("img") == 12
    text, _ = written(run, pair, "--images", tmp_path / ".hidden")
    assert "for 2 of 8 results: their maps" in text


def painter(a: Path, b: Path, side: int = 90) -> Painter:
    searches = tuple(Search.of(one, read_run(one)[0]) for one in (a, b))
    return Painter((a, b), searches, (Style(), Style()), side)  # type: ignore[arg-type]


def pixels_of(picture: Picture | None) -> Any:
    assert picture
    with Image.open(io.BytesIO(picture.data)) as image:
        assert image.size == picture.size
        return np.asarray(image.convert("RGB")).astype(int)


def test_a_picture_is_the_overlay_at_its_size(pair: tuple[Path, Path], tmp_path: Path) -> None:
    plain = next(one for one in contrasts(*pair) if one.row["image"] == "plain.jpg")
    drawn = painter(*pair).draw(plain)
    photo = decode(tmp_path / "photos" / "plain.jpg")
    for picture, values in ((drawn.a, MAP), (drawn.b, MAP[::-1])):
        expected = overlay(photo, np.ascontiguousarray(values), Crop(*CROP), Style(), signed=False)
        assert np.abs(pixels_of(picture) - expected).mean() < 6, "WebP is lossy"


def _parts(pixels: Pixels) -> tuple[Pixels, Pixels]:
    return pixels[:, :6], pixels[:, 8:37]


def test_a_smaller_picture_keeps_the_place_of_the_crop(pair: tuple[Path, Path]) -> None:
    plain = next(one for one in contrasts(*pair) if one.row["image"] == "plain.jpg")
    for found in (painter(*pair, side=45).draw(plain), painter(*pair, side=45).draw(plain)):
        pixels = pixels_of(found.a)
        assert pixels.shape == (30, 45, 3)
        outside, seen = (np.ptp(part.astype(int), axis=2).mean() for part in _parts(pixels))
        assert outside < 5 < seen, "grey outside of the crop"


@pytest.mark.parametrize(
    "fields",
    [
        {"crop": [89, 0, 90, 60]},
        {"crop": [0, 59, 90, 60]},
        {"crop": [0, 0, 2**53, 2**53]},
        {"crop": [2**53 - 1, 0, 2**53, 1]},
        {"crop": [0, 0, 90, 60], "size": [0, 0]},
        {"crop": None},
        {"crop": CROP, "size": [1, 100_000]},
        {"words": [["a", 0.5]]},
        {"map": "gone.npy"},
        {"method": "of a plugin"},
    ],
    ids=str,
)
def test_any_row_is_drawn_or_left_out(
    fields: dict[str, Any], pair: tuple[Path, Path], tmp_path: Path
) -> None:
    """With and without its photo."""
    for folder in pair:
        write_manifest(folder, [manifest(folder)[0] | fields])
    for name in ("photos", ".hidden"):
        (tmp_path / "photos").exists() and (tmp_path / "photos").rename(tmp_path / name)
        (found,) = contrasts(*pair)
        drawn = painter(*pair, side=30).draw(found)
        for picture in filter(None, (drawn.a, drawn.b)):
            assert max(pixels_of(picture).shape) <= 30
        (tmp_path / "photos").exists() and (tmp_path / "photos").rename(tmp_path / ".hidden")


def test_a_photo_of_another_size_is_not_drawn_on(
    run: Run, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    for name in ("photos", "other/photos"):
        (tmp_path / name).rename(tmp_path / name.replace("photos", ".hidden"))
    make_photo(tmp_path / "new" / "plain.jpg", 30, 20)
    text, _ = written(run, pair, "--images", tmp_path / "new")
    assert "for 8 of 8 results: their maps" in text


def test_no_result_in_both_has_no_page(run: Run, pair: tuple[Path, Path], tmp_path: Path) -> None:
    write_manifest(pair[1], [row | {"method": "cam"} for row in manifest(pair[1])])
    found = run("compare", *pair, "--output", tmp_path / "cmp")
    assert found.exit_code == 2
    assert not (tmp_path / "cmp").exists()
    assert stdout(found) == ""


def test_the_pictures_are_whole(run: Run, pair: tuple[Path, Path]) -> None:
    _, page = written(run, pair)
    for tag, found in page.elements:
        if tag == "img":
            data = base64.b64decode((found["src"] or "").partition("base64,")[2])
            size = int(found["width"] or 0), int(found["height"] or 0)
            assert pixels_of(Picture(data, size)).shape[2] == 3


def test_the_page_of_folders_on_a_store_is_that_of_a_disk(
    run: Run, pair: tuple[Path, Path], store: RemotePath, tmp_path: Path
) -> None:
    """The photos are found beside the folders, on the store, too."""
    local, _ = written(run, pair)
    upload(tmp_path, store)
    remote, _ = written(run, tuple(store / one.name for one in pair), output=tmp_path / "store")
    assert remote == local
    assert local.count("photo not found") < local.count("data-number")
