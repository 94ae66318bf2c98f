"""Pack the files of results into tars, image by image in input order, as WebDataset reads them.

A tar appears under its name once it is complete, and never changes then. The rows of its results
enter the journal after that: a killed run leaves no row of a tar that does not exist. Headers have
no times and no owners, so the same results give the same bytes.
"""

from __future__ import annotations

import contextlib
import tarfile
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import BinaryIO, TypeAlias

from camcli.images.tars import tar_name, tar_number
from camcli.runs.files import whole, write_errors
from camcli.runs.items import Packed
from camcli.runs.job import Job
from camcli.runs.manifest import Row
from camcli.runs.outputs import OUTPUTS, named_files, tars_of
from camcli.runs.recording import Recorder
from camcli.runs.rows import Rows

MEMBERS, BYTES = 10_000, 1_000_000_000
"""The members and the bytes after which a tar ends. An image is never split."""
_END = bytes(2 * tarfile.BLOCKSIZE)

Finish: TypeAlias = Callable[[list[Row]], list[Row]]
"""Finishes the results of one image, and returns their rows as they are in the manifest."""


@contextlib.contextmanager
def packing(record: Recorder) -> Iterator[Finish]:
    """Yield a function that packs the results of an image, if the job does, and records them.

    The last tar is complete after leaving, also where the caller stops early. Raises WriteError.
    """
    if record.job.save_to != "tar":
        yield record
        return
    packer = Packer(record)
    try:
        yield packer
    finally:
        packer.complete()


class Packer:
    """Adds the results of one image at a time to the current tar, and records them."""

    def __init__(self, record: Recorder) -> None:
        self.record, self.job = record, record.job
        self.number = _next_number(self.job, record.rows)
        self.members = self.size = 0
        self._journal, record.add = record.add, self._add
        self._waiting: list[Row] = []
        self._stream: BinaryIO | None = None
        self._opened = contextlib.ExitStack()

    @property
    def name(self) -> str:
        """The name of the current tar."""
        return tar_name(self.number, self.job.part)

    def __call__(self, rows: list[Row]) -> list[Row]:
        """Pack and record the results of an image, and return their rows."""
        if isinstance(rows, Packed):
            rows = self._packed(rows)
        found = self.record(rows)
        if self.members >= MEMBERS or self.size >= BYTES:
            self.complete()
        return found

    def complete(self) -> None:
        """Complete the current tar. Without success, its results are not in the manifest either."""
        if (stream := self._stream) is None:
            return
        self._stream = None
        try:
            with self._opened, write_errors(self.job.output / self.name):
                stream.seek(self.size)
                stream.truncate()
                stream.write(_END + bytes(-(self.size + len(_END)) % tarfile.RECORDSIZE))
        except BaseException:
            for row in self._waiting:
                self.record.rows.remove(row["image"], row["method"], row["target"])
            raise
        self._journal(self._waiting)
        self._waiting, self.members, self.size = [], 0, 0
        self.number += 1

    def _packed(self, rows: Packed) -> list[Row]:
        """Add the files that rows name to the tar, and return the rows with its name in them."""
        names = [name for row in rows for name in named_files(row).values()]
        if not names:
            return [*rows]
        file = self.job.output / self.name
        if self._stream is None:
            self._stream = self._opened.enter_context(whole(file, self.job.owner))
        with write_errors(file):
            self._stream.seek(self.size)  # an image may have been interrupted
            end = self.size + sum(
                self._stream.write(_member(name, rows.members[name])) for name in names
            )
        self.size, self.members = end, self.members + len(names)
        fields = [kind.field for kind in OUTPUTS.values()]
        return [
            row | {field: f"{self.name}/{row[field]}" for field in fields if row.get(field)}
            for row in rows
        ]

    def _add(self, rows: Iterable[Row]) -> None:
        """Add rows to the journal. Those of the current tar wait until it is complete."""
        complete = list[Row]()
        for row in rows:
            waits = self._stream is not None and self.name in tars_of(row)
            (self._waiting if waits else complete).append(row)
        self._journal(complete)


def _member(name: str, data: bytes) -> bytes:
    """Return a file as it is in a tar: a header, and the bytes in whole blocks."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    head = info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    return head + data + bytes(-len(data) % tarfile.BLOCKSIZE)


def _next_number(job: Job, rows: Rows) -> int:
    """Return the number of the next tar: above those that exist, and those of outdated rows."""
    exist = (file.name for file in job.output.glob("results-*.tar"))
    names = {*exist, *chain.from_iterable(map(tars_of, rows.outdated()))}
    numbers = {name: tar_number(name) for name in names}
    own = (n for name, n in numbers.items() if n >= 0 and name == tar_name(n, job.part))
    return 1 + max(own, default=-1)
