"""Measure, wrap and shorten the text of a figure. Lengths are in inches, font sizes in points."""

from __future__ import annotations

from collections.abc import Sequence

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
    """Return whether every single word is at most `width` wide."""
    return all(text_width(word, size) <= width for text in texts for word in text.split())


def wrap(text: str, width: float, size: float) -> list[str]:
    """Return the lines of a text, each at most `width` wide unless it is one long word."""
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split():
            longer = f"{line} {word}".strip()
            if line and text_width(longer, size) > width:
                lines.append(line)
                longer = word
            line = longer
        lines.append(line)
    return lines


def shorten(text: str, width: float, size: float, ending: str = "...") -> str:
    """Return a line of text that is at most `width` wide, with an ending if it was cut."""
    text = " ".join(text.split())
    if text_width(text, size) <= width:
        return text
    while text and text_width(text + ending, size) > width:
        text = text[:-1]
    return text.rstrip() + ending


def format_number(value: float) -> str:
    """Return a positive number with two significant digits."""
    if 1e-3 <= value < 1e4:
        return f"{value:.2g}"
    digits, _, power = f"{value:.1e}".partition("e")
    return f"{digits}e{int(power)}".replace("-", "\N{MINUS SIGN}")
