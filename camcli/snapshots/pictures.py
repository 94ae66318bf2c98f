"""Pictures of the maps that changed."""

from __future__ import annotations

from pathlib import Path

from camcli.errors import CamcliError
from camcli.images.tars import split_name
from camcli.render.encode import png
from camcli.render.panels import comparison
from camcli.runs.files import write
from camcli.runs.maps import read_map
from camcli.snapshots.compare import Comparison


def write_picture(one: Comparison, new: Path, folder: Path) -> Path | None:
    """Write `<map's name in new>.diff.png` if two maps differ, and return its path.

    There is no picture if a map is missing on one side or cannot be read.
    """
    if not (one.reasons and one.new and one.baseline):
        return None
    try:
        maps = [read_map(file) for file in (one.baseline, one.new)]
    except CamcliError:  # the comparison's reasons contain the error
        return None
    if not all(values.size for values in maps):
        return None
    _, name = split_name(one.new.relative_to(new).as_posix())
    picture = (folder / name).with_suffix(".diff.png")
    write(picture, png(comparison(*maps)))
    return picture
