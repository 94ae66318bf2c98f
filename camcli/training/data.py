"""Labelled images for training, read from folders and zips into memory and split by name."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from camcli.errors import ImageError, TrainingError, one_line
from camcli.images.decode import MAX_INPUT, decode
from camcli.images.formats import suffixes
from camcli.images.geometry import Pixels

BoolArray: TypeAlias = NDArray[np.bool_]
Indices: TypeAlias = NDArray[np.int64]


_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError)
"""The errors of a zip that is damaged or encrypted."""


@dataclass(frozen=True)
class Dataset:
    """The labelled images of one folder or zip, sorted by name.

    `names` are `<class>/<image>`. `labels` (N,) index `classes`, which are sorted. `pixels` are RGB
    images, each in its own size.
    """

    name: str
    classes: tuple[str, ...]
    names: tuple[str, ...]
    labels: Indices
    pixels: tuple[Pixels, ...]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def has_class(self) -> BoolArray:
        """A mask (K,) that is true for the classes with at least one image."""
        return np.isin(np.arange(len(self.classes)), self.labels)

    @property
    def median_side(self) -> int:
        """The median length of the images' shorter sides, in pixels."""
        return int(np.median([min(pixels.shape[:2]) for pixels in self.pixels]))

    @property
    def digest(self) -> str:
        """A hash of the image names, by which a resumed run recognises its data."""
        return hashlib.sha256("\n".join(self.names).encode()).hexdigest()[:16]

    def subset(self, mask: BoolArray) -> Dataset:
        """Return the images where `mask` (N,) is true, with the same classes."""
        kept = np.flatnonzero(mask)
        names, pixels = tuple(self.names[i] for i in kept), tuple(self.pixels[i] for i in kept)
        return Dataset(self.name, self.classes, names, self.labels[kept], pixels)


@dataclass(frozen=True)
class Splits:
    """The training, validation and test datasets of a run; all labels index `classes`."""

    classes: tuple[str, ...]
    train: tuple[Dataset, ...]
    val: tuple[Dataset, ...]
    test: tuple[Dataset, ...] = ()


def read_dataset(path: Path, max_side: int | None = None) -> Dataset:
    """Read and decode the `<class>/<image>` files of a folder or zip.

    The class is the name of the image's parent folder. An image whose shorter side is longer than
    `max_side` is downscaled to it to save memory. Raises TrainingError, or ImageError for an image
    that cannot be read.
    """
    files = sorted(_image_files(path), key=lambda file: str(file[0]))
    if not files:
        raise TrainingError(f"no images in '{path}': expected <class>/<image> in a folder or a zip")

    def load(file: tuple[PurePosixPath, Path | bytes]) -> Pixels:
        name, source = file
        return _downscaled(_decoded(f"{path}/{name}", source), max_side)

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        pixels = tuple(threads.map(load, files))
    names = tuple(f"{name.parent.name}/{name.name}" for name, _ in files)
    class_names = [name.parent.name for name, _ in files]
    classes = tuple(sorted(set(class_names)))
    labels = np.array([classes.index(name) for name in class_names], np.int64)
    return Dataset(path.name, classes, names, labels, pixels)


def relabel(dataset: Dataset, classes: Sequence[str]) -> Dataset:
    """Return the same images with labels that index `classes`.

    Raises TrainingError if the dataset has a class that is not among them.
    """
    if unexpected := [name for name in dataset.classes if name not in classes]:
        expected = ", ".join(classes[:12]) + ", ..." * (len(classes) > 12)
        raise TrainingError(
            f"'{dataset.name}' has the class '{unexpected[0]}': expected {expected}"
        )
    index = np.array([list(classes).index(name) for name in dataset.classes], np.int64)
    labels = index[dataset.labels]
    return Dataset(dataset.name, tuple(classes), dataset.names, labels, dataset.pixels)


def split(dataset: Dataset, fraction: float, limit: int = 1000) -> tuple[Dataset, Dataset]:
    """Split a dataset into training images and a `fraction`, about `limit` at most, to validate on.

    The split depends only on the hash of each image's name. It is therefore the same on every
    machine and in every run, and adding images moves none of the others below `limit`.
    """
    fraction = min(fraction, limit / len(dataset))
    held_out = np.array([_hash_fraction(name) < fraction for name in dataset.names], np.bool_)
    return dataset.subset(~held_out), dataset.subset(held_out)


def _image_files(path: Path) -> Iterator[tuple[PurePosixPath, Path | bytes]]:
    """Yield the image files in the subfolders of a folder or zip: name, and path or content."""
    images = suffixes()

    def is_image(name: PurePosixPath) -> bool:
        hidden = any(part.startswith((".", "__MACOSX")) for part in name.parts)
        return len(name.parts) > 1 and name.suffix.lower() in images and not hidden

    if path.is_dir():
        for file in path.rglob("*"):
            name = PurePosixPath(file.relative_to(path).as_posix())
            if is_image(name) and file.is_file():
                yield name, file
        return
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                if is_image(name := PurePosixPath(entry.filename)):
                    if entry.file_size > MAX_INPUT:
                        raise ImageError(f"{path}/{name}: larger than {MAX_INPUT / 1e6:.0f} MB")
                    yield name, archive.read(entry)
    except OSError as error:
        raise TrainingError(f"data '{path}': {error.strerror or one_line(error)}") from None
    except _BROKEN as error:
        raise TrainingError(
            f"data '{path}': expected a folder or a zip ({one_line(error)})"
        ) from None


def _decoded(name: str, source: Path | bytes) -> Pixels:
    if isinstance(source, Path):
        return decode(source)
    try:
        return decode(io.BytesIO(source))
    except ImageError as error:
        raise ImageError(f"{name}{str(error).removeprefix('standard input')}") from None


def _downscaled(pixels: Pixels, max_side: int | None) -> Pixels:
    height, width = pixels.shape[:2]
    if max_side is None or min(height, width) <= max_side:
        return pixels
    scale = max_side / min(height, width)
    size = (round(width * scale), round(height * scale))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


def _hash_fraction(name: str) -> float:
    """Return the hash of a name as a number from 0 to 1."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
