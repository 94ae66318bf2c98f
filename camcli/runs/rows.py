"""The rows of an output folder, each once and ordered by name: in indexed manifests, or in a
temporary database.

Memory does not grow with their number, and a folder may hold millions.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import json
import sqlite3
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import itemgetter
from typing import Any, TypeAlias

from camcli.errors import WriteError
from camcli.runs.files import to_json
from camcli.runs.index import ImageLines, Index, Lines, name_key
from camcli.runs.manifest import Row

_TABLES = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA cache_size = -16384;
CREATE TABLE rows (
    image BLOB, method BLOB, target BLOB, layer BLOB, own BOOL, line BLOB,
    PRIMARY KEY (image, method, target, layer)
) WITHOUT ROWID;
CREATE TABLE copied (image BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE outdated (line BLOB);
BEGIN;
"""
"""SQLite deletes the file when it is closed, so that nothing in it has to survive a crash."""
_ADD = "REPLACE INTO rows VALUES (?,?,?,?,?,?)"
_SOME = 4096
"""The images whose names are read at a time."""
_first = itemgetter(0)
Checked: TypeAlias = Callable[[Row], Row | None]
"""Returns a row without the files that do not exist, or None without any."""
Kept: TypeAlias = tuple[Lines, Checked, bool]
"""The lines of an image in a manifest, how to check them, and whether they are a run's own."""
_Entry: TypeAlias = tuple[bytes, Lines, Checked | None, bool]
"""An image's name as bytes, and its lines as in Kept. They are not checked if they are changed."""
Found: TypeAlias = tuple[Row, bytes, bool]
"""A row, its line, and whether it is a run's own."""


class Rows:
    """Rows by image, method, target and layer, of which a later one replaces an earlier one.

    Those of indexed manifests stay there. An image whose rows are changed is copied, and its rows
    in the manifests no longer count. The methods may be called from any thread. They raise
    WriteError where the disk of temporary files is full.
    """

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        self._lock = threading.Lock()
        self._base = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        self._indexed: list[tuple[Index, Checked, bool]] = []
        weakref.finalize(self, self._base.close)
        self._base.executescript(_TABLES)
        for row in rows:
            self.add(row)

    def add(self, row: Row, *, own: bool = True) -> None:
        """Add a row. Only `own` rows are in the manifest that is written at the end."""
        self._copy(row["image"])
        self._run(_ADD, *row_key(row), own, to_json(row))

    def add_index(self, index: Index, checked: Checked, *, own: bool = True) -> bool:
        """Add the rows of a manifest, and return True, unless others were added one by one.

        They are `checked` when they are asked for.
        """
        if self._run("SELECT 1 FROM rows LIMIT 1"):
            return False
        self._indexed.append((index, checked, own))
        return True

    def remove(self, image: str, method: str, target: str, *, prefix: str = "") -> None:
        """Remove the rows of all layers; also those of targets whose names begin with a prefix."""
        self._copy(image)
        last = prefix[:-1] + chr(ord(prefix[-1]) + 1) if prefix else ""
        self._run(
            "DELETE FROM rows WHERE image = ? AND method = ? AND "
            "(target = ? OR target >= ? AND target < ?)",
            *map(name_key, (image, method, target, prefix, last)),
        )

    def of_image(self, image: str) -> list[Row]:
        """Return the rows of an image."""
        found = self._run("SELECT line FROM rows WHERE image = ?", name_key(image))
        if found or not self._indexed or self._is_copied(image):
            return [json.loads(line) for (line,) in found]
        return [row for row, *_ in self._in_manifests(image)]

    def images(self) -> Iterator[list[str]]:
        """Yield names of images, some at a time. They may come twice, or have no rows any more."""
        for index, *_ in self._indexed:
            yield from index.images()
        found = self._each("SELECT DISTINCT image FROM rows")
        while some := [*itertools.islice(found, _SOME)]:
            yield [_name_of(key) for (key,) in some]

    def by_image(self) -> Iterator[ImageLines]:
        """Yield the images of the manifest to be written at the end, and their lines, in order."""
        streams = [_stream(*indexed) for indexed in self._indexed if indexed[2]]
        every = heapq.merge(self._changed(), *streams, key=_first)
        for key, group in itertools.groupby(every, _first):
            entries = [*group]
            kept = [(lines, checked, own) for _, lines, checked, own in entries if checked]
            is_changed = len(kept) < len(entries)
            lines = entries[0][1] if is_changed else [line for _, line, _ in _latest(kept)]
            if lines:
                yield _name_of(key), lines

    def _changed(self) -> Iterator[_Entry]:
        """Yield the images that are in the database and their lines, of which there may be none."""
        copied = self._each("SELECT image, NULL FROM copied ORDER BY image")
        rows = self._each(
            "SELECT image, line FROM rows WHERE own ORDER BY image, method, target, layer"
        )
        for key, group in itertools.groupby(heapq.merge(copied, rows, key=_first), _first):
            yield key, [line for _, line in group if line is not None], None, True

    def lines(self) -> Iterator[bytes]:
        """Yield the lines of the manifest, by image, method, target and layer."""
        return (line for _, lines in self.by_image() for line in lines)

    def add_outdated(self, row: Row) -> None:
        """Add a row whose files are to be removed."""
        self._run("INSERT INTO outdated VALUES (?)", to_json(row))

    def outdated(self) -> Iterator[Row]:
        """Yield the rows whose files are to be removed."""
        return (json.loads(line) for (line,) in self._each("SELECT line FROM outdated"))

    def _in_manifests(self, image: str) -> list[Found]:
        return _latest((one.lines(image), checked, own) for one, checked, own in self._indexed)

    def _copy(self, image: str) -> None:
        """Copy the rows that an image has in manifests, before they are changed."""
        if not self._indexed or self._is_copied(image):
            return
        if found := self._in_manifests(image):
            values = [(*row_key(row), own, line) for row, line, own in found]
            with _write_errors(), self._lock:
                self._base.executemany(_ADD, values)
                self._base.execute("INSERT INTO copied VALUES (?)", (name_key(image),))

    def _is_copied(self, image: str) -> bool:
        return bool(self._run("SELECT 1 FROM copied WHERE image = ?", name_key(image)))

    def _run(self, command: str, *values: Any) -> Sequence[Any]:
        with _write_errors(), self._lock:
            return self._base.execute(command, values).fetchall()

    def _each(self, command: str) -> Iterator[tuple[Any, ...]]:
        with _write_errors():
            yield from self._base.execute(command)


