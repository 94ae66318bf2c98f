"""Read what earlier runs left in an output folder, and remove it.

Every manifest row has a digest in two parts, `<settings>-<input>`. The first part identifies the
run's settings. The second depends on the image's bytes, the versions of packages and the device. A
killed run leaves its rows in a hidden journal. Shards of a run that share a folder have one
manifest each, below `shards/`.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from camcli.errors import CamcliWarning, OutputError
from camcli.images.regular import open_regular, read_regular
from camcli.images.store import AnyPath, RemotePath
from camcli.images.tars import split_name
from camcli.runs.files import MARK, is_dead, path_inside, to_json
from camcli.runs.index import open_index
from camcli.runs.manifest import MANIFEST, RUN, SHARDS, Row, journals, parse_row, record_name
from camcli.runs.outputs import OUTPUTS, named_files, tars_of
from camcli.runs.records import RUN_RECORD, limited_lines
from camcli.runs.rows import Rows
from camcli.schema import RECORD_BYTES

SETTINGS = (
    *("model", "activation", "precision", "layers", "fuse", "region", "fit", "frame"),
    *("window_level", "colormap", "alpha", "window", "stride", "boxes", "box_threshold"),
)
"""The fields of a run's record that must be the same for all results in a folder."""
LATER = MappingProxyType(
    {"blend": "even", "scale": "image", "format": "png", "backward": "plain"}
    | {"layout": "flat", "save_to": "files"}
)
"""Further ones, with the values of runs that did not record them."""


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
        with open_regular(file) as stream:
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


def all_rows(folder: AnyPath) -> Rows:
    """Return the rows of earlier runs, also those of shards, of killed runs and of other settings.

    Nothing is written to the folder: a manifest without an index is read as a whole.
    """
    rows = Rows()
    for manifest in manifests(folder):
        index = open_index(manifest) if isinstance(manifest, Path) else None
        known = index is not None and rows.add_index(index, lambda row: row)
        for row in parsed(lines_of(manifest, only_journals=known)):
            rows.add(row)
    return rows


def lines(folder: AnyPath) -> Iterator[bytes]:
    """Yield the lines of the manifests and journals of a folder, of shards first."""
    return itertools.chain.from_iterable(map(lines_of, manifests(folder)))


def manifests(folder: AnyPath) -> list[AnyPath]:
    """Return the manifests of a folder, of which some may not exist, those of shards first.

    Raises OutputError.
    """
    try:
        shards: Iterable[AnyPath] = (folder / SHARDS).glob(f"[0-9]*.{MANIFEST}")
        return [*sorted(shards, key=str), folder / MANIFEST]
    except OSError as error:
        raise OutputError(f"cannot list '{folder}': {error.strerror}") from None


def lines_of(manifest: AnyPath, *, only_journals: bool = False) -> Iterator[bytes]:
    """Yield the lines of a manifest and of its journals. The last of a file may be incomplete.

    Raises OutputError for a file that exists and cannot be read: a run would lose its rows.
    """
    try:
        for file in (*(() if only_journals else (manifest,)), *journals(manifest)):
            with contextlib.suppress(FileNotFoundError), open_regular(file) as stream:
                yield from limited_lines(stream)
    except OSError as error:
        raise OutputError(f"cannot read '{manifest}': {error.strerror}") from None


def parsed(found: Iterable[bytes]) -> Iterator[Row]:
    """Yield the manifest rows among lines. Warn of whole lines that hold none."""
    lost, reason = 0, ""
    for line in found:
        try:
            yield parse_row(line)
        except ValueError as error:
            if line.strip() and line.endswith(b"\n"):
                lost, reason = lost + 1, str(error)
    if lost:
        warnings.warn(
            f"lines of the manifest that hold no row are left out: {lost} (such as: {reason})",
            CamcliWarning,
            stacklevel=2,
        )


def settings_of(row: Row) -> str:
    """Return the digest of a row's settings; nothing if it has none."""
    return (row.get("digest") or "").partition("-")[0]


def has_settings(row: Row, settings: str) -> bool:
    """Return whether a row was made with the settings of this digest, or has none."""
    return not row.get("digest") or settings_of(row) == settings


def other_settings(folder: AnyPath, record: Row) -> OutputError:
    """Return the error for a folder with results of other settings than those of `record`."""
    return OutputError(
        f"'{folder}' holds results of another run{_differences(folder, record)}: "
        f"name another --output, or replace them with --overwrite"
    )


