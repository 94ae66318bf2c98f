"""Read what earlier runs left in an output folder, and remove it.

Every manifest row has a digest in two parts, `<settings>-<input>`. The first part identifies the
run's settings. The second depends on the image's bytes, the versions of packages and the device. A
killed run leaves its rows in a hidden journal. Shards of a run that share a folder have one
manifest each, below `shards/`.
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
from camcli.runs.files import path_inside, process_mark, to_json
from camcli.runs.manifest import MANIFEST, RUN, SHARDS, Row, journals, parse_row, record_name
from camcli.runs.outputs import OUTPUTS, named_files

Key: TypeAlias = tuple[str, str, str]
"""The image, method and target of a row."""
SETTINGS = (
    *("model", "activation", "precision", "layers", "fuse", "region", "fit", "colormap", "alpha"),
    *("window", "stride", "boxes", "box_threshold"),
)
"""The fields of a run's record that must be the same for all results in a folder."""


def digest(parts: Any) -> str:
    """Return 12 hexadecimal digits of the SHA-256 of a value, as JSON."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:12]


def input_digest(file: AnyPath, environment: str) -> str:
    """Return 16 hexadecimal digits for an image's bytes and the digest `environment`.

    They are empty where the file cannot be read.
    """
    found = hashlib.sha256(environment.encode())
    try:
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                found.update(chunk)
    except OSError:
        return ""
    return found.hexdigest()[:16]


def environment_digest(record: Row) -> str:
    """Return the digest of versions and device, which also decide the bytes written.

    It leaves out the batch size, since a smaller one chosen later for lack of memory must not make
    earlier results invalid.
    """
    versions = {k: v for k, v in record["versions"].items() if k != "python"}
    return digest([versions, record["device"].partition(":")[0]])


def rows(folder: AnyPath, shard: str | None = None) -> Iterator[Row]:
    """Yield the rows of earlier runs, from manifests and from the journals of killed runs.

    A run of all images reads the rows of its shards too. A shard reads its own rows and those of
    the whole run.
    """
    return parsed(lines(folder, shard))


def lines(folder: AnyPath, shard: str | None = None) -> Iterator[bytes]:
    """Yield the lines of these manifests and journals. The last of a file may be incomplete."""
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
    """Yield the manifest rows among lines, and skip lines that hold none."""
    for line in found:
        with contextlib.suppress(ValueError):
            yield parse_row(line)


def check_settings(folder: AnyPath, found: Iterable[Row], settings: str, record: Row) -> None:
    """Raise OutputError for a folder with results of other settings.

    `record` holds the settings of this run, for the message.
    """
    for row in found:
        if row.get("digest") and row["digest"].partition("-")[0] != settings:
            raise OutputError(
                f"'{folder}' holds results of another run{_other_settings(folder, record)}: "
                f"name another --output, or replace them with --overwrite"
            )


def clear(folder: AnyPath, found: Iterable[Row], keep: Callable[[Row, str], bool]) -> None:
    """Remove the files of earlier rows, except those to keep."""
    for row in found:
        for name in _files(row):
            if not keep(row, name):
                path_inside(folder, name).unlink(missing_ok=True)


def remove_leftovers(folder: AnyPath, shard: str | None = None) -> None:
    """Remove the journals and unfinished files of killed runs, once a run has replaced them."""
    found = journals(folder / record_name(MANIFEST, shard))
    if isinstance(folder, RemotePath):  # a store has no unfinished files
        dead = found
    else:
        dead = [file for file in found if isinstance(file, Path) and _is_dead(file)]
        remove_unfinished(folder, {_MARK.match(file.name)[1] for file in dead})  # type: ignore[index]
    for file in dead:
        file.unlink(missing_ok=True)


def remove_unfinished(folder: Path, marks: Collection[str]) -> None:
    """Remove the unfinished files that contain one of these marks in their names."""
    for file in folder.rglob(".camcli-*.tmp") if marks else ():
        if (found := _MARK.match(file.name)) and found[1] in marks:
            file.unlink(missing_ok=True)


def key(row: Row) -> Key:
    """Return the identity of a row, except for its layer."""
    return row["image"], row["method"], row["target"]


_MARK = re.compile(r"\.camcli-((\d+)(?:@(\w+))?)[-.]")
_DAY = 86_400
"""The seconds without growth after which a journal of another machine belongs to a dead run."""


def _files(row: Row) -> Iterator[str]:
    """Yield every file that may exist for a row: those that it names, and those of earlier runs."""
    for output, name in named_files(row).items():
        stem = name.removesuffix(OUTPUTS[output].ending)
        yield from (stem + kind.ending for kind in OUTPUTS.values())


def _other_settings(folder: AnyPath, record: Row) -> str:
    """Describe the earlier run and the settings that differ, if its record can be read."""
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
    found = _MARK.match(journal.name)
    if found is None:
        return False
    if found[3] and found[3] != process_mark().partition("@")[2]:
        return time.time() - journal.stat().st_mtime > _DAY
    try:
        os.kill(int(found[2]), 0)
    except ProcessLookupError:
        return True
    except OSError:  # the process belongs to another user
        return False
    return False
