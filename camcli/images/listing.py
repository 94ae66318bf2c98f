"""A list of images in the bytes of their file names. Sources are made of it on demand.

Images of one folder share the beginnings of their paths and of their names. File names are kept in
chunks of CHUNK, each one piece of text, so that ten million images take some 300 MB.
"""

from __future__ import annotations

import itertools
from array import array
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias, overload

import numpy as np

from camcli.errors import CamcliError
from camcli.images.source import Source, without_suffix
from camcli.images.store import RemotePath

CHUNK = 4096
"""The file names in a chunk."""
_BETWEEN = "\0"
"""The character between two file names of a chunk. No file system allows it in a name."""
Flags: TypeAlias = np.ndarray[tuple[int], np.dtype[np.bool_]]


class Folder(NamedTuple):
    """A folder of images: the beginnings of their paths and of their names.

    `root` is that of a RemotePath, None for local paths. `links` says whether the files are
    symbolic links; it is None if this is not known.
    """

    path: str
    image: str
    root: str | None = None
    links: bool | None = None

    def source(self, name: str, *, keeps_suffix: bool = False) -> Source:
        """Return the image with the file name `name`."""
        path = self.path + name
        where = path if self.root is None else RemotePath(self.root, path)
        return Source(where, self.image + name, keeps_suffix=keeps_suffix)


Part: TypeAlias = tuple[Folder, list[str]]
"""A folder, and the names of files in it that follow each other in a list."""


class Listing(Sequence[Source]):
    """A list of images. `whole` marks those that keep their suffix; None means that none does."""

    def __init__(self, parts: Iterable[Part] = (), whole: Flags | None = None) -> None:
        self.folders: list[Folder] = []
        self._chunks: list[tuple[bytes, array[int]]] = []
        self._whole = whole
        self._last: tuple[int, list[str], array[int]] = (-1, [], array("I"))
        self._fill(parts)

    @classmethod
    def of(cls, sources: Iterable[Source]) -> Listing:
        """Return a list of these sources, which is the same one if they are a listing."""
        if isinstance(sources, Listing):
            return sources
        whole = array("B")

        def parts() -> Iterator[Part]:
            for source in sources:
                whole.append(source.keeps_suffix)
                yield part_of(source)

        made = cls(parts())
        return made.keeping(np.asarray(whole, np.bool_)) if any(whole) else made

    def keeping(self, whole: Flags) -> Listing:
        """Return the list where the images that are marked keep their suffix."""
        return self._with(self.folders, whole)

    def renamed(self, folders: Sequence[Folder]) -> Listing:
        """Return the list with other folders in place of `folders`."""
        return self._with(folders, self._whole)

    def where(self, wanted: Iterable[bool]) -> Listing:
        """Return the images for which the values in `wanted`, one for each image, are true."""
        chosen = np.fromiter(wanted, np.bool_, len(self))
        whole = None if self._whole is None else self._whole[chosen]
        flags = iter(chosen.tolist())
        return Listing(
            ((folder, [*itertools.compress(names, flags)]) for folder, names in self.parts()), whole
        )

    @property
    def whole(self) -> Flags:
        """Whether each image keeps its suffix."""
        return np.zeros(len(self), np.bool_) if self._whole is None else self._whole

    def parts(self) -> Iterator[Part]:
        """Yield the file names in order, together with those of the same folder beside them."""
        for number in range(len(self._chunks)):
            names, folders = self._read(number)
            start = 0
            for index, alike in itertools.groupby(folders):
                end = start + sum(1 for _ in alike)
                yield self.folders[index], names[start:end]
                start = end

    def images(self) -> Iterator[str]:
        """Yield the names of the images."""
        for folder, names in self.parts():
            yield from map(folder.image.__add__, names)

    def stems(self) -> Iterator[str]:
        """Yield the beginnings of the names of their files, below the output folder."""
        if self._whole is not None:
            flags = self._whole.tolist()
            pairs = zip(self.images(), flags, strict=True)
            yield from (image if keeps else without_suffix(image) for image, keeps in pairs)
            return
        for folder, names in self.parts():
            if names == [""]:
                yield without_suffix(folder.image)
            else:
                start = folder.image
                yield from [start + (name.rpartition(".")[0] or name) for name in names]

    def __len__(self) -> int:
        if not self._chunks:
            return 0
        return CHUNK * (len(self._chunks) - 1) + len(self._chunks[-1][1])

    def __iter__(self) -> Iterator[Source]:
        flags = itertools.repeat(False) if self._whole is None else iter(self._whole.tolist())
        for folder, names in self.parts():
            for name in names:
                yield folder.source(name, keeps_suffix=next(flags))

    @overload
    def __getitem__(self, index: int) -> Source: ...
    @overload
    def __getitem__(self, index: slice) -> list[Source]: ...
    def __getitem__(self, index: int | slice) -> Source | list[Source]:
        places = range(len(self))[index]
        return self._source(places) if isinstance(places, int) else [*map(self._source, places)]

    def __reduce__(self) -> tuple[Any, ...]:
        return Listing._made, (self.folders, self._chunks, self._whole)

    def _source(self, index: int) -> Source:
        number, place = divmod(index, CHUNK)
        last = self._last
        if last[0] != number:
            last = self._last = (number, *self._read(number))
        _, names, folders = last
        keeps = self._whole is not None and bool(self._whole[index])
        return self.folders[folders[place]].source(names[place], keeps_suffix=keeps)

    def _read(self, number: int) -> tuple[list[str], array[int]]:
        names, folders = self._chunks[number]
        return names.decode(errors="surrogatepass").split(_BETWEEN), folders

    def _with(self, folders: Sequence[Folder], whole: Flags | None) -> Listing:
        return self._made(folders, self._chunks, whole)

    @staticmethod
    def _made(
        folders: Sequence[Folder], chunks: list[tuple[bytes, array[int]]], whole: Flags | None
    ) -> Listing:
        made = Listing(whole=whole)
        made.folders, made._chunks = [*folders], chunks
        return made

    def _fill(self, parts: Iterable[Part]) -> None:
        """Add the file names of parts in chunks of one size."""
        numbers: dict[Folder, int] = {}
        waiting, folders = list[str](), array("I")
        for folder, names in parts:
            number = numbers.setdefault(folder, len(numbers)) if names else 0
            for start in range(0, len(names), CHUNK):
                some = names[start : start + CHUNK]
                waiting += some
                folders.extend([number] * len(some))
                if len(waiting) >= CHUNK:
                    self._add(waiting[:CHUNK], folders[:CHUNK])
                    waiting, folders = waiting[CHUNK:], folders[CHUNK:]
        if waiting:
            self._add(waiting, folders)
        self.folders = [*numbers]

    def _add(self, names: list[str], folders: array[int]) -> None:
        text = _BETWEEN.join(names)
        if text.count(_BETWEEN) >= len(names):
            strange = next(name for name in names if _BETWEEN in name)
            raise CamcliError(f"{strange!r}: expected a name without NUL")
        self._chunks.append((text.encode(errors="surrogatepass"), folders))


