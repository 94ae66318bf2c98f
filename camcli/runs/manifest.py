"""The manifest of a folder: manifest.jsonl, one row per image, method, target and layer, by name.

Rows are written to a journal during a run. They enter the manifest when the run ends. A killed run
leaves its journal for the next one.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from camcli.errors import CamcliError, CamcliWarning
from camcli.images.find import RUN_FILES
from camcli.images.regular import open_regular, read_regular
from camcli.images.store import AnyPath, RemotePath
from camcli.runs.files import JOURNALS, process_mark, to_json, write_errors, write_lines
from camcli.runs.index import ImageLines, Pieces
from camcli.runs.outputs import OUTPUTS
from camcli.runs.records import LINE_BYTES, ROW, RUN_RECORD, limited_lines
from camcli.schema import FILE_NAME, RECORD_BYTES

Row: TypeAlias = dict[str, Any]
"""A row of a manifest, or a record such as run.json."""
Adder: TypeAlias = Callable[[Iterable[Row]], None]
"""Adds rows to a manifest."""

MANIFEST, RUN = RUN_FILES
SHARDS = "shards"
"""The folder below an output folder that holds the records of its shards."""
JOURNAL_SECONDS = 60.0
"""The time between two parts of a journal on a store, where files cannot grow."""


def parse_row(line: str | bytes) -> Row:
    """Return the manifest row in a line. Raises ValueError, with a message of one line."""
    if len(line) > LINE_BYTES:
        raise ValueError(f"longer than {LINE_BYTES / 1e6:g} MB")
    row = ROW.parse(line)
    for output in OUTPUTS.values():
        name = row.get(output.field)
        if name is not None and (found := FILE_NAME.problem(name, output.field)):
            raise ValueError(found)
    return row


def numbered_rows(file: AnyPath) -> Iterator[tuple[int, Row]]:
    """Yield each row of a manifest and the place of its first byte. Empty lines are left out.

    Raises OSError, and CamcliError with the line's number for a line that is no row.
    """
    with open_regular(file) as stream:
        yield from rows_in(stream, file)


def rows_in(stream: BinaryIO, file: AnyPath) -> Iterator[tuple[int, Row]]:
    """Yield what `numbered_rows` does from the stream of a manifest. Raises the same errors."""
    place = 0
    for number, line in enumerate(limited_lines(stream), 1):
        if not line.isspace():
            try:
                yield place, parse_row(line)
            except ValueError as error:
                raise CamcliError(f"'{file}' line {number}: {error}") from None
        place += len(line)


def read_run(folder: AnyPath) -> tuple[Row, str | None]:
    """Return the record of a run, or an empty one and what is wrong with it."""
    try:
        return RUN_RECORD.parse(read_regular(folder / RUN, RECORD_BYTES)), None
    except FileNotFoundError:  # the run is not finished
        return {}, None
    except OSError as error:
        return {}, f"{RUN}: {error.strerror}"
    except ValueError as error:
        return {}, f"{RUN}: {error}"


def record_name(record: str, shard: str | None = None) -> str:
    """Return the place of MANIFEST or RUN below an output folder, of a whole run or of a shard."""
    return record if shard is None else f"{SHARDS}/{shard}.{record}"


def journals(manifest: AnyPath) -> list[AnyPath]:
    """Return the journals that killed and running runs left for a manifest, oldest first."""
    folder = manifest.parent / JOURNALS if isinstance(manifest, RemotePath) else manifest.parent
    return sorted(folder.glob(f".camcli-*.{manifest.name}"), key=str)


@contextlib.contextmanager
def manifest(
    file: AnyPath,
    settings: str,
    images: Callable[[], Iterable[ImageLines] | None],
    finish: Callable[[], None],
) -> Iterator[Adder]:
    """Open a journal inside, and write the manifest `file` on leaving, also after an exception.

    `images` returns the images of the manifest and their lines, or None to leave it as it is. Once
    it is written, `finish` is called, and the journal is removed. A run that is killed before that
    leaves rows in both. Raises WriteError.
    """
    opened = _on_store(file) if isinstance(file, RemotePath) else _on_disk(file)
    with opened as (add, remove):
        try:
            yield add
        finally:
            found = images()
            if found is not None:
                write_manifest(file, settings, found)
            try:
                if found is not None:
                    finish()
            finally:
                remove()


def write_manifest(file: AnyPath, settings: str | None, images: Iterable[ImageLines]) -> None:
    """Write a manifest, and its index beside it if its rows have one digest `settings`.

    Raises WriteError.
    """
    if isinstance(file, RemotePath) or settings is None:
        write_lines(file, (line for _, lines in images for line in lines))
        return
    pieces = Pieces()

    def noted() -> Iterator[bytes]:
        for image, lines in images:
            pieces.add(image, lines)
            yield from lines

    write_lines(file, noted())
    pieces.write(file, settings)


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
        name = f".camcli-{process_mark()}-{len(parts):06}.{file.name}"
        part = file.parent / JOURNALS / name
        stream.seek(sent)
        try:
            part.write_from(stream)
        except OSError as error:  # the run goes on, and the rows are sent with the next part
            stream.seek(0, os.SEEK_END)
            warnings.warn(f"cannot write '{part}': {error.strerror}", CamcliWarning, stacklevel=2)
        else:
            parts.append(part)
            sent = stream.tell()
        due = time.monotonic() + JOURNAL_SECONDS

    def remove() -> None:
        with write_errors(file):
            for part in parts:
                part.unlink(missing_ok=True)

    with tempfile.TemporaryFile() as stream:
        yield add, remove
