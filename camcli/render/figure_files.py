"""Files of matplotlib figures. They hold no dates and no versions, so that they are reproducible.

Importing this module imports matplotlib, which is an extra.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import Any

import matplotlib.style
from matplotlib.figure import Figure
from matplotlib.font_manager import get_font_names

from camcli.errors import CamcliError, CamcliWarning, unknown

FONT = "DejaVu Sans"
"""The default font. It comes with matplotlib: the same text on every machine."""
SAVE_OPTIONS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        ".png": {"metadata": {"Software": "camcli"}},
        ".jpg": {"pil_kwargs": {"quality": 92}},
        ".pdf": {"metadata": {"Creator": "camcli", "Producer": None, "CreationDate": None}},
        ".svg": {"metadata": {"Creator": "camcli", "Date": None}},
    }
)
"""The endings of figure files, with their arguments for `Figure.savefig`."""
_SETTINGS = MappingProxyType(
    {
        "text.parse_math": False,  # a class name may contain a dollar sign
        "pdf.fonttype": 42,  # whole fonts, which publishers ask for
        "svg.hashsalt": "camcli",
        "image.composite_image": False,  # separate pictures are easier to edit
    }
)


@contextlib.contextmanager
def matplotlib_settings(font: str = FONT) -> Iterator[None]:
    """Give matplotlib camcli's settings for a while, whatever the user's are.

    Characters that the font lacks are taken from the default font. If that lacks them, too, there
    is one warning.
    """
    family = list(dict.fromkeys([font, FONT]))
    settings: list[str | Path | dict[str, Any]] = ["default", {**_SETTINGS, "font.family": family}]
    with matplotlib.style.context(settings), _one_glyph_warning():
        yield


def check_font(name: str) -> str:
    """Return the name of an installed font as it is written. Raises CamcliError for others."""
    names = sorted(get_font_names())
    found = next((known for known in names if known.lower() == name.lower()), None)
    if found is None:
        raise CamcliError(unknown("font", name, names))
    return found


def figure_file(figure: Figure, ending: str, dpi: int) -> bytes:
    """Return the file of a figure. Call within `matplotlib_settings`."""
    buffer = BytesIO()
    figure.savefig(buffer, format=ending[1:], dpi=dpi, **SAVE_OPTIONS[ending])
    return buffer.getvalue()


@contextlib.contextmanager
def _one_glyph_warning() -> Iterator[None]:
    """Replace the warnings of characters that a font lacks by one, and drop notes on its file."""
    log = logging.getLogger("fontTools")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.filterwarnings("always", "Glyph ")
            yield
    finally:
        log.setLevel(level)
    if caught:
        line = "the figure's font lacks characters of some names: the file shows boxes instead"
        warnings.warn(line, CamcliWarning, stacklevel=2)
