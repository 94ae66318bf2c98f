"""Labelled images for training: read once from folders and zips, split, drawn in fair shares."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from camcli.errors import ImageError, TrainingError, one_line
from camcli.images.decode import decode
from camcli.images.geometry import Pixels

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Dataset:
    """The images of one folder or zip, in the order of their names.

    `names` are `<class>/<image>`, `labels` (N,) index `classes`, the sorted names of the classes;
    `pixels` are RGB, each in its own size.
    """

    name: str
    classes: tuple[str, ...]
    names: tuple[str, ...]
    labels: Indices
    pixels: tuple[Pixels, ...]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def present(self) -> NDArray[np.bool_]:
        """Which of the classes it has images of, (K,)."""
        return np.isin(np.arange(len(self.classes)), self.labels)

    @property
    def side(self) -> int:
        """The median of its images' shorter sides, in pixels."""
        return int(np.median([min(pixels.shape[:2]) for pixels in self.pixels]))

    @property
    def digest(self) -> str:
        """A hash of the images' names, by which a resumed run knows its data."""
        return hashlib.sha256("\n".join(self.names).encode()).hexdigest()[:16]

    def subset(self, chosen: NDArray[np.bool_]) -> Dataset:
        """The images where `chosen` (N,) is true; the classes stay."""
        where = np.flatnonzero(chosen)
        names, pixels = (tuple(part[i] for i in where) for part in (self.names, self.pixels))
        return Dataset(self.name, self.classes, names, self.labels[where], pixels)  # type: ignore[arg-type]


def read(path: Path, shorter: int | None = None) -> Dataset:
    """The images of a folder or zip of `<class>/<image>` files, decoded.

    The class is the name of the folder that the image lies in. Images whose shorter side exceeds
    `shorter` are reduced to it, so that they fit in memory. Raises TrainingError, and ImageError
    for an image that cannot be read.
    """
    files = sorted(_files(path), key=lambda file: str(file[0]))
    if not files:
        raise TrainingError(f"no images in '{path}': expected <class>/<image> in a folder or a zip")

    def pixels(file: tuple[PurePosixPath, Callable[[], bytes]]) -> Pixels:
        return _reduced(_decoded(f"{path}/{file[0]}", file[1]()), shorter)

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        decoded = tuple(threads.map(pixels, files))
    names = [f"{name.parent.name}/{name.name}" for name, _ in files]
    of = [name.parent.name for name, _ in files]
    classes = tuple(sorted(set(of)))
    labels = np.array([classes.index(name) for name in of], np.int64)
    return Dataset(path.name, classes, tuple(names), labels, decoded)


def among(source: Dataset, classes: Sequence[str]) -> Dataset:
    """The same images with labels that index `classes`. Raises TrainingError for another class."""
    if strange := [name for name in source.classes if name not in classes]:
        expected = ", ".join(classes[:12]) + ", ..." * (len(classes) > 12)
        raise TrainingError(f"'{source.name}' has the class '{strange[0]}': expected {expected}")
    to = np.array([list(classes).index(name) for name in source.classes], np.int64)
    return Dataset(source.name, tuple(classes), source.names, to[source.labels], source.pixels)


def split(source: Dataset, fraction: float, most: int = 1000) -> tuple[Dataset, Dataset]:
    """Images to train on, and a `fraction` of them, but about `most`, to validate on.

    Which is which follows from the hash of each image's name alone: it is the same on every
    machine and in every run, and adding images moves none of the others while `most` is not met.
    """
    share = min(fraction, most / len(source))
    held = np.array([_position(name) < share for name in source.names], np.bool_)
    return source.subset(~held), source.subset(held)


def shares(sources: Sequence[Dataset], balance: float = 0.5) -> list[tuple[Indices, float]]:
    """The groups to draw from, one for each class of each source, and the share of each.

    Indices run over the sources' images one after another. A group of n images is drawn in
    proportion to n ** `balance`: 1 draws every image equally often, 0 every group. The square
    root lets few sharp photos meet many small images without repeating the fewest too often.
    """
    start, groups = 0, []
    for source in sources:
        for label in np.unique(source.labels):
            groups.append(start + np.flatnonzero(source.labels == label))
        start += len(source)
    weights = np.array([len(group) ** balance for group in groups])
    return list(zip(groups, (weights / weights.sum()).tolist(), strict=True))


def telling(sources: Sequence[Dataset]) -> tuple[NDArray[np.bool_], int]:
    """What an image's label says of the other classes, by source, and up to which fineness all.

    A label speaks for its class against the classes that its source holds too, (sources, K): that
    a source of cats and dogs shows no ship says nothing of ships. Were it counted against them, all
    by which that source differs, such as its sharpness, would count as evidence of cats and dogs.
    Where another source holds every class, a view no finer (in pixels) than that source's images
    cannot be told by its sharpness, and speaks against all.
    """
    complete = [source.side for source in sources if source.present.all()]
    if not complete:
        return np.ones((len(sources), len(sources[0].classes)), np.bool_), 0
    return np.stack([source.present for source in sources]), round(1.25 * min(complete))


def draw(groups: Sequence[tuple[Indices, float]], count: int, rng: np.random.Generator) -> Indices:
    """About `count` indices in random order, each group in its share.

    Within a group no image comes twice before each has come once.
    """
    drawn = []
    for group, share in groups:
        wanted = int(share * count + rng.random())
        rounds = -(-wanted // len(group))
        drawn.append(np.concatenate([rng.permutation(group) for _ in range(rounds)] or [group[:0]]))
        drawn[-1] = drawn[-1][:wanted]
    return rng.permutation(np.concatenate(drawn))


def _files(path: Path) -> Iterator[tuple[PurePosixPath, Callable[[], bytes]]]:
    """Name and content of every image file in a folder or zip that lies in a class's folder."""
    suffixes = Image.registered_extensions()

    def fits(name: PurePosixPath) -> bool:
        hidden = any(part.startswith((".", "__MACOSX")) for part in name.parts)
        return len(name.parts) > 1 and name.suffix.lower() in suffixes and not hidden

    if path.is_dir():
        for file in path.rglob("*"):
            name = PurePosixPath(file.relative_to(path).as_posix())
            if fits(name) and file.is_file():
                yield name, file.read_bytes
        return
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.namelist():
                if fits(PurePosixPath(entry)):
                    content = archive.read(entry)
                    yield PurePosixPath(entry), lambda content=content: content  # type: ignore[misc]
    except OSError as error:
        raise TrainingError(f"data '{path}': {error.strerror or one_line(error)}") from None
    except zipfile.BadZipFile as error:
        raise TrainingError(
            f"data '{path}': expected a folder or a zip ({one_line(error)})"
        ) from None


def _decoded(name: str, content: bytes) -> Pixels:
    try:
        return decode(io.BytesIO(content))
    except ImageError as error:
        raise ImageError(f"{name}{str(error).removeprefix('standard input')}") from None


def _reduced(pixels: Pixels, shorter: int | None) -> Pixels:
    height, width = pixels.shape[:2]
    if shorter is None or min(height, width) <= shorter:
        return pixels
    scale = shorter / min(height, width)
    size = (round(width * scale), round(height * scale))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


def _position(name: str) -> float:
    """Where a name falls between 0 and 1."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
