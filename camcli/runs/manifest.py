"""The manifest of a run: manifest.jsonl, one row per image, method, target and layer.

Rows are written to a journal during the run. The journal becomes the manifest when the run ends. A
killed run leaves its journal for the next one.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeAlias

from camcli.errors import one_line
from camcli.images.find import RUN_FILES
from camcli.images.store import AnyPath, RemotePath
from camcli.runs.files import JOURNALS, process_mark, to_json, write_errors

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


def manifest(file: AnyPath, *, even_empty: bool = False) -> AbstractContextManager[Adder]:
    """Open a journal inside, and make it the manifest `file` on leaving, also after an exception.

    An empty journal does not replace an earlier manifest, unless `even_empty`. Raises WriteError.
    """
    if isinstance(file, RemotePath):
        return _stored_manifest(file, even_empty)
    return _local_manifest(file, even_empty)


@contextlib.contextmanager
def _local_manifest(file: Path, even_empty: bool) -> Iterator[Adder]:
    journal = file.with_name(f".camcli-{process_mark()}.{file.name}")
    with write_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        stream = journal.open("wb")

    def add(rows: Iterable[Row]) -> None:
        with write_errors(file):
            stream.writelines(map(to_json, rows))
            stream.flush()  # so that the rows of a killed run can be found

    try:
        yield add
    finally:
        with write_errors(file):
            stream.close()
            if even_empty or journal.stat().st_size:
                journal.replace(file)
            else:
                journal.unlink()


@contextlib.contextmanager
def _stored_manifest(file: RemotePath, even_empty: bool) -> Iterator[Adder]:
    """Collect rows on the local disk, and send new ones from time to time as part of a journal."""
    parts: list[RemotePath] = []
    sent, due = 0, time.monotonic() + JOURNAL_SECONDS
    with tempfile.TemporaryFile() as stream:

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

        try:
            yield add
        finally:
            with write_errors(file):
                if stream.tell() or even_empty:
                    stream.seek(0)
                    file.write_from(stream)
                for part in parts:
                    part.unlink(missing_ok=True)
