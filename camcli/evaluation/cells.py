"""Texts in the cells of a CSV file, which spreadsheets must not take for formulas."""

from __future__ import annotations

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""The beginnings of cells that spreadsheets take for formulas (OWASP, CSV Injection)."""


def guarded(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula, with a single quote before it.

    A text that begins with a single quote gets another one, so that `unguarded` is exact.
    """
    return f"'{text}" if text.startswith((*_FORMULA, "'")) else text


def unguarded(cell: str) -> str:
    """Return the text of a `guarded` cell."""
    return cell.removeprefix("'")
