"""Text files of labels and annotations: their lines, and the rows of CSV files."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence

from camcli.errors import AnnotationError, one_line
from camcli.images.regular import read_regular
from camcli.images.store import AnyPath

MAX_BYTES = 2**30
"""The largest file of annotations that is read."""


def read_bytes(file: AnyPath) -> bytes:
    """Read a file. Raises AnnotationError."""
    try:
        return read_regular(file, MAX_BYTES)
    except OSError as error:
        raise AnnotationError(f"{file}: {error.strerror}") from None


def read_lines(file: AnyPath) -> list[str]:
    """Read the lines of a text file. Raises AnnotationError."""
    try:
        return read_bytes(file).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise AnnotationError(f"{file}: expected text in UTF-8") from None


def csv_rows(file: AnyPath, fields: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the number of each line of a CSV file and its fields by the names in the first line.

    Raises AnnotationError, also if one of `fields` is not among the names.
    """
    rows = csv.DictReader(read_lines(file), skipinitialspace=True)
    try:
        if missing := [name for name in fields if name not in (rows.fieldnames or ())]:
            raise AnnotationError(
                f"{file}: no column '{missing[0]}': expected a first line with {','.join(fields)}"
            )
        for row in rows:
            yield rows.line_num, row
    except csv.Error as error:
        raise AnnotationError(f"{file}: {one_line(error)}") from None
