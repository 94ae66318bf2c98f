"""The index of a manifest: which images are in each piece of it, in a hidden file beside it.

The lines of an image stand together in a manifest that camcli wrote, and are sorted by its name. A
piece is about PIECE_BYTES of whole images. With the index, a run finds the rows of an image without
reading the others. It is valid for one manifest, by size and time of change, and for the settings
of its rows. It may be removed: the next run makes it again.
"""

from __future__ import annotations

import bisect
import itertools
import json
import sqlite3
import threading
import weakref
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import TypeAlias

from camcli.errors import OutputError
from camcli.runs.files import replaced, to_json

PIECE_BYTES = 1 << 16
"""The bytes after which a piece of a manifest ends with the image."""
INDEXED_BYTES = 1 << 20
"""The size of the smallest manifest that has an index."""
_VERSION = 1
_TABLES = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE about (version INTEGER, size INTEGER, changed INTEGER, settings TEXT);
CREATE TABLE pieces (first BLOB PRIMARY KEY, place INTEGER, size INTEGER, images BLOB)
WITHOUT ROWID;
"""
_RECENT = 32
"""The pieces that are kept in memory, and those that are read at a time."""
Piece: TypeAlias = tuple[bytes, int, int, bytes]
"""The first image of a piece, its place and size in the manifest, and its images, packed."""
Lines: TypeAlias = Sequence[bytes]
"""The lines of one image."""
ImageLines: TypeAlias = tuple[str, Lines]
"""An image and its lines."""


def index_file(manifest: Path) -> Path:
    """Return the place of the index of a manifest."""
    return manifest.with_name(f".camcli-index.{manifest.name.removesuffix('.jsonl')}.sqlite")


def name_key(name: str | None) -> bytes:
    """Return the bytes of a name, which sort like its characters."""
    return (name or "").encode(errors="surrogatepass")


class Pieces:
    """The pieces of a manifest, whose images are added in order, in some 5 bytes for each."""

    def __init__(self) -> None:
        self.whole = True
        self.found: list[Piece] = []
        self._place = 0
        self._start()

    def _start(self) -> None:
        self._images, self._counts, self._size = list[str](), list[int](), 0

    def add(self, image: str, lines: Lines) -> None:
        """Add the next image and its lines."""
        start = _start_of(image)
        self.whole &= all(line.startswith(start) for line in lines)
        self._images.append(image)
        self._counts.append(len(lines))
        self._size += sum(map(len, lines))
        if self._size >= PIECE_BYTES:
            self._end()

    def _end(self) -> None:
        images = zlib.compress(json.dumps([self._images, self._counts]).encode(), 1)
        self.found.append((name_key(self._images[0]), self._place, self._size, images))
        self._place += self._size
        self._start()

    def write(self, manifest: Path, settings: str) -> None:
        """Write the index of a manifest that was written whole, unless it is small.

        A disk that has no room for it is no error: the next run does without.
        """
        if self._images:
            self._end()
        with suppress(OSError, sqlite3.Error):
            known = manifest.stat()
            if not self.whole or known.st_size < INDEXED_BYTES or known.st_size != self._place:
                index_file(manifest).unlink(missing_ok=True)
                return
            about = _VERSION, known.st_size, known.st_mtime_ns, settings
            with replaced(index_file(manifest)) as file, closing(sqlite3.connect(file)) as base:
                base.executescript(_TABLES)
                base.execute("INSERT INTO about VALUES (?,?,?,?)", about)
                base.executemany("INSERT INTO pieces VALUES (?,?,?,?)", self.found)
                base.commit()


class Index:
    """The lines of a manifest by image. The methods may be called from any thread.

    They raise OutputError where the index does not fit the manifest.
    """

    def __init__(self, manifest: Path, base: sqlite3.Connection) -> None:
        self._manifest, self._base, self._lock = manifest, base, threading.Lock()
        self._read = partial(_read, manifest)
        self._recent = lru_cache(_RECENT)(self._read)
        weakref.finalize(self, base.close)

    def lines(self, image: str) -> Lines:
        """Return the lines of an image."""
        found = self._asked("first <= ? ORDER BY first DESC", name_key(image))
        if not found:
            return ()
        images, lines = self._recent(found[0])
        place = bisect.bisect_left(images, image)
        return lines[place] if images[place : place + 1] == [image] else ()

    def images(self) -> Iterator[list[str]]:
        """Yield the names of the images in order, some at a time."""
        for *_, packed in self._pieces():
            yield _unpacked(self._manifest, packed)[0]

    def by_image(self) -> Iterator[ImageLines]:
        """Yield the images and their lines in order."""
        for piece in self._pieces():
            yield from zip(*self._read(piece), strict=True)

    def _pieces(self) -> Iterator[Piece]:
        """Yield the pieces in order. Others may be looked up meanwhile."""
        found = self._asked("first >= ? ORDER BY first", b"", _RECENT)
        while found:
            yield from found
            found = self._asked("first > ? ORDER BY first", found[-1][0], _RECENT)

    def _asked(self, which: str, name: bytes, count: int = 1) -> list[Piece]:
        """Return the first pieces of those that are asked for."""
        command = f"SELECT * FROM pieces WHERE {which} LIMIT {count}"  # noqa: S608 - from here only
        try:
            with self._lock:
                return self._base.execute(command, (name,)).fetchall()
        except sqlite3.Error:
            raise _misfit(self._manifest) from None


def open_index(manifest: Path, settings: str | None = None) -> Index | None:
    """Return the index of a manifest, if its rows have these settings; None without a valid one."""
    address = f"{index_file(manifest).absolute().as_uri()}?mode=ro&immutable=1"
    with suppress(OSError, ValueError, sqlite3.Error):
        known = manifest.stat()
        about = _VERSION, known.st_size, known.st_mtime_ns
        base = sqlite3.connect(address, uri=True, check_same_thread=False)
        found = Index(manifest, base)  # which closes it
        ((*noted, own),) = base.execute("SELECT * FROM about")
        if (*noted,) == about and settings in (None, own):
            return found
    return None


def _read(manifest: Path, piece: Piece) -> tuple[list[str], list[Lines]]:
    """Return the images of a piece, and the lines of each."""
    _, place, size, packed = piece
    images, counts = _unpacked(manifest, packed)
    try:
        with manifest.open("rb") as stream:
            stream.seek(place)
            every = iter(stream.read(size).splitlines(keepends=True))
    except OSError as error:
        raise OutputError(f"cannot read '{manifest}': {error.strerror}") from None
    lines = [[*itertools.islice(every, count)] for count in counts]
    for image, of_image, count in zip(images, lines, counts, strict=True):
        start = _start_of(image)
        if len(of_image) != count or not all(line.startswith(start) for line in of_image):
            raise _misfit(manifest)
    return images, [*lines]


def _unpacked(manifest: Path, packed: bytes) -> tuple[list[str], list[int]]:
    """Return the images of a piece, and the number of lines of each."""
    try:
        images, counts = json.loads(zlib.decompress(packed))
    except (zlib.error, ValueError, TypeError):
        raise _misfit(manifest) from None
    return images, counts


def _misfit(manifest: Path) -> OutputError:
    return OutputError(f"'{index_file(manifest)}' is not the index of its manifest: remove it")


def _start_of(image: str) -> bytes:
    """Return the beginning of the lines of an image."""
    return b'{"image": ' + to_json(image)[:-1] + b","
