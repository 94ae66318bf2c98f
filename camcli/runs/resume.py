"""What an earlier run left in an output folder, and which of it can be trusted.

Every manifest row carries a digest in two parts, `<settings>-<input>`: the first tells runs of
other settings apart, the second is of the image's bytes and of all else that decides the bytes
written. A run that was killed has left its rows so far in a hidden journal. Shards of a run that
share a folder have a manifest each, below `shards/`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

from camcli.errors import OutputError
from camcli.images.store import AnyPath, RemotePath
from camcli.runs.files import mark, to_json, within
from camcli.runs.manifest import MANIFEST, RUN, SHARDS, journals, record_name
from camcli.runs.names import SAVES, named

Row: TypeAlias = dict[str, Any]
Key: TypeAlias = tuple[str, str, str]
"""Image, method and target of a row."""
SETTINGS = (
    *("model", "precision", "layers", "fuse", "region", "fit", "colormap", "alpha"),
    *("window", "stride", "boxes", "box_threshold"),
)
"""The fields of a run's record that all results in a folder have in common."""


def digest(parts: Any) -> str:
    """12 hexadecimal digits for anything that JSON can hold."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:12]


def input_digest(file: AnyPath, made: str) -> str:
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


def rows(folder: AnyPath, shard: str | None = None) -> Iterator[Row]:
    """The rows of earlier runs: of manifests, and of the journals that killed runs left.

    A run of all images takes those of its shards as well; a shard its own and the whole run's.
    """
    return parsed(lines(folder, shard))


def lines(folder: AnyPath, shard: str | None = None) -> Iterator[bytes]:
    """The lines that these rows are read from, of which the last may be cut short."""
    whole = folder / MANIFEST
    manifests: list[AnyPath]
    if shard is None:
        shards: Iterable[AnyPath] = (folder / SHARDS).glob(f"[0-9]*.{MANIFEST}")
        manifests = [*sorted(shards, key=str), whole]
    else:
        manifests = [whole, folder / record_name(MANIFEST, shard)]
    for file in (*manifests, *journals(manifests[-1])):
        with contextlib.suppress(OSError), file.open("rb") as stream:
            yield from stream


def parsed(found: Iterable[bytes]) -> Iterator[Row]:
    """The rows that lines hold; what is none is passed over."""
    for line in found:
        with contextlib.suppress(ValueError, RecursionError):
            row = json.loads(line)
            if isinstance(row, dict) and {"image", "method", "target", "status"} <= row.keys():
                yield row


def refuse_other(folder: AnyPath, found: Iterable[Row], settings: str, record: Row) -> None:
    """Refuse a folder with results that were made with other settings. Raises OutputError.

    `record` says what the settings are, for the message.
    """
    for row in found:
        if row.get("digest") and row["digest"].partition("-")[0] != settings:
            raise OutputError(
                f"'{folder}' holds results of another run{_told(folder, record)}: "
                f"name another --output, or replace them with --overwrite"
            )


def clear(folder: AnyPath, found: Iterable[Row], keep: Callable[[Row, str], bool]) -> None:
    """Remove the files of earlier rows, but for those that are to be kept."""
    for row in found:
        for name in _files(row):
            if not keep(row, name):
                within(folder, name).unlink(missing_ok=True)


def sweep(folder: AnyPath, shard: str | None = None) -> None:
    """Remove the journals of runs that were killed, and the unfinished files they left.

    For who has just finished what they had begun.
    """
    found = journals(folder / record_name(MANIFEST, shard))
    if isinstance(folder, RemotePath):  # whose unfinished files nobody can see
        dead = found
    else:
        dead = [file for file in found if isinstance(file, Path) and _is_dead(file)]
        sweep_files(folder, {_MARK.match(file.name)[1] for file in dead})  # type: ignore[index]
    for file in dead:
        file.unlink(missing_ok=True)


def sweep_files(folder: Path, marks: Collection[str]) -> None:
    """Remove the unfinished files with these marks."""
    for file in folder.rglob(".camcli-*.tmp") if marks else ():
        if (found := _MARK.match(file.name)) and found[1] in marks:
            file.unlink(missing_ok=True)


def key(row: Row) -> Key:
    """What a row is known by."""
    return row["image"], row["method"], row["target"]


_MARK = re.compile(r"\.camcli-((\d+)(?:@(\w+))?)[-.]")
_DAY = 86_400
"""A journal of another machine that has not grown for as many seconds is a dead run's."""


def _files(row: Row) -> Iterator[str]:
    """All that may have been saved for a row: what it names, and what runs before it named."""
    for what, name in named(row).items():
        stem = name.removesuffix(SAVES[what])
        yield from (stem + ending for ending in SAVES.values())


def _told(folder: AnyPath, record: Row) -> str:
    """What the earlier run was and what was another setting, where its record can be read."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        earlier = json.loads((folder / RUN).read_bytes())
        ours = json.loads(to_json(record))
        other = [
            f"{name.replace('_', '-')} {earlier[name] or 'unset'}, here {ours[name] or 'unset'}"
            for name in SETTINGS
            if earlier[name] != ours[name]
        ]
        known = f"{earlier['model']}, {earlier['weights']}, layer {', '.join(earlier['layers'])}"
        return f" ({'; '.join([known, *other])})"
    return ""


def _is_dead(journal: Path) -> bool:
    """Whether who wrote a journal is gone; of another machine, nobody here can ask."""
    found = _MARK.match(journal.name)
    if found is None:
        return False
    if found[3] and found[3] != mark().partition("@")[2]:
        return time.time() - journal.stat().st_mtime > _DAY
    try:
        os.kill(int(found[2]), 0)
    except ProcessLookupError:
        return True
    except OSError:  # another user's
        return False
    return False
