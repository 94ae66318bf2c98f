"""What an earlier run left in an output folder, and which of it can be trusted.

Every manifest row carries a digest in two parts, `<settings>-<input>`: the first tells runs of
other settings apart, the second is of the image's bytes and of all else that decides the bytes
written. A run that was killed has left its rows so far in a hidden journal.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

from camcli.errors import OutputError
from camcli.outputs import MANIFEST, RUN, SAVES, named, within

Row: TypeAlias = dict[str, Any]
Key: TypeAlias = tuple[str, str, str]
"""Image, method and target of a row."""


def digest(parts: Any) -> str:
    """12 hexadecimal digits for anything that JSON can hold."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:12]


def input_digest(file: Path, made: str) -> str:
    """16 digits for an image's bytes and the digest of how it is made; empty if not readable."""
    found = hashlib.sha256(made.encode())
    try:
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                found.update(chunk)
    except OSError:
        return ""
    return found.hexdigest()[:16]


def made(record: Row) -> str:
    """The digest of what decides the bytes written besides settings and image, by a run's record.

    Not the batch size: one that memory asks for later must not undo what is done.
    """
    versions = {k: v for k, v in record["versions"].items() if k != "python"}
    return digest([versions, record["device"].partition(":")[0]])


def rows(folder: Path) -> list[Row]:
    """The rows of earlier runs: the manifest's, and of the journals that killed runs left."""
    return [*parsed(lines(folder))]


def lines(folder: Path) -> list[bytes]:
    """The lines that these rows are read from, of which the last may be cut short."""
    found: list[bytes] = []
    for file in (folder / MANIFEST, *_journals(folder)):
        with contextlib.suppress(OSError):
            found += file.read_bytes().splitlines()
    return found


def parsed(found: Iterable[bytes]) -> Iterator[Row]:
    """The rows that lines hold; what is none is passed over."""
    for line in found:
        with contextlib.suppress(ValueError, RecursionError):
            row = json.loads(line)
            if isinstance(row, dict) and {"image", "method", "target", "status"} <= row.keys():
                yield row


def refuse_other(folder: Path, found: Iterable[Row], settings: str) -> None:
    """Refuse a folder with results that were made with other settings. Raises OutputError."""
    for row in found:
        if row.get("digest") and row["digest"].partition("-")[0] != settings:
            raise OutputError(
                f"'{folder}' holds results of another run{_told(folder)}: "
                f"name another --output, or replace them with --overwrite"
            )


def clear(folder: Path, found: Iterable[Row], keep: Iterable[Key]) -> None:
    """Remove the files of earlier rows, but for those that are kept."""
    kept = set(keep)
    for row in found:
        if key(row) in kept:
            continue
        for name in _files(row):
            within(folder, name).unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove the journals of runs that were killed, and the unfinished files they left."""
    dead = {int(found[1]): file for file in _journals(folder) if (found := _PID.match(file.name))}
    dead = {pid: file for pid, file in dead.items() if not _is_alive(pid)}
    if dead:
        for file in folder.rglob(".camcli-*.tmp"):
            if (found := _PID.match(file.name)) and int(found[1]) in dead:
                file.unlink(missing_ok=True)
    for file in dead.values():
        file.unlink(missing_ok=True)


def key(row: Row) -> Key:
    """What a row is known by."""
    return row["image"], row["method"], row["target"]


_PID = re.compile(r"\.camcli-(\d+)[-.]")


def _journals(folder: Path) -> list[Path]:
    return sorted(folder.glob(f".camcli-*.{MANIFEST}"))


def _files(row: Row) -> Iterator[str]:
    """All that may have been saved for a row: what it names, and what runs before it named."""
    for what, name in named(row).items():
        stem = name.removesuffix(SAVES[what])
        yield from (stem + ending for ending in SAVES.values())


def _told(folder: Path) -> str:
    """What the earlier run was, where its record can be read."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        record = json.loads((folder / RUN).read_text())
        return f" ({record['model']}, {record['weights']}, layer {', '.join(record['layers'])})"
    return ""


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True