def selection_of(record: AnyPath) -> list[str]:
    """Return the selections of images in a run's record, none without a usable record.

    Raises OutputError for a file that exists and cannot be read.
    """
    try:
        return RUN_RECORD.parse(read_regular(record, RECORD_BYTES)).get("only") or []
    except (FileNotFoundError, ValueError):
        return []
    except OSError as error:
        raise OutputError(f"cannot read '{record}': {error.strerror}") from None


def with_earlier(record: Row, selection: Sequence[str]) -> list[str] | None:
    """Return the selections in a record, after that of earlier runs if it has results of them."""
    earlier = selection if record["counts"].get("earlier_results") else ()
    return [*dict.fromkeys([*earlier, *(record["only"] or ())])] or None


def existing_files(folder: AnyPath) -> Callable[[Row], Row | None]:
    """Return a function that returns a row without the files that a folder lacks.

    It returns the row itself if it lacks none, and None for a row that has lost all its files.
    """
    exists = exists_in(folder)

    def with_existing(row: Row) -> Row | None:
        files = named_files(row)
        lost = [OUTPUTS[name].field for name, file in files.items() if not exists(file)]
        if not lost:
            return row
        return None if len(lost) == len(files) else row | dict.fromkeys(lost)

    return with_existing


def clear(
    folder: AnyPath, found: Rows, keep: Callable[[Row, str], bool] = lambda row, name: False
) -> None:
    """Remove the files of outdated rows, except those to keep, and those made anew since."""
    tars = set[str]()
    for row in found.outdated():
        tars |= tars_of(row)
        key = row["method"], row["target"]
        if any((now["method"], now["target"]) == key for now in found.of_image(row["image"])):
            continue
        for name in _files(row):
            if not keep(row, name):
                path_inside(folder, name).unlink(missing_ok=True)
    for file in (path_inside(folder, tar) for tar in tars):  # all of their results are outdated
        if not file.is_dir():
            file.unlink(missing_ok=True)


def remove_leftovers(folder: AnyPath, shard: str | None = None) -> None:
    """Remove the journals and unfinished files of killed runs, once a run has replaced them."""
    found = journals(folder / record_name(MANIFEST, shard))
    if isinstance(folder, RemotePath):  # a store has no unfinished files
        dead = found
    else:
        dead = [
            file for file in found if isinstance(file, Path) and is_dead(file, file.stat().st_mtime)
        ]
        remove_unfinished(folder, {mark[1] for file in dead if (mark := MARK.match(file.name))})
    for file in dead:
        file.unlink(missing_ok=True)


def remove_unfinished(folder: Path, marks: Collection[str]) -> None:
    """Remove the unfinished files that contain one of these marks in their names."""
    for file in folder.rglob(".camcli-*.tmp") if marks else ():
        if (found := MARK.match(file.name)) and found[1] in marks:
            file.unlink(missing_ok=True)


def exists_in(folder: AnyPath) -> Callable[[str], bool]:
    """Return a function from the name of a file in a folder to whether it exists."""
    if isinstance(folder, RemotePath):
        listed = {str(file) for file in folder.files(recursive=True)}
        return lambda name: any(str(folder / one) in listed for one in _places(name))

    def exists(name: str) -> bool:
        if os.path.isabs(name) or ".." in name:
            path_inside(folder, name)
        return any(os.path.isfile(os.path.join(folder, one)) for one in _places(name))

    return exists


def _places(name: str) -> list[str]:
    """Return the names of a result's file, and of the tar that holds it, which is complete."""
    tar, _ = split_name(name)
    return [tar, name] if tar else [name]


def _files(row: Row) -> Iterator[str]:
    """Yield every file that may exist for a row: those that it names, and those of earlier runs."""
    for output, name in named_files(row).items():
        if split_name(name)[0]:
            continue
        for own in OUTPUTS[output].endings:
            if name.endswith(own):
                stem = name.removesuffix(own)
                yield from (stem + one for kind in OUTPUTS.values() for one in kind.endings)


def _differences(folder: AnyPath, record: Row) -> str:
    """Describe the earlier run and the settings that differ, if its record can be read."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        earlier = LATER | RUN_RECORD.parse(read_regular(folder / RUN, RECORD_BYTES))
        ours = json.loads(to_json(record))
        other = [
            f"{name.replace('_', '-')} {earlier[name] or 'unset'}, here {ours[name] or 'unset'}"
            for name in (*SETTINGS, *LATER)
            if earlier[name] != ours[name]
        ]
        known = f"{earlier['model']}, {earlier['weights']}, layer {', '.join(earlier['layers'])}"
        words = "; ".join([known, *other]).split()  # a damaged record may hold other lines
        return f" ({' '.join(words)[:500]})"
    return ""
