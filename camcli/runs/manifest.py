"""The manifest of a folder: manifest.jsonl, one row per image, method, target and layer, by name.

Rows are written to a journal during a run. They enter the manifest when the run ends. A killed run
leaves its journal for the next one.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from camcli.errors import one_line
from camcli.images.find import RUN_FILES
from camcli.images.store import AnyPath, RemotePath
from camcli.runs.files import JOURNALS, process_mark, to_json, write_errors, write_lines

Row: TypeAlias = dict[str, Any]
"""A row of a manifest, or a record such as run.json."""
Adder: TypeAlias = Callable[[Iterable[Row]], None]
"""Adds rows to a manifest."""

MANIFEST, RUN = RUN_FILES
SHARDS = "shards"
"""The folder below an output folder that holds the records of its shards."""
JOURNAL_SECONDS = 60.0
"""The time between two parts of a journal on a store, where files cannot grow."""
_REQUIRED = ("image", "method", "target", "status")


def parse_row(line: str | bytes) -> Row:
    """Return the manifest row in a line. Raises ValueError, with a message of one line."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON ({one_line(error)})") from None
    if not isinstance(row, dict) or not all(isinstance(row.get(name), str) for name in _REQUIRED):
        raise ValueError(f"expected a row with {', '.join(_REQUIRED)}")
    return row


def record_name(record: str, shard: str | None = None) -> str:
    """Return the place of MANIFEST or RUN below an output folder, of a whole run or of a shard."""
    return record if shard is None else f"{SHARDS}/{shard}.{record}"


def journals(manifest: AnyPath) -> list[AnyPath]:
    """Return the journals that killed and running runs left for a manifest, oldest first."""
    folder = manifest.parent / JOURNALS if isinstance(manifest, RemotePath) else manifest.parent
    return sorted(folder.glob(f".camcli-*.{manifest.name}"), key=str)


@contextlib.contextmanager
def manifest(file: AnyPath, lines: Callable[[], Iterable[bytes] | None]) -> Iterator[Adder]:
    """Open a journal inside, and write the manifest `file` on leaving, also after an exception.

    `lines` returns the lines of the manifest, or None to leave it as it is. The journal is removed
    once the manifest is written. Raises WriteError.
    """
    opened = _on_store(file) if isinstance(file, RemotePath) else _on_disk(file)
    with opened as (add, remove):
        try:
            yield add
        finally:
            if (found := lines()) is not None:
                write_lines(file, found)
            remove()


Journal: TypeAlias = tuple[Adder, Callable[[], None]]
"""The functions that add rows to a journal and that remove it."""


@contextlib.contextmanager
def _on_disk(file: Path) -> Iterator[Journal]:
    name = file.with_name(f".camcli-{process_mark()}.{file.name}")
    with write_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        stream = name.open("wb")

    def add(rows: Iterable[Row]) -> None:
        with write_errors(file):
            stream.writelines(map(to_json, rows))
            stream.flush()  # so that the rows of a killed run can be found

    with stream:
        yield add, partial(name.unlink, missing_ok=True)


@contextlib.contextmanager
def _on_store(file: RemotePath) -> Iterator[Journal]:
    """Collect rows on the local disk, and send new ones from time to time as part of a journal."""
    parts: list[RemotePath] = []
    sent, due = 0, time.monotonic() + JOURNAL_SECONDS

    def add(rows: Iterable[Row]) -> None:
        nonlocal sent, due
        stream.writelines(map(to_json, rows))
        if time.monotonic() < due:
            return
        with write_errors(file):
            name = f".camcli-{process_mark()}-{len(parts):06}.{file.name}"
            parts.append(file.parent / JOURNALS / name)
            stream.seek(sent)
            parts[-1].write_from(stream)
        sent, due = stream.tell(), time.monotonic() + JOURNAL_SECONDS

    def remove() -> None:
        with write_errors(file):
            for part in parts:
                part.unlink(missing_ok=True)

    with tempfile.TemporaryFile() as stream:
        yield add, remove
