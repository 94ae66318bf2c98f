"""Read the images that were explained, and make thumbnails of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO

from PIL import Image

from camcli.errors import ImageError
from camcli.images.decode import open_image, thumbnail
from camcli.images.geometry import Crop, Pixels, Size
from camcli.images.store import AnyPath, RemotePath
from camcli.report.folder import OutputFolder, SavedResult
from camcli.runs.originals import Search

MIN_SIDE, MAX_SIDE = 64, 384
"""The range of a thumbnail's longer side, in pixels."""
_BYTES_PER_SQUARE = 0.16
"""The size of a thumbnail in the page (WebP in base64), over the square of its longer side."""
_QUALITY = 75


@dataclass(frozen=True)
class Original:
    """An image of the manifest, and what is known of its file.

    `file` is None if the image was not found, or if it shows other pixels than the explained ones
    in a browser. `size` is the original's, None if unknown. `thumbnail` is a WebP. `note` says what
    is wrong with the file.
    """

    name: str
    size: Size | None = None
    file: AnyPath | None = None
    thumbnail: bytes | None = None
    note: str | None = None


def thumbnail_side(images: int, budget: int) -> int:
    """Return the longer side for which all thumbnails together take about `budget` bytes."""
    side = int((budget / _BYTES_PER_SQUARE / max(1, images)) ** 0.5)
    return max(MIN_SIDE, min(MAX_SIDE, side))


def most_thumbnails(budget: int, side: int = MIN_SIDE) -> int:
    """Return how many thumbnails with this longer side take `budget` bytes."""
    return int(budget / _BYTES_PER_SQUARE / side**2)


def find_originals(
    folder: OutputFolder, named: Sequence[AnyPath], side: int, workers: int
) -> Iterator[Original]:
    """Yield the original of each image of a folder in order, read in threads.

    `named` are folders to search first, `side` is the longer side of the thumbnails.
    """
    images = [(name, input_digest(results)) for name, results in folder.images.items()]
    search = Search.of(folder.path, folder.run, named).narrowed(images)
    with ThreadPoolExecutor(workers) as executor:
        yield from executor.map(partial(_original, search, side), folder.images.items())


def _original(search: Search, side: int, image: tuple[str, list[SavedResult]]) -> Original:
    return read_original(search, side, *image)


def read_original(
    search: Search,
    side: int,
    name: str,
    results: Sequence[SavedResult],
    drawn: Callable[[Pixels, Size], Pixels] | None = None,
) -> Original:
    """Return the original of an image, by its results.

    `drawn` returns what is shown in place of the thumbnail's pixels, of an original of this size.
    """
    file, note = search.find(name, input_digest(results))
    if file is None:
        return Original(name, _picture_size(results), note=note)
    try:
        picture, size = thumbnail(file, side, search.reading)
    except ImageError as error:
        return Original(name, _picture_size(results), _place(file), note=str(error))
    if not all(contains(size, result.crop) for result in results):
        return Original(name, _picture_size(results), note=f"{file} has another size: not shown")
    shows_itself = picture.levels is None and picture.frame is None
    pixels = drawn(picture.pixels, size) if drawn else picture.pixels
    return Original(name, size, _place(file) if shows_itself else None, webp(pixels), note)


def _place(file: AnyPath) -> AnyPath:
    """Return a file without its content."""
    return replace(file, content=None) if isinstance(file, RemotePath) else file


def input_digest(results: Sequence[SavedResult]) -> str:
    """Return the digest of the image's bytes. A failed result has none."""
    return next(filter(None, (one.digest.partition("-")[2] for one in results)), "")


def contains(size: Size, crop: Crop | None) -> bool:
    """Return whether a crop lies in an image of `size`; None does."""
    return crop is None or (crop.x1 <= size[0] and crop.y1 <= size[1])


def _picture_size(results: Sequence[SavedResult]) -> Size | None:
    for file in (one.files[one.picture] for one in results if one.picture):
        with suppress(ImageError), open_image(file) as picture:
            return picture.size
    return None


def webp(pixels: Pixels, *, lossless: bool = False) -> bytes:
    """Encode an image as a WebP file."""
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", quality=_QUALITY, lossless=lossless)
    return buffer.getvalue()
