"""Images on their way in: finding, decoding, preprocessing, and the geometry to find back."""

from __future__ import annotations

import contextlib
import glob
import io
import os
import struct
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from camcli.errors import CamcliError, ImageError, one_line
from camcli.remote import Place, Remote, is_remote, place, real

Pixels = NDArray[np.uint8]
"""An RGB image, (H,W,3), 0 to 255."""

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels; x1 and y1 are exclusive."""

Size = tuple[int, int]
"""Width and height in pixels."""

STDIN = Path("-")
DAMAGE = (ValueError, SyntaxError, EOFError, RuntimeError, MemoryError, struct.error)
"""What Pillow's readers raise on damaged files, besides OSError."""
MAX_PIXELS = 178_956_970
"""The largest image that is read, which is where Pillow stops by itself."""
FITS = ("preset", "squash", "full")
_TURNED = (5, 6, 7, 8)
"""The EXIF orientations that swap width and height."""
RECORDS = ("manifest.jsonl", "run.json")
"""What an output folder is known by."""
EVALUATION = ("metrics.json", "scores.csv")
"""What the folder of an evaluation is known by."""


@dataclass(frozen=True)
class Source:
    """An image to read, and its name below the output folder (relative, with its suffix)."""

    path: Place
    name: Path


@dataclass(frozen=True)
class Crop:
    """The part of an image that the network saw, in original pixels; x1 and y1 are exclusive."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """The crop as an index into an array (H,W,...)."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    def inward(self, box: Box, size: tuple[int, int]) -> Box:
        """A box in original pixels in those of the input, which is `size` (width, height) large."""
        x, y = size[0] / (self.x1 - self.x0), size[1] / (self.y1 - self.y0)
        x0, y0, x1, y1 = box
        return (x0 - self.x0) * x, (y0 - self.y0) * y, (x1 - self.x0) * x, (y1 - self.y0) * y

    def outward(self, box: Box, size: tuple[int, int]) -> Box:
        """A box in pixels of the input, which is `size` (width, height) large, in original ones."""
        x, y = (self.x1 - self.x0) / size[0], (self.y1 - self.y0) / size[1]
        x0, y0, x1, y1 = box
        return x0 * x + self.x0, y0 * y + self.y0, x1 * x + self.x0, y1 * y + self.y0

    def corners(self, box: Sequence[float] | None, size: tuple[int, int]) -> list[int] | None:
        """The same in whole pixels, as `x0, y0, x1, y1`; None for no box, or one of nothing."""
        if box is None or not any(box):
            return None
        x0, y0, x1, y1 = box
        return [round(side) for side in self.outward((x0, y0, x1, y1), size)]

    def resized(self, x: float, y: float) -> Crop:
        """The crop of an image that is made so much wider and higher; a pixel at least."""
        x0, y0 = round(self.x0 * x), round(self.y0 * y)
        return Crop(x0, y0, max(x0 + 1, round(self.x1 * x)), max(y0 + 1, round(self.y1 * y)))


@dataclass(frozen=True)
class Preset:
    """A model's own preprocessing: resize the shorter side, cut the centre, scale, normalise.

    Without `crop` the whole image is kept; its sides are then multiples of `multiple`, and at most
    `longest`, pixels. With `squash` the whole image is made a square of `crop`.
    """

    resize: int = 256
    crop: int | None = 224
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    bicubic: bool = False
    multiple: int = 1
    longest: int | None = None
    squash: bool = False


def find(
    paths: Iterable[str], *, recursive: bool = True, skip: Place | None = None
) -> list[Source]:
    """The images that files, folders, globs and URLs stand for, each once, in a stable order.

    A folder gives every file in it with an image's suffix, sorted, named relative to the folder;
    hidden files, camcli's own output folders and the folder `skip` are left out. `-` is standard
    input. A path that is not there is kept: reading it will say so.
    """
    found: dict[str, Source] = {}
    for given in paths:
        for source in _expand(given, recursive, skip):
            found.setdefault(real(source.path), source)
    return list(found.values())


def fetched(path: Place) -> Place:
    """A store's file with its content, so that it is asked for once; a local one as it is.

    Raises ImageError.
    """
    if not isinstance(path, Remote):
        return path
    try:
        return path.fetched()
    except OSError as error:
        raise ImageError(f"{path}: {error.strerror}") from None


def decode(source: Place | BinaryIO, max_pixels: int = MAX_PIXELS) -> Pixels:
    """An image file as RGB, upright (EXIF orientation applied), transparency laid on white.

    More than `max_pixels` are refused before they take memory. Raises ImageError with one line for
    anything that is not a whole image.
    """
    with _opened(source, max_pixels) as image:
        return upright(image)