def counted(images: Iterable[ImageLines], counts: Counter[str]) -> Iterator[ImageLines]:
    """Yield images and their lines, and add their numbers to `images` and `rows` of `counts`."""
    for image, lines in images:
        counts.update(images=1, rows=len(lines))
        yield image, lines


def _stream(index: Index, checked: Checked, own: bool) -> Iterator[_Entry]:
    """Yield the images of an index, each with its lines and how to check them."""
    return ((name_key(image), lines, checked, own) for image, lines in index.by_image())


def _latest(kept: Iterable[Kept]) -> list[Found]:
    """Return the rows of an image in several manifests, of which a later one replaces an earlier
    one."""
    found = [_existing(*one) for one in kept]
    if len(found) == 1:  # whose rows are sorted
        return found[0]
    latest = {row_key(one[0]): one for rows in found for one in rows}
    return [latest[key] for key in sorted(latest)]


def _existing(lines: Lines, checked: Checked, own: bool) -> list[Found]:
    """Return the rows in lines that have files, without the files that they lack."""
    found: list[Found] = []
    for line in lines:
        row: Row = json.loads(line)
        if (now := checked(row)) is not None:
            found.append((now, line if now is row else to_json(now), own))
    return found


def row_key(row: Row) -> tuple[bytes, ...]:
    """Return the names by which rows are sorted, and of which each row has others."""
    return tuple(map(name_key, (row["image"], row["method"], row["target"], row.get("layer"))))


def _name_of(key: bytes) -> str:
    return key.decode(errors="surrogatepass")


@contextlib.contextmanager
def _write_errors() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise WriteError(f"cannot write to the folder of temporary files: {error}") from None
