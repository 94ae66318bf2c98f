"""Pictures and bars as text for a terminal, with NumPy and Pillow.

A picture is drawn with the terminal's graphics protocol if it has one, and otherwise with half
blocks, each of which shows two pixels of any colour.
"""

from __future__ import annotations

import base64
import io
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import TextIO

import numpy as np
from PIL import Image

from camcli.images.geometry import Pixels

HALF = "\N{UPPER HALF BLOCK}"
EIGHTHS = " ▏▎▍▌▋▊▉█"
"""Blocks by width: a space, then one to eight eighths of a column."""
WIDEST = 80
"""The largest width of a picture, in columns."""
_BELOW = 10
"""Rows that are left for the text below a picture."""
_CELL = (10, 20)
"""Width and height of a character in pixels, approximately. Fonts are half as wide as high."""
_CHUNK = 4096
"""The largest number of characters that kitty accepts at once."""


def refusal(stream: TextIO, environ: Mapping[str, str]) -> str:
    """Return why no picture can be drawn on a stream, or an empty string if one can."""
    if not stream.isatty():
        return "standard error is no terminal"
    if environ.get("NO_COLOR"):
        return "NO_COLOR is set"
    if environ.get("TERM", "dumb" if os.name == "posix" else "") == "dumb":
        return "the terminal is dumb (TERM)"
    if not has_blocks(stream):
        return f"the terminal's encoding, {stream.encoding}, has no '{ascii(HALF)[1:-1]}'"
    return ""


def has_blocks(stream: TextIO) -> bool:
    """Return whether a stream can encode the block characters."""
    try:
        (HALF + EIGHTHS).encode(stream.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def protocol(environ: Mapping[str, str]) -> str:
    """Return the graphics protocol of a terminal: `kitty`, `sixel`, or `blocks` without either."""
    term, program = environ.get("TERM", ""), environ.get("TERM_PROGRAM", "")
    if "TMUX" in environ or term.startswith(
        ("tmux", "screen")
    ):  # these do not pass graphics on unchanged
        return "blocks"
    in_kitty = "KITTY_WINDOW_ID" in environ and term.startswith("xterm")
    if in_kitty or term in ("xterm-kitty", "xterm-ghostty"):
        return "kitty"
    if "sixel" in term or term.startswith(("foot", "mlterm")) or program in ("WezTerm", "mintty"):
        return "sixel"
    return "blocks"


def size_of(stream: TextIO) -> tuple[int, int]:
    """Return the columns and rows of the terminal behind a stream."""
    try:
        return os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        return shutil.get_terminal_size()


def picture(pixels: Pixels, how: str, size: tuple[int, int]) -> str:
    """Return an image (H,W,3) as text for a terminal of `size` (columns, rows), by a `protocol`."""
    columns, rows = _within(pixels, min(size[0], WIDEST), max(8, size[1] - _BELOW))
    if how == "blocks":
        return "\n".join(_half_blocks(_resized(pixels, columns, 2 * rows))) + "\n"
    fine = _resized(pixels, columns * _CELL[0], rows * _CELL[1])
    return (_kitty(fine, columns, rows) if how == "kitty" else _sixel(fine)) + "\n"


def bars(shares: Sequence[tuple[str, float]], width: int, *, blocks: bool = True) -> list[str]:
    """Return a line with a bar for each name and share (0 to 1), at most `width` columns wide."""
    longest = min(max(len(name) for name, _ in shares), max(8, width // 3))
    room = max(4, min(40, width - longest - 12))
    return [
        f"  {_short(name, longest):{longest}}  {_bar(share, room, blocks):{room}} {share:6.1%}"
        for name, share in shares
    ]


def _short(name: str, length: int) -> str:
    return name if len(name) <= length else name[: length - 3] + "..."


def _bar(share: float, room: int, blocks: bool) -> str:
    if not blocks:
        return "#" * round(share * room)
    whole, rest = divmod(round(share * room * 8), 8)
    return EIGHTHS[-1] * whole + EIGHTHS[rest].strip()


def _within(pixels: Pixels, columns: int, rows: int) -> tuple[int, int]:
    """Return the columns and rows of an image that keeps its shape within the given limits."""
    high, wide = pixels.shape[:2]
    scale = min(columns / wide, 2 * rows / high)
    return max(1, round(wide * scale)), max(1, round(high * scale / 2))


def _resized(pixels: Pixels, width: int, height: int) -> Pixels:
    image = Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(image)


def _half_blocks(pixels: Pixels) -> Iterator[str]:
    """Yield a line for every two rows of an image (2 R,W,3). Colours are set where they change."""
    for upper, lower in zip(pixels[::2].tolist(), pixels[1::2].tolist(), strict=True):
        line, last = "", None
        for above, below in zip(upper, lower, strict=True):
            if (above, below) != last:
                colours = (";".join(map(str, colour)) for colour in (above, below))
                line += "\x1b[38;2;{};48;2;{}m".format(*colours)
                last = (above, below)
            line += HALF
        yield f"{line}\x1b[0m"


def _kitty(pixels: Pixels, columns: int, rows: int) -> str:
    """Return a PNG for the given columns and rows. `q=2` suppresses the terminal's answer."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    text = base64.b64encode(file.getvalue()).decode()
    parts = [text[i : i + _CHUNK] for i in range(0, len(text), _CHUNK)]
    heads = [f"a=T,f=100,q=2,c={columns},r={rows},", *[""] * (len(parts) - 1)]
    more = [1] * (len(parts) - 1) + [0]
    return "".join(
        f"\x1b_G{head}m={m};{part}\x1b\\" for head, m, part in zip(heads, more, parts, strict=True)
    )


def _sixel(pixels: Pixels, colours: int = 128) -> str:
    """Return bands of six rows, each with a line of sixels for every colour in it."""
    image = Image.fromarray(pixels).quantize(colours)
    palette = np.asarray(image.getpalette()).reshape(-1, 3)
    indices, (height, width) = np.asarray(image), pixels.shape[:2]
    named = "".join(
        "#{};2;{};{};{}".format(i, *(round(int(c) / 2.55) for c in colour))
        for i, colour in enumerate(palette)
    )
    bands = (indices[y : y + 6] for y in range(0, height, 6))
    body = "-".join("$".join(_colours_of(band)) for band in bands)
    return f'\x1bP0;1;0q"1;1;{width};{height}{named}{body}\x1b\\'


def _colours_of(band: Pixels) -> Iterator[str]:
    """Yield the sixels of each colour in a band of up to six rows, run-length encoded."""
    bits = 1 << np.arange(len(band))[:, None]
    for colour in np.unique(band):
        codes = 63 + ((band == colour) * bits).sum(0)
        starts = np.flatnonzero(np.diff(codes, prepend=-1))
        counts = np.diff(starts, append=len(codes))
        runs = zip(codes[starts].tolist(), counts.tolist(), strict=True)
        yield f"#{colour}" + "".join(_run(chr(code), count) for code, count in runs)


def _run(sign: str, count: int) -> str:
    return f"!{count}{sign}" if count > 3 else sign * count