def thumbnail(file: Path, longest: int) -> tuple[Pixels, Size]:
    """An image file as `decode` gives it but small, no side above `longest`, and its own size.

    JPEGs are reduced as they are decoded, which takes a fraction of the time. Raises ImageError.
    """
    with _opened(file, MAX_PIXELS) as image:
        width, height = image.size
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) in _TURNED
        image.draft(None, (longest, longest))
        small = Image.fromarray(upright(image))
    small.thumbnail((longest, longest), reducing_gap=2.0)
    return np.asarray(small), (height, width) if turned else (width, height)


@contextlib.contextmanager
def _opened(source: Place | BinaryIO, max_pixels: int) -> Iterator[Image.Image]:
    """Pillow's image of a file; what goes wrong inside becomes an ImageError with one line."""
    name = source if isinstance(source, Place) and source != STDIN else "standard input"
    if source == STDIN:
        source = io.BytesIO(sys.stdin.buffer.read() if sys.stdin else b"")
    if isinstance(source, Remote):
        source = io.BytesIO(fetched(source).read_bytes())
    try:
        with Image.open(source) as image:
            if image.width * image.height > max_pixels:
                given = f"{image.width} x {image.height} pixels"
                raise ImageError(f"{name}: {given}, more than --max-pixels {max_pixels}")
            yield image
    except UnidentifiedImageError:
        size = source.stat().st_size if isinstance(source, Path) else source.seek(0, os.SEEK_END)
        empty = size == 0
        reason = "the file is empty" if empty else "not an image that Pillow can read"
        raise ImageError(f"{name}: {reason}") from None
    except OSError as error:
        raise ImageError(f"{name}: {error.strerror or one_line(error)}") from None
    except Image.DecompressionBombError:
        raise ImageError(f"{name}: more pixels than {MAX_PIXELS}, the most that are read") from None
    except DAMAGE as error:
        raise ImageError(f"{name}: damaged image ({one_line(error)})") from None


def upright(image: Image.Image) -> Pixels:
    """A Pillow image as RGB, with its EXIF orientation applied and transparency laid on white."""
    return np.asarray(_rgb(ImageOps.exif_transpose(image)))


def preprocess(pixels: Pixels, preset: Preset, fit: str = "preset") -> tuple[Any, Crop]:
    """The network's input, a tensor (3,h,w), and the part of the image that it shows.

    `preset` resizes the shorter side and cuts the centre, as torchvision's presets do; `squash`
    brings the whole image to the preset's square; `full` keeps the whole image and its shape, the
    shorter side at the preset's size. Values as after torchvision's ImageClassification.
    """
    import torch  # here, so that a command's --help can name FITS at once

    small, crop = _fitted(pixels, preset, fit)
    scaled = torch.from_numpy(small.transpose(2, 0, 1).astype(np.float32)).div_(255)
    mean, std = (torch.tensor(values)[:, None, None] for values in (preset.mean, preset.std))
    return scaled.sub_(mean).div_(std), crop


def _expand(given: str, recursive: bool, skip: Place | None) -> Iterator[Source]:
    path = Path(given)
    if not given:
        raise CamcliError("an empty path: expected files, folders, globs, or - for standard input")
    if is_remote(given):
        yield from _on_store(place(given), recursive, skip)
    elif given == str(STDIN):
        yield Source(STDIN, Path("stdin"))
    elif os.path.isdir(given):
        if _is_output(path) or (skip and os.path.realpath(given) == real(skip)):
            raise _output_given(given)
        yield from _in_folder(path, recursive, skip)
    elif not os.path.lexists(given) and (matches := sorted(glob.glob(given, recursive=True))):
        for match in matches:
            yield from _expand(match, recursive, skip)
    else:
        yield Source(path, Path(path.name))


def _output_given(given: object) -> CamcliError:
    return CamcliError(
        f"'{given}' is an output folder: name its images, or write to another folder"
    )


def _on_store(given: Place, recursive: bool, skip: Place | None) -> Iterator[Source]:
    """A store's file, or the images in a folder of it in the order of a local folder's."""
    assert isinstance(given, Remote)
    try:
        files = [*given.files(recursive=recursive)] if given.is_dir() else [given]
    except OSError as error:
        raise CamcliError(f"'{given}': {error.strerror}") from None
    if files == [given]:
        yield Source(given, Path(given.name))
        return
    listed = {file.key.removeprefix(given.key).lstrip("/"): file for file in files}
    suffixes, left_out = Image.registered_extensions(), _outputs_among(listed)
    if "" in left_out or (skip and real(given).rstrip("/") == real(skip).rstrip("/")):
        raise _output_given(given)
    for name in sorted(listed, key=_as_walked):
        *folders, file = name.split("/")
        parents = {"/".join(folders[: n + 1]) for n in range(len(folders))}
        hidden = any(part.startswith(".") for part in (*folders, file))
        below = skip and real(listed[name]).startswith(f"{real(skip).rstrip('/')}/")
        if not (hidden or below or parents & left_out) and Path(file).suffix.lower() in suffixes:
            yield Source(listed[name], Path(name))


