"""Pictures of the maps that changed."""

from __future__ import annotations

from pathlib import Path

from camcli.images.tars import split_name
from camcli.render.encode import png
from camcli.render.panels import comparison
from camcli.runs.files import write
from camcli.snapshots.compare import Comparison


def write_picture(one: Comparison, folder: Path) -> Path | None:
    """Write `<name of the new map>.diff.png` if two maps differ, and return its path.

    There is no picture if a map is missing on one side or cannot be read.
    """
    if not (one.name and one.maps and all(values.size for values in one.maps)):
        return None
    new, baseline = one.maps
    picture = (folder / split_name(one.name)[1]).with_suffix(".diff.png")
    write(picture, png(comparison(baseline, new)))
    return picture
