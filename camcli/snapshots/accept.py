"""Make a baseline hold what a new output folder holds."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from camcli.errors import CamcliError, OutputError
from camcli.runs.files import within
from camcli.runs.manifest import MANIFEST, RUN
from camcli.runs.outputs import named_files
from camcli.snapshots.compare import Row, read

_STAGING = ".camcli-update-"


def accept(new: Path, baseline: Path) -> None:
    """Make `baseline` hold what `new` holds: maps, pictures and both records.

    All is copied first, so that a full disk changes nothing; then each file takes its name at
    once, the manifest last, and what only the old manifest names is removed. Files that neither
    manifest names stay. Raises CamcliError.
    """
    if os.path.realpath(new) == os.path.realpath(baseline):
        raise CamcliError(f"'{new}' is the baseline itself: expected another folder")
    rows = read(new)
    stale = _named(read(baseline)) if (baseline / MANIFEST).exists() else set()
    wanted = sorted(_named(rows)) + [name for name in (RUN, MANIFEST) if (new / name).exists()]
    places = {name: within(baseline, name) for name in {*wanted, *stale}}
    try:
        baseline.mkdir(parents=True, exist_ok=True)
        for left in baseline.glob(f"{_STAGING}*"):  # by an update that was killed
            shutil.rmtree(left)
        with tempfile.TemporaryDirectory(prefix=_STAGING, dir=baseline) as staging:
            for name in wanted:
                Path(staging, name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(new / name, Path(staging, name))
            for name in wanted:
                places[name].parent.mkdir(parents=True, exist_ok=True)
                Path(staging, name).replace(places[name])
        for name in stale - set(wanted):
            _remove(places[name], baseline)
    except OSError as error:
        raise OutputError(f"cannot update '{baseline}': {error.strerror or error}") from None


def _named(rows: Sequence[Row]) -> set[str]:
    return {name for row in rows for name in named_files(row).values()}


def _remove(file: Path, top: Path) -> None:
    """Remove a file, and the folders below `top` that it leaves empty."""
    file.unlink(missing_ok=True)
    for parent in file.parents:
        if parent == top or any(parent.iterdir()):
            return
        parent.rmdir()
