"""Files of annotations: how they are found and read, and the errors that they may have."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

from camcli.errors import AnnotationError, NotAnnotatedError
from camcli.evaluation.objects import Shape


def expect_folder(folder: Path) -> None:
    """Raise AnnotationError if the folder does not exist."""
    if not folder.is_dir():
        raise AnnotationError(f"'{folder}': expected a folder of annotations")


def expect_shape(stated: Shape, shape: Shape, name: Path, file: Path) -> None:
    """Raise AnnotationError if the file is for an image of another size."""
    if stated != shape:
        raise AnnotationError(
            f"{file}: size {stated[1]} x {stated[0]}, expected {shape[1]} x {shape[0]}, the "
            f"upright size of {name}"
        )


def find_file(folder: Path, name: Path, *endings: str) -> Path:
    """Return the first file that exists for the image `name`. Raises NotAnnotatedError."""
    files = [folder / name.with_suffix(ending) for ending in endings]
    for file in files:
        if file.is_file():
            return file
    raise NotAnnotatedError(f"{name}: no {' or '.join(map(str, files))}")


def lines_of(file: Path) -> list[str]:
    """Read the lines of a text file. Raises AnnotationError."""
    try:
        return bytes_of(file).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise AnnotationError(f"{file}: expected text in UTF-8") from None


def bytes_of(file: Path) -> bytes:
    """Read a file. Raises AnnotationError."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise AnnotationError(f"{file}: {error.strerror}") from None


def numbers(fields: Iterable[str]) -> list[float]:
    """Parse finite numbers. Return an empty list if any of the fields is not one."""
    try:
        values = [float(field) for field in fields]
    except ValueError:
        return []
    return values if all(map(math.isfinite, values)) else []


def shorten(line: str) -> str:
    """Cut a line to 40 characters for an error message."""
    return line if len(line) <= 40 else line[:40] + "..."