def _as_walked(name: str) -> list[tuple[bool, str]]:
    """Sorts names as a walk through folders meets them: a folder's own files come first."""
    *folders, file = name.split("/")
    return [*((True, folder) for folder in folders), (False, file)]


def _outputs_among(listed: Iterable[str]) -> set[str]:
    """The folders in a listing that are output folders."""
    names = set(listed)
    ends = {name.removesuffix(RECORDS[0]) for name in names if name.endswith(RECORDS[0])}
    return {
        folder.rstrip("/")
        for folder in ends
        if folder[-1:] in ("", "/") and all(folder + record in names for record in RECORDS)
    }


def _in_folder(folder: Path, recursive: bool, skip: Place | None) -> Iterator[Source]:
    suffixes = Image.registered_extensions()
    seen: set[str] = set()
    unreadable: list[OSError] = []
    for parent, folders, files in os.walk(folder, followlinks=True, onerror=unreadable.append):
        here = os.path.realpath(parent)
        if here in seen or _is_output(Path(parent)) or (skip and here == real(skip)):
            folders.clear()
            continue
        seen.add(here)
        folders[:] = sorted(f for f in folders if not f.startswith(".")) if recursive else []
        for file in sorted(files):
            if not file.startswith(".") and Path(file).suffix.lower() in suffixes:
                path = Path(parent, file)
                yield Source(path, path.relative_to(folder))
    for error in unreadable:  # reading it will say why
        path = Path(str(error.filename))
        yield Source(path, path.relative_to(folder) if path != folder else Path(path.name))


def _is_output(folder: Path) -> bool:
    return any(
        all(os.path.exists(folder / name) for name in known) for known in (RECORDS, EVALUATION)
    )


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        # Pillow would clip these at 255. Whole numbers are taken as 16-bit; floats as the first
        # of the usual ranges that holds them.
        values = np.nan_to_num(np.asarray(image, np.float32))
        ranges = (65535,) if image.mode.startswith("I") else (1, 255, 65535)
        white = next((top for top in ranges if values.max() <= top), ranges[-1])
        return Image.fromarray((values / white * 255).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        above = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", above.size, "white"), above).convert("RGB")
    return image.convert("RGB")


def _fitted(pixels: Pixels, preset: Preset, fit: str) -> tuple[Pixels, Crop]:
    height, width = pixels.shape[:2]
    filter_ = Image.Resampling.BICUBIC if preset.bicubic else Image.Resampling.BILINEAR
    image, whole = Image.fromarray(pixels), Crop(0, 0, width, height)
    square = preset.crop or preset.resize
    if fit == "squash" or (fit == "preset" and preset.squash):
        return np.asarray(image.resize((square, square), filter_)), whole
    shorter = preset.resize if fit == "preset" else square
    # torchvision rounds down the longer side and rounds the centre's corner to even.
    size_x, size_y = (max(shorter, shorter * n // min(height, width)) for n in (width, height))
    if preset.crop is None or fit == "full":
        size = _within((size_x, size_y), preset)
        return np.asarray(image.resize(size, filter_)), whole
    left, top = round((size_x - preset.crop) / 2.0), round((size_y - preset.crop) / 2.0)
    scale_x, scale_y = width / size_x, height / size_y
    # The whole is resized and then cut, as torchvision does. Of a long thin image, which would grow
    # without bound, only the part of the crop is, with a margin that the filter's edge may spoil.
    slender = max(size_x, size_y) > 8 * shorter
    margin_x, margin_y = (
        4 + int(4 / scale) if slender else max(size_x, size_y) for scale in (scale_x, scale_y)
    )
    x0, y0 = max(0, left - margin_x), max(0, top - margin_y)
    x1 = min(size_x, left + preset.crop + margin_x)
    y1 = min(size_y, top + preset.crop + margin_y)
    box = (x0 * scale_x, y0 * scale_y, min(width, x1 * scale_x), min(height, y1 * scale_y))
    part = np.asarray(image.resize((x1 - x0, y1 - y0), filter_, box=box))
    small = part[top - y0 : top - y0 + preset.crop, left - x0 : left - x0 + preset.crop]
    seen = Crop(
        round(left * scale_x),
        round(top * scale_y),
        max(round(left * scale_x) + 1, round((left + preset.crop) * scale_x)),
        max(round(top * scale_y) + 1, round((top + preset.crop) * scale_y)),
    )
    return small, seen


def _within(size: tuple[int, int], preset: Preset) -> tuple[int, int]:
    """The size, made smaller and even as a preset asks for."""
    scale = min(1.0, (preset.longest or max(size)) / max(size))
    width, height = (max(1, round(n * scale / preset.multiple)) * preset.multiple for n in size)
    return width, height
