"""The rows that earlier runs left in the output folder of a job."""

from __future__ import annotations

import itertools
import math
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from operator import itemgetter
from pathlib import Path

from camcli.errors import CamcliWarning
from camcli.images.regular import open_regular
from camcli.images.store import AnyPath
from camcli.runs import index, resume
from camcli.runs.files import to_json
from camcli.runs.job import Job, record_of
from camcli.runs.manifest import MANIFEST, parse_row
from camcli.runs.records import limited_lines
from camcli.runs.rows import Rows, row_key

_LONG = 10.0
"""The seconds after which a line says that an index is made."""


def earlier_rows(job: Job) -> Rows:
    """Return the rows of a job's folder whose files exist. Rows of other settings are outdated.

    A shard reads its own rows and those of the whole run. Raises OutputError for other settings,
    unless the job overwrites them.
    """
    own, whole = job.record(MANIFEST), job.output / MANIFEST
    rows, checked = Rows(), resume.existing_files(job.output)
    given = [(True, one) for one in resume.manifests(job.output)]
    for is_own, manifest in given if job.part is None else [(False, whole), (True, own)]:
        found = _index_of(manifest, job.settings)
        known = found is not None and rows.add_index(found, checked, own=is_own)
        for row in resume.parsed(resume.lines_of(manifest, only_journals=known)):
            if resume.has_settings(row, job.settings):
                if kept := checked(row):
                    rows.add(kept, own=is_own)
            elif job.options.overwrite:
                rows.add_outdated(row)
            else:
                raise resume.other_settings(job.output, record_of(job))
    return rows


def _index_of(manifest: AnyPath, settings: str) -> index.Index | None:
    """Return the index of a manifest, made anew if necessary.

    Return None for a small manifest and for one on a store, and if camcli did not write its rows
    with these settings.
    """
    with suppress(OSError):
        if isinstance(manifest, Path) and manifest.stat().st_size >= index.INDEXED_BYTES:
            if found := index.open_index(manifest, settings):
                return found
            if pieces := _pieces_of(manifest, settings):
                pieces.write(manifest, settings)
                return index.open_index(manifest, settings)
    return None


def _pieces_of(manifest: Path, settings: str) -> index.Pieces | None:
    """Return the pieces of a manifest; None if its rows are not as camcli writes them.

    Raises OSError.
    """
    pieces = index.Pieces()
    try:
        for image, group in itertools.groupby(_lines_of(manifest, settings), itemgetter(0)):
            pieces.add(image, [line for _, line in group])
    except ValueError:
        return None
    return pieces


def _lines_of(manifest: Path, settings: str) -> Iterator[tuple[str, bytes]]:
    """Yield the lines of a manifest, each after its image. Warn once if that takes long.

    Raises OSError, and ValueError for lines that are not in order, not as camcli writes them, or of
    other settings.
    """
    last: tuple[bytes, ...] = ()
    due = time.monotonic() + _LONG
    with open_regular(manifest) as stream:
        for line in limited_lines(stream):
            row = parse_row(line)
            key = row_key(row)
            if key <= last or to_json(row) != line or not resume.has_settings(row, settings):
                raise ValueError
            last = key
            yield row["image"], line
            if time.monotonic() > due:
                due = math.inf
                text = f"'{manifest}' has no index: all of its rows are read once, to make one"
                warnings.warn(text, CamcliWarning, stacklevel=2)
