"""The records of a run: manifest.jsonl and run.json."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeAlias

from camcli.images.find import RUN_FILES
from camcli.images.store import AnyPath, RemotePath
from camcli.runs.files import JOURNALS, mark, named_errors, to_json

MANIFEST, RUN = RUN_FILES


SHARDS = "shards"
"""The folder below an output folder that holds the records of its shards."""


Adder: TypeAlias = Callable[[Iterable[Any]], None]
"""Adds rows to a manifest."""


JOURNAL_SECONDS = 60.0
"""How often the rows of a run are sent to a store's journal: files there cannot grow."""


def record_name(record: str, shard: str | None = None) -> str:
    """Where MANIFEST or RUN lies below an output folder: of the whole run, or of a shard."""
    return record if shard is None else f"{SHARDS}/{shard}.{record}"


def journals(manifest: AnyPath) -> list[AnyPath]:
    """The journals that killed and running runs left for a manifest, oldest part first."""
    folder = manifest.parent / JOURNALS if isinstance(manifest, RemotePath) else manifest.parent
    return sorted(folder.glob(f".camcli-*.{manifest.name}"), key=str)


def manifest(file: AnyPath, *, even_empty: bool = False) -> AbstractContextManager[Adder]:
    """Gives what adds rows to a manifest, which gets its name when the run ends, however it ends.

    Without a single row it does not, unless none was to be expected, and the manifest of an earlier
    run stays. Raises WriteError.
    """
    if isinstance(file, RemotePath):
        return _stored_manifest(file, even_empty)
    return _local_manifest(file, even_empty)


@contextlib.contextmanager
def _local_manifest(file: Path, even_empty: bool) -> Iterator[Adder]:
    partial = file.with_name(f".camcli-{mark()}.{file.name}")
    with named_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        stream = partial.open("wb")

    def add(rows: Iterable[Any]) -> None:
        with named_errors(file):
            stream.writelines(map(to_json, rows))
            stream.flush()  # what a killed run has done is there for the next to find

    try:
        yield add
    finally:
        with named_errors(file):
            stream.close()
            if even_empty or partial.stat().st_size:
                partial.replace(file)
            else:
                partial.unlink()


@contextlib.contextmanager
def _stored_manifest(file: RemotePath, even_empty: bool) -> Iterator[Adder]:
    """Rows are collected on the local disk; what is new of them is sent now and then as a part."""
    parts: list[RemotePath] = []
    sent, due = 0, time.monotonic() + JOURNAL_SECONDS
    with tempfile.TemporaryFile() as stream:

        def add(rows: Iterable[Any]) -> None:
            nonlocal sent, due
            stream.writelines(map(to_json, rows))
            if time.monotonic() < due:
                return
            with named_errors(file):
                name = f".camcli-{mark()}-{len(parts):06}.{file.name}"
                parts.append(file.parent / JOURNALS / name)
                stream.seek(sent)
                parts[-1].write_from(stream)
            sent, due = stream.tell(), time.monotonic() + JOURNAL_SECONDS

        try:
            yield add
        finally:
            with named_errors(file):
                if stream.tell() or even_empty:
                    stream.seek(0)
                    file.write_from(stream)
                for part in parts:
                    part.unlink(missing_ok=True)
