"""Find the images that were explained, and make thumbnails of them.

The manifest holds names and no paths. Files are looked for in the folders that a user names, in the
folder that holds the output folder, and in the folders beside it. Two photos can have the same name
(IMG_0001.jpg), so a row's digest decides whether a file is the explained one.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path

from PIL import Image

from camcli.errors import ImageError
from camcli.images.decode import Reading, open_image, thumbnail
from camcli.images.geometry import Crop, Pixels, Size
from camcli.report.folder import OutputFolder, SavedResult
from camcli.runs.resume import environment_digest, input_digest

MIN_SIDE, MAX_SIDE = 64, 384
"""The range of a thumbnail's longer side, in pixels."""
_BYTES_PER_SQUARE = 0.16
"""The size of a thumbnail in the page (WebP in base64), over the square of its longer side."""
_QUALITY = 75
CHANGED = "not the explained file: it changed, or another version of camcli explained it"


@dataclass(frozen=True)
class Original:
    """An image of the manifest, and what is known of its file.

    `file` is None if the image was not found, or if it shows other pixels than the explained ones
    in a browser. `size` is the original's, None if unknown. `thumbnail` is a WebP. `note` says what
    is wrong with the file.
    """

    name: str
    size: Size | None = None
    file: Path | None = None
    thumbnail: bytes | None = None
    note: str | None = None


@dataclass(frozen=True)
class _Search:
    """The folders to search and how to recognise a file: `named` by the user, and `nearby` ones.

    `run_digest` is the part of the digests that all results of the run share, None if unknown.
    `reading` is how the run read its images.
    """

    named: Sequence[Path]
    nearby: Sequence[Path]
    run_digest: str | None
    reading: Reading


def thumbnail_side(images: int, budget: int) -> int:
    """Return the longer side for which all thumbnails together take about `budget` bytes."""
    side = int((budget / _BYTES_PER_SQUARE / max(1, images)) ** 0.5)
    return max(MIN_SIDE, min(MAX_SIDE, side))


def most_thumbnails(budget: int) -> int:
    """Return how many of the smallest thumbnails take `budget` bytes."""
    return int(budget / _BYTES_PER_SQUARE / MIN_SIDE**2)


def find_originals(
    folder: OutputFolder, named: Sequence[Path], side: int, workers: int
) -> Iterator[Original]:
    """Yield the original of each image of a folder in order, read in threads.

    `named` are folders to search first, `side` is the longer side of the thumbnails.
    """
    search = _Search(named, _nearby(folder.path), _run_digest(folder), _reading(folder))
    with ThreadPoolExecutor(workers) as executor:
        yield from executor.map(partial(_original, search, side), folder.images.items())


def _original(search: _Search, side: int, image: tuple[str, list[SavedResult]]) -> Original:
    name, results = image
    file, note = _find(search, name, _input_digest(results))
    if file is None:
        return Original(name, _picture_size(results), note=note)
    try:
        picture, size = thumbnail(file, side, search.reading)
    except ImageError as error:
        return Original(name, _picture_size(results), file, note=str(error))
    if not all(_contains(size, result.crop) for result in results):
        return Original(name, _picture_size(results), note=f"{file} has another size: not shown")
    shows_itself = picture.levels is None and picture.frame is None
    return Original(name, size, file if shows_itself else None, _webp(picture.pixels), note)


def _find(search: _Search, name: str, digest: str) -> tuple[Path | None, str | None]:
    """Return the image's file and a note on it.

    A file with the right digest comes first. Otherwise the first file of that name in a folder that
    the user named is taken, with a note. A nearby file that only has the name proves nothing.
    """
    if Path(name).is_absolute() or ".." in Path(name).parts:
        return None, None
    named = [file for root in search.named if os.path.isfile(file := root / name)]
    if digest and search.run_digest:
        for file in (*named, *(root / name for root in search.nearby)):
            if os.path.isfile(file) and input_digest(file, search.run_digest) == digest:
                return file, None
        return (named[0], CHANGED) if named else (None, None)
    return (named[0] if named else None), None


def _run_digest(folder: OutputFolder) -> str | None:
    try:
        return environment_digest(folder.run)
    except (KeyError, TypeError, AttributeError):  # a damaged run record
        return None


def _reading(folder: OutputFolder) -> Reading:
    """Return how the run read its images, as far as its record says it."""
    try:
        frame, window = int(folder.run.get("frame") or 1), folder.run.get("window_level")
        level = (float(window[0]), float(window[1])) if window else None
    except (TypeError, ValueError, KeyError, IndexError, OverflowError):  # a damaged run record
        return Reading()
    usable = level and all(map(math.isfinite, level)) and level[1] > 0
    return Reading(frame=frame if frame > 1 else None, window_level=level if usable else None)


def _nearby(folder: Path) -> list[Path]:
    """Return the folder that holds the output folder, and the folders in it."""
    parent = Path(os.path.realpath(folder)).parent
    try:
        beside = sorted(one for one in parent.iterdir() if not one.name.startswith("."))
    except OSError:
        return []
    return [parent, *(one for one in beside if one.is_dir())]


def _input_digest(results: Sequence[SavedResult]) -> str:
    """Return the digest of the image's bytes. A failed result has none."""
    return next(filter(None, (one.digest.partition("-")[2] for one in results)), "")


def _contains(size: Size, crop: Crop | None) -> bool:
    return crop is None or (crop.x1 <= size[0] and crop.y1 <= size[1])


def _picture_size(results: Sequence[SavedResult]) -> Size | None:
    for file in (one.files[one.picture] for one in results if one.picture):
        with suppress(ImageError), open_image(file) as picture:
            return picture.size
    return None


def _webp(pixels: Pixels) -> bytes:
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", quality=_QUALITY)
    return buffer.getvalue()
