"""Check the types of values from JSON files, which may be damaged or written by other programs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any


def number_or_none(value: Any) -> float | None:
    """Return a finite number, or None for any other value."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and abs(value) <= sys.float_info.max else None


def text_or_none(value: Any) -> str | None:
    """Return a non-empty string, or None for any other value."""
    return value if isinstance(value, str) and value else None


def file_name_or_none(value: Any) -> str | None:
    """Return a string that can be a file name, or None for any other value."""
    try:
        encoded = os.fsencode(text_or_none(value) or "")
    except UnicodeEncodeError:
        return None
    return value if encoded and b"\0" not in encoded and Path(value).name else None


def list_or_empty(value: Any) -> list[Any]:
    """Return a list, or an empty list for any other value."""
    return value if isinstance(value, list) else []


def indices_or_empty(value: Any) -> tuple[int, ...]:
    """Return a list of non-negative integers as a tuple, or () for any other value."""
    found = list_or_empty(value)
    valid = (isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in found)
    return tuple(found) if all(valid) else ()
