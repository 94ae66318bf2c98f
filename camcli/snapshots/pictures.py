"""Pictures of the maps that changed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from camcli.render.draw import png
from camcli.render.panels import comparison
from camcli.runs.files import write
from camcli.snapshots.compare import Comparison


def write_pictures(
    comparisons: Sequence[Comparison], new: Path, folder: Path
) -> dict[Comparison, Path]:
    """Write `<map's name in new>.diff.png` for each pair of maps that differ. Returns the paths.

    There is no picture if a map is missing on one side or cannot be read.
    """
    pictures = {}
    for one in comparisons:
        if one.reasons and one.new and one.baseline:
            try:
                maps = [np.load(file, allow_pickle=False) for file in (one.baseline, one.new)]
            except (OSError, ValueError, EOFError):
                continue  # the comparison's reasons contain the error
            if all(m.ndim in (2, 3) and m.size for m in maps):
                pictures[one] = (folder / one.new.relative_to(new)).with_suffix(".diff.png")
                write(pictures[one], png(comparison(*maps)))
    return pictures
