"""An image of a run: where it is, and its name below the output folder."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from camcli.images.store import AnyPath, RemotePath


@dataclass(frozen=True, init=False, slots=True)
class Source:
    """An image to read, at `path`, and its `name` below the output folder (with its suffix).

    `keeps_suffix` means that the names of its files have the suffix too, as those of `3.png` beside
    `3.jpg`. Images of one folder share its path in memory.
    """

    _base: str | AnyPath
    image: str
    keeps_suffix: bool

    def __init__(
        self, path: AnyPath | str, name: Path | str, *, keeps_suffix: bool = False
    ) -> None:
        image = name if isinstance(name, str) else name.as_posix()
        base: str | AnyPath = path
        if not isinstance(path, RemotePath) and (text := str(path)).endswith(image):
            base = sys.intern(text.removesuffix(image))
        elif isinstance(path, str):
            base = Path(path)
        for field, value in zip(self.__slots__, (base, image, keeps_suffix), strict=True):
            object.__setattr__(self, field, value)

    @property
    def path(self) -> AnyPath:
        """The place of the image."""
        return Path(self._base + self.image) if isinstance(self._base, str) else self._base

    @property
    def name(self) -> Path:
        """The name `image` as a path."""
        return Path(self.image)

    @property
    def stem(self) -> str:
        """The beginning of the names of its files, below the output folder."""
        return self.image if self.keeps_suffix else without_suffix(self.image)

    def with_suffix(self) -> Source:
        """Return the image as one that `keeps_suffix`."""
        return Source(self.path, self.image, keeps_suffix=True)


def without_suffix(image: str) -> str:
    """Return the name of an image without its suffix."""
    stem, _, suffix = image.rpartition(".")
    return image if "/" in suffix or not stem or stem.endswith("/") else stem