def part_of(source: Source, *, links: bool | None = None) -> Part:
    """Return an image as a part of a list."""
    path = source.path
    root = path.root if isinstance(path, RemotePath) else None
    text = path.key if isinstance(path, RemotePath) else str(path)
    name = source.image.rpartition("/")[2]
    if name in ("", ".", "..") or not text.endswith(name):
        name = ""
    end = -len(name) or None
    return Folder(text[:end], source.image[:end], root, links), [name]


class Hashes:
    """A set of `count` texts in 8 bytes each. Texts that are not in it may seem to be, by chance.

    The chance is 1 in 2 ** 64 for each pair.
    """

    def __init__(self, texts: Iterable[str], count: int) -> None:
        self._values = np.fromiter(map(hash, texts), np.int64, count)
        self._values.sort()

    def repeated(self, texts: Callable[[], Iterable[str]]) -> set[str]:
        """Return those of the texts that are there more than once. They are the set's own texts."""
        values = self._values
        alike = {*values[1:][values[1:] == values[:-1]].tolist()}
        found = Counter(text for text in texts() if hash(text) in alike) if alike else {}
        return {text for text, times in found.items() if times > 1}

    def contain(self, texts: Collection[str]) -> Flags:
        """Return whether each text seems to be in the set."""
        return self._are_in(np.fromiter(map(hash, texts), np.int64, len(texts)))

    def contain_all(self, texts: Iterable[str]) -> bool:
        """Return whether all texts seem to be in the set. Memory holds 8 bytes of each."""
        wanted = np.fromiter(map(hash, texts), np.int64)
        wanted.sort()  # so that neighbours are looked for one after the other
        return bool(self._are_in(wanted).all())

    def _are_in(self, wanted: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Flags:
        if not len(self._values):
            return np.zeros(len(wanted), np.bool_)
        places = np.searchsorted(self._values[:-1], wanted)  # of the last one, if it is larger
        found: Flags = self._values[places] == wanted
        return found


def repeated(texts: Callable[[], Iterable[str]], count: int) -> set[str]:
    """Return those of `count` texts that occur more than once.

    The texts are asked for twice if some seem to be alike.
    """
    return Hashes(texts(), count).repeated(texts)
