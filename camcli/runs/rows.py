"""The rows of an output folder, each once and ordered by name, in a temporary database.

Memory does not grow with their number, and a folder may hold millions.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from camcli.errors import WriteError
from camcli.runs.files import to_json
from camcli.runs.manifest import Row

_TABLES = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA cache_size = -16384;
CREATE TABLE rows (
    image BLOB, method BLOB, target BLOB, layer BLOB, own BOOL, line BLOB,
    PRIMARY KEY (image, method, target, layer)
) WITHOUT ROWID;
CREATE TABLE outdated (line BLOB);
BEGIN;
"""
"""SQLite deletes the file when it is closed, so that nothing in it has to survive a crash."""

_SOME = 4096
"""The images whose names are read at a time."""


class Rows:
    """Rows by image, method, target and layer, of which a later one replaces an earlier one.

    The names are stored as bytes, which sort like their characters. The methods may be called from
    any thread. They raise WriteError where the disk of temporary files is full.
    """

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        self._lock = threading.Lock()
        self._base = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        weakref.finalize(self, self._base.close)
        self._base.executescript(_TABLES)
        for row in rows:
            self.add(row)

    def add(self, row: Row, *, own: bool = True) -> None:
        """Add a row. Only `own` rows are in the manifest that is written at the end."""
        keys = map(_key, (row["image"], row["method"], row["target"], row.get("layer")))
        self._run("REPLACE INTO rows VALUES (?,?,?,?,?,?)", *keys, own, to_json(row))

    def remove(self, image: str, method: str, target: str, *, prefix: str = "") -> None:
        """Remove the rows of all layers; also those of targets whose names begin with a prefix."""
        last = prefix[:-1] + chr(ord(prefix[-1]) + 1) if prefix else ""
        self._run(
            "DELETE FROM rows WHERE image = ? AND method = ? AND "
            "(target = ? OR target >= ? AND target < ?)",
            *map(_key, (image, method, target, prefix, last)),
        )

    def of_image(self, image: str) -> list[Row]:
        """Return the rows of an image."""
        found = self._run("SELECT line FROM rows WHERE image = ?", _key(image))
        return [json.loads(line) for (line,) in found]

    def images(self) -> Iterator[list[str]]:
        """Yield the names of the images, some at a time."""
        with _write_errors():
            found = self._base.execute("SELECT DISTINCT image FROM rows")
            while some := found.fetchmany(_SOME):
                yield [name.decode(errors="surrogatepass") for (name,) in some]

    def lines(self) -> Iterator[bytes]:
        """Yield the lines of the manifest, by image, method, target and layer."""
        return self._each("SELECT line FROM rows WHERE own ORDER BY image, method, target, layer")

    def counts(self) -> tuple[int, int]:
        """Return the numbers of images and of rows in the manifest."""
        ((images, rows),) = self._run("SELECT count(DISTINCT image), count(*) FROM rows WHERE own")
        return images, rows

    def add_outdated(self, row: Row) -> None:
        """Add a row whose files are to be removed."""
        self._run("INSERT INTO outdated VALUES (?)", to_json(row))

    def outdated(self) -> Iterator[Row]:
        """Yield the rows whose files are to be removed."""
        return map(json.loads, self._each("SELECT line FROM outdated"))

    def _run(self, command: str, *values: Any) -> Sequence[Any]:
        with _write_errors(), self._lock:
            return self._base.execute(command, values).fetchall()

    def _each(self, command: str) -> Iterator[bytes]:
        with _write_errors():
            for (line,) in self._base.execute(command):
                yield line


def _key(text: str | None) -> bytes:
    return (text or "").encode(errors="surrogatepass")


@contextlib.contextmanager
def _write_errors() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise WriteError(f"cannot write to the folder of temporary files: {error}") from None
