"""Read output folders of any length, and pair the rows of two of them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import weakref
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from camcli.errors import CamcliError
from camcli.images.regular import open_regular, open_seekable
from camcli.images.store import AnyPath, RemotePath
from camcli.images.tars import split_name
from camcli.runs.files import path_inside
from camcli.runs.manifest import MANIFEST, Row, rows_in
from camcli.runs.outputs import named_files

Digests: TypeAlias = NDArray[np.bytes_]
"""A digest for each row of a manifest (N,)."""
Places: TypeAlias = NDArray[np.int64]
"""The places of rows in a manifest (N,), in bytes."""
_DIGEST = 16


@dataclass(frozen=True)
class Index:
    """An output folder whose rows are not kept: their places and their digests.

    `results` are digests of image, method and target, `exact` also of layer and the map's ending.
    `has_maps` and `has_results` say whether any row names a map, and whether any has not failed.
    `stream` is the manifest, of a store a copy, which is closed with the index. `version`
    recognises the manifest.
    """

    folder: AnyPath
    stream: BinaryIO
    version: tuple[int | None, ...]
    places: Places
    results: Digests
    exact: Digests
    has_maps: bool
    has_results: bool


@dataclass(frozen=True)
class Pair:
    """The rows of one result: that of the new folder and that of the baseline, if they exist.

    `several` says whether other rows have the same image, method and target.
    """

    new: Row | None
    baseline: Row | None
    several: bool


def read_rows(folder: AnyPath) -> Iterator[Row]:
    """Yield the manifest rows of an output folder.

    Raises CamcliError if there are none, or if a row is invalid or names a file outside the folder.
    """
    with _read_errors(folder), open_regular(folder / MANIFEST) as stream:
        yield from (row for _, row in _placed_rows(folder, stream))


def read_index(folder: AnyPath) -> Index:
    """Return the index of an output folder, of a store without tars.

    Raises CamcliError as `read_rows` does.
    """
    file = folder / MANIFEST
    with _read_errors(folder), contextlib.ExitStack() as stack:
        version = _version_of(file)
        stream = stack.enter_context(open_seekable(file))
        index = _indexed(folder, stream, version)
        weakref.finalize(index, stack.pop_all().close)
    return index


def _indexed(folder: AnyPath, stream: BinaryIO, version: tuple[int | None, ...]) -> Index:
    places, results, exact = array("q"), bytearray(), bytearray()
    has_maps = has_results = False
    for place, row in _placed_rows(folder, stream):
        if isinstance(folder, RemotePath) and split_name(row.get("map") or "")[0]:
            raise CamcliError(
                f"'{folder}' has its maps in tars, which are not read on a store: copy the folder "
                f"to this machine"
            )
        places.append(place)
        results += digest(result_key(row))
        exact += digest((*result_key(row), row.get("layer"), _ending(row)))
        has_maps = has_maps or bool(row.get("map"))
        has_results = has_results or row["status"] != "error"
    return Index(
        folder,
        stream,
        version,
        places=np.frombuffer(places, np.int64),
        results=np.frombuffer(results, f"S{_DIGEST}"),
        exact=np.frombuffer(exact, f"S{_DIGEST}"),
        has_maps=has_maps,
        has_results=has_results,
    )


def result_key(row: Row) -> tuple[str, str, str]:
    """Return the image, method and target of a row."""
    return row["image"], row["method"], row["target"]


def _ending(row: Row) -> str:
    """Return what follows the method in the name of a map, whatever the layout of its folder is."""
    return (row.get("map") or "").rpartition(f".{row['method']}.")[2]


def digest(key: tuple[str | None, ...]) -> bytes:
    """Return a short stand-in for the identity of a row, for a million of them."""
    return hashlib.blake2b(ascii(key).encode(), digest_size=_DIGEST).digest()


def pairs(new: Index, baseline: Index) -> Iterator[Pair]:
    """Yield the baseline's results in their order, then those that only `new` has.

    The layer decides only if a run has several for one image, method and target. Otherwise results
    at two different layers are a pair. Of several rows of one result, the last one counts. Raises
    CamcliError if a manifest has changed since its index was read.
    """
    _check_unchanged(new)
    _check_unchanged(baseline)
    repeated = np.concatenate([_repeated(new.results), _repeated(baseline.results)])
    ours, theirs = (_Keys.of(index, repeated) for index in (new, baseline))
    for last, other in zip(theirs.last, ours.find(theirs.unique), strict=True):
        row = None if other < 0 else _row(new, other)
        yield Pair(row, _row(baseline, last), bool(theirs.several[last]))
    extra = theirs.find(ours.unique) < 0
    for last in ours.last[extra]:
        yield Pair(_row(new, last), None, bool(ours.several[last]))


@dataclass(frozen=True)
class _Keys:
    """The different keys of an index in the order in which they appear, and the last row of each.

    `several` says for each row whether its key has the layer.
    """

    unique: Digests
    last: NDArray[np.intp]
    several: NDArray[np.bool_]

    @classmethod
    def of(cls, index: Index, repeated: Digests) -> _Keys:
        """Return the keys of an index; `repeated` are digests of results with several rows."""
        several = np.isin(index.results, repeated)
        keys = np.where(several, index.exact, index.results)
        unique, first = np.unique(keys, return_index=True)
        last = len(keys) - 1 - np.unique(keys[::-1], return_index=True)[1]
        order = np.argsort(first)
        return cls(unique[order], last[order], several)

    def find(self, keys: Digests) -> NDArray[np.intp]:
        """Return the last row of each of some keys, -1 where there is none."""
        order = np.argsort(self.unique)
        ordered = self.unique[order]
        at = np.minimum(np.searchsorted(ordered, keys), len(ordered) - 1)
        return np.where(ordered[at] == keys, self.last[order][at], -1)


def _placed_rows(folder: AnyPath, stream: BinaryIO) -> Iterator[tuple[int, Row]]:
    file, count, checked = folder / MANIFEST, 0, set[str]()
    for count, (place, row) in enumerate(rows_in(stream, file), 1):  # noqa: B007 - used below
        for name in named_files(row).values():
            if (parent := os.path.dirname(name)) not in checked or name.endswith(".."):
                path_inside(folder, name)
                checked.add(parent)
        yield place, row
    if not count:
        raise CamcliError(f"'{file}' is empty: nothing to compare")


@contextlib.contextmanager
def _read_errors(folder: AnyPath) -> Iterator[None]:
    """Turn an OSError inside into a CamcliError with the folder's name."""
    try:
        yield
    except OSError as error:
        raise CamcliError(
            f"'{folder}' has no readable {MANIFEST} ({error.strerror}): expected a folder that "
            f"camcli explain wrote"
        ) from None


def _row(index: Index, number: int) -> Row:
    """Return a row, which was checked for the index."""
    index.stream.seek(index.places[number])
    found: Row = json.loads(index.stream.readline())
    return found


def _check_unchanged(index: Index) -> None:
    file = index.folder / MANIFEST
    with _read_errors(index.folder):
        if _version_of(file) != index.version:
            raise CamcliError(f"'{file}' changed while it was read: is a run still writing it?")


def _version_of(file: AnyPath) -> tuple[int | None, ...]:
    if isinstance(file, RemotePath):
        return file.version()
    status = file.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def _repeated(digests: Digests) -> Digests:
    unique, counts = np.unique(digests, return_counts=True)
    return unique[counts > 1]
