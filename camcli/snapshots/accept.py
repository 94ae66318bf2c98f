"""Replace the content of a baseline by a new output folder."""

from __future__ import annotations

import shutil
import tempfile
from collections import deque
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from camcli.errors import CamcliError, OutputError
from camcli.images.regular import open_regular
from camcli.images.store import AnyPath, canonical
from camcli.images.tars import split_name
from camcli.runs.ahead import read_from
from camcli.runs.files import path_inside
from camcli.runs.manifest import MANIFEST, RUN, Row
from camcli.runs.outputs import named_files
from camcli.snapshots.pairs import read_rows

_STAGING = ".camcli-update-"


def accept(new: AnyPath, baseline: Path) -> None:
    """Copy the maps, pictures and records of `new` to `baseline`.

    All files are copied to a staging folder first, so that a full disk changes nothing. Each is
    then renamed to its place, the manifest last. Files that only the old manifest names are
    removed. Files that neither manifest names stay. Raises CamcliError.
    """
    if canonical(new) == canonical(baseline):
        raise CamcliError(f"'{new}' is the baseline itself: expected another folder")
    old = _file_names(read_rows(baseline)) if (baseline / MANIFEST).exists() else set()
    wanted = sorted(_file_names(read_rows(new)))
    for name in (*wanted, *old):
        path_inside(baseline, name)
    try:
        wanted += [RUN, MANIFEST] if _exists(new / RUN) else [MANIFEST]
        baseline.mkdir(parents=True, exist_ok=True)
        for leftover in baseline.glob(f"{_STAGING}*"):  # from an update that was killed
            shutil.rmtree(leftover)
        with tempfile.TemporaryDirectory(prefix=_STAGING, dir=baseline) as staging:
            deque(read_from([new], partial(_copy, new, Path(staging)), wanted), maxlen=0)
            for name in wanted:
                (baseline / name).parent.mkdir(parents=True, exist_ok=True)
                Path(staging, name).replace(baseline / name)
        for name in old.difference(wanted):
            _remove(baseline / name, baseline)
    except OSError as error:
        raise OutputError(f"cannot update '{baseline}': {error.strerror or error}") from None


def _file_names(rows: Iterable[Row]) -> set[str]:
    """Return the files that rows name, and the tars that hold others."""
    names = (name for row in rows for name in named_files(row).values())
    return {split_name(name)[0] or name for name in names}


def _exists(file: AnyPath) -> bool:
    try:
        open_regular(file).close()
    except FileNotFoundError:
        return False
    return True


def _copy(folder: AnyPath, to: Path, name: str) -> None:
    (to / name).parent.mkdir(parents=True, exist_ok=True)
    try:
        with open_regular(folder / name) as source, (to / name).open("wb") as copy:
            shutil.copyfileobj(source, copy, 1 << 20)
    except OSError as error:
        raise OSError(error.errno, f"{folder / name}: {error.strerror}") from None


def _remove(file: Path, top: Path) -> None:
    """Remove a file and the folders below `top` that become empty."""
    file.unlink(missing_ok=True)
    for parent in file.parents:
        if parent == top or any(parent.iterdir()):
            return
        parent.rmdir()
