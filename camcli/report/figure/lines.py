"""Measure, wrap and shorten lines of text. Lengths are in inches and font sizes in points."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

POINT = 1 / 72
"""A point in inches."""
LINE_SPACING = 1.25


def line_height(size: float) -> float:
    """Return the height of a line of text."""
    return size * LINE_SPACING * POINT


def text_width(text: str, size: float) -> float:
    """Return the width of a line of text."""
    font = FontProperties(size=size)
    return float(text_to_path.get_text_width_height_descent(text, font, False)[0]) * POINT


def words_fit(texts: Sequence[str], width: float, size: float) -> bool:
    """Return whether `wrap` gives lines of at most `width` only."""
    lines = (line for text in texts for line in wrap(text, width, size))
    return all(text_width(line, size) <= width for line in lines)


def wrap(text: str, width: float, size: float) -> list[str]:
    """Return the lines of a text, each at most `width` wide unless it is one long word.

    A word that is too long is broken after dots and underscores, as in the name of a layer.
    """
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for space, part in _parts(paragraph, width, size):
            longer = f"{line}{space}{part}".strip()
            if line and text_width(longer, size) > width:
                lines.append(line)
                longer = part
            line = longer
        lines.append(line)
    return lines


def _parts(text: str, width: float, size: float) -> Iterator[tuple[str, str]]:
    """Yield the parts between which a text may be broken, with what stands before each."""
    for word in text.split():
        long = text_width(word, size) > width
        first, *more = re.findall(r"[^._]*[._]*", word)[:-1] if long else [word]
        yield " ", first
        yield from (("", part) for part in more)


def shorten(text: str, width: float, size: float, ending: str = "...") -> str:
    """Return a line of text that is at most `width` wide, with an ending if it was cut."""
    text = " ".join(text.split())
    if text_width(text, size) <= width:
        return text
    while text and text_width(text + ending, size) > width:
        text = text[:-1]
    return text.rstrip() + ending
