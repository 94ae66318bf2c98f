"""The images that were explained: where they lie now, whether they are still the same, and small.

The manifest holds names and no paths, so they are looked for below the folders that a user names,
and in and beside the folder that holds the output folder. A camera calls a photo of every holiday
IMG_0001.jpg: a row's digest tells whether a file is the one that was explained.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path

from PIL import Image

from camcli.errors import ImageError
from camcli.images.decode import thumbnail
from camcli.images.geometry import Crop, Pixels, Size
from camcli.report.folder import Entry, Folder
from camcli.runs.resume import input_digest, made

SMALLEST, LARGEST = 64, 384
"""What the longer side of a small picture may be, in pixels."""
_BYTES = 0.16
"""What a small picture takes in the page, by the square of its longer side: WebP, in base64."""
_QUALITY = 75
CHANGED = "not the file that was explained: it changed since, or another version explained it"


@dataclass(frozen=True)
class Photo:
    """An image of the manifest. Without `file` it was not found; `small` is a WebP of it.

    `size` is that of the original where anything tells it. `note` says what is wrong with it.
    """

    name: str
    size: Size | None = None
    file: Path | None = None
    small: bytes | None = None
    note: str | None = None


def side(images: int, budget: int) -> int:
    """The longer side of small pictures, so that all of them take about `budget` bytes."""
    return max(SMALLEST, min(LARGEST, int((budget / _BYTES / max(1, images)) ** 0.5)))


def photos(found: Folder, given: Sequence[Path], longest: int, workers: int) -> Iterator[Photo]:
    """Every image of a folder, in its order, read in threads."""
    made_by = _made(found)
    look = partial(_photo, given=given, near=_near(found.path), made_by=made_by, longest=longest)
    with ThreadPoolExecutor(workers) as executor:
        yield from executor.map(look, found.images.items())


def _photo(
    image: tuple[str, list[Entry]],
    given: Sequence[Path],
    near: Sequence[Path],
    made_by: str | None,
    longest: int,
) -> Photo:
    name, entries = image
    file, note = _find(name, _input_digest(entries), given, near, made_by)
    if file is None:
        return Photo(name, _size_of_picture(entries), note=note)
    try:
        pixels, size = thumbnail(file, longest)
    except ImageError as error:
        return Photo(name, _size_of_picture(entries), file, note=str(error))
    if not all(_fits(entry.crop, size) for entry in entries):
        return Photo(name, _size_of_picture(entries), note=f"{file} has another size: not shown")
    return Photo(name, size, file, _webp(pixels), note)


def _find(
    name: str, digest: str, given: Sequence[Path], near: Sequence[Path], made_by: str | None
) -> tuple[Path | None, str | None]:
    """The image's file and what is to be said of it: the first that was explained as it is.

    If none is, the first below a folder that the user named, and then with a remark; what only
    lies near and has the name proves nothing.
    """
    if Path(name).is_absolute() or ".." in Path(name).parts:
        return None, None
    named = [file for root in given if os.path.isfile(file := root / name)]
    if digest and made_by:
        for file in (*named, *(root / name for root in near)):
            if os.path.isfile(file) and input_digest(file, made_by) == digest:
                return file, None
        return (named[0], CHANGED) if named else (None, None)
    return (named[0] if named else None), None


def _made(found: Folder) -> str | None:
    """The part of the digests that is the run's own, where its record is whole."""
    try:
        return made(found.run)
    except (KeyError, TypeError, AttributeError):
        return None


def _near(folder: Path) -> list[Path]:
    """Where originals usually lie: in the folder that holds the output folder, and beside it."""
    parent = Path(os.path.realpath(folder)).parent
    try:
        beside = sorted(one for one in parent.iterdir() if not one.name.startswith("."))
    except OSError:
        return []
    return [parent, *(one for one in beside if one.is_dir())]


def _input_digest(entries: Sequence[Entry]) -> str:
    """The digest of the image's bytes; a failed one has none."""
    return next(filter(None, (entry.digest.partition("-")[2] for entry in entries)), "")


def _fits(crop: Crop | None, size: Size) -> bool:
    return crop is None or (crop.x1 <= size[0] and crop.y1 <= size[1])


def _size_of_picture(entries: Sequence[Entry]) -> Size | None:
    """The original's size, which is that of the overlays."""
    for entry in entries:
        for what in ("overlay", "boxes", "heatmap"):
            if what in entry.files:
                try:
                    with Image.open(entry.files[what]) as picture:
                        return picture.size
                except OSError:
                    continue
    return None


def _webp(pixels: Pixels) -> bytes:
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", quality=_QUALITY)
    return buffer.getvalue()
