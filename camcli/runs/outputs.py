"""The kinds of output files. A new kind is one row in OUTPUTS.

A row holds the ending of the file's name, the field of a manifest row that names the file, and the
function that makes its bytes. The command line, writing, resuming and the report use the rows.
OpenCV is imported where a picture is drawn, so that `camcli --help` can list the kinds without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from camcli.images.geometry import Crop, MapArray, Pixels
from camcli.images.tars import split_name
from camcli.render.names import FORMATS

if TYPE_CHECKING:
    from camcli.render.style import Style


@dataclass(frozen=True)
class Drawing:
    """One result of one image, with everything that a file of it may show.

    `read` returns the pixels of the original. `values` is the raw map (h,w), the signed gradients
    (3,H,W), or one map for each of `parts`, (P,h,w). `drawn` is drawn instead of it, where it is
    given. `parts` are labels with probabilities. `target_boxes` are the boxes of the explained
    object, `map_boxes` those that the map gives, all x0, y0, x1, y1 in pixels of the original.
    `top` is the value in full colour, by default the map's own maximum. `picture_format`, one of
    FORMATS, is that of pictures.
    """

    read: Callable[[], Pixels]
    values: MapArray
    crop: Crop
    style: Style
    signed: bool
    parts: Sequence[tuple[str, float]] = ()
    target_boxes: Sequence[Sequence[int]] = ()
    map_boxes: Sequence[Sequence[int]] = ()
    drawn: MapArray | None = None
    top: float | None = None
    picture_format: str = "png"

    @property
    def pixels(self) -> Pixels:
        return self.read()

    @property
    def shown(self) -> MapArray:
        return self.values if self.drawn is None else self.drawn


@dataclass(frozen=True)
class OutputKind:
    """One kind of output file.

    `ending` ends the file's name, where pictures are PNG, and `field` is the field of a manifest
    row that names the file. `contents` returns the file's bytes. `boxes` means that the file shows
    the boxes of one map; a result with several maps has no file of this kind. `full_size` means
    that a picture has the size of the original.
    """

    ending: str
    field: str
    contents: Callable[[Drawing], bytes]
    boxes: bool = False
    full_size: bool = True

    @property
    def picture(self) -> bool:
        return self.ending.endswith(".png")

    def ending_in(self, picture_format: str) -> str:
        """Return the ending of the file's name, with pictures in one of FORMATS."""
        return self.ending.removesuffix("png") + picture_format if self.picture else self.ending

    @property
    def endings(self) -> Sequence[str]:
        """The endings that the file's name may have, each once."""
        return [*dict.fromkeys(map(self.ending_in, FORMATS))]


def _map(drawing: Drawing) -> bytes:
    buffer = BytesIO()
    np.save(buffer, drawing.values)
    return buffer.getvalue()


def _overlay(drawing: Drawing) -> bytes:
    from camcli.render import draw

    return _picture(drawing, draw.overlay, drawing.target_boxes)


def _heatmap(drawing: Drawing) -> bytes:
    from camcli.render import draw

    def heatmap(pixels: Pixels, values: MapArray, crop: Crop, *how: Any) -> Pixels:
        return draw.heatmap(values, crop, (pixels.shape[0], pixels.shape[1]), *how)

    return _picture(drawing, heatmap, drawing.target_boxes)


def _panel(drawing: Drawing) -> bytes:
    from camcli.render import panels

    return _picture(drawing, panels.panel, drawing.target_boxes)


def _boxes(drawing: Drawing) -> bytes:
    from camcli.render import draw

    return _picture(drawing, draw.overlay, drawing.map_boxes)


def _picture(
    drawing: Drawing, draw_map: Callable[..., Pixels], boxes: Sequence[Sequence[int]]
) -> bytes:
    """Return a picture of the map with boxes, or of all parts' maps under their labels."""
    from camcli.render import draw, encode, panels

    def drawn_of(values: MapArray) -> Pixels:
        how = drawing.style, drawing.signed, drawing.top
        return draw_map(drawing.pixels, values, drawing.crop, *how)

    if drawing.parts:
        each = zip(drawing.parts, drawing.shown, strict=True)
        labelled = [(f"{label}  {share:.0%}", drawn_of(values)) for (label, share), values in each]
        return encode.encoded(panels.labelled_grid(labelled), drawing.picture_format)
    drawn = drawn_of(drawing.shown)
    for box in boxes:  # a panel ends with the overlay
        draw.draw_box(drawn[:, drawn.shape[1] - drawing.pixels.shape[1] :], box)
    return encode.encoded(drawn, drawing.picture_format)


_outputs: dict[str, OutputKind] = {
    "overlay": OutputKind(".png", "overlay", _overlay),
    "map": OutputKind(".npy", "map", _map),
    "boxes": OutputKind(".boxes.png", "boxes_overlay", _boxes, boxes=True),
    "heatmap": OutputKind(".heatmap.png", "heatmap", _heatmap),
    "panel": OutputKind(".panel.png", "panel", _panel, full_size=False),
}
OUTPUTS: Mapping[str, OutputKind] = MappingProxyType(_outputs)
"""The kinds by the names that --save takes, in the order in which to look at them."""


def register_output(name: str, kind: OutputKind) -> None:
    """Add a row to OUTPUTS."""
    if name in _outputs:
        raise ValueError(f"output {name!r} is registered twice")
    _outputs[name] = kind


def named_files(row: Mapping[str, Any]) -> dict[str, str]:
    """Return the files that a manifest row names, by the names of their kinds."""
    return {name: row[kind.field] for name, kind in OUTPUTS.items() if row.get(kind.field)}


def tars_of(row: Mapping[str, Any]) -> set[str]:
    """Return the tars that hold the files of a manifest row."""
    return {tar for name in named_files(row).values() if (tar := split_name(name)[0])}


def first_file(row: Mapping[str, Any]) -> str | None:
    """Return the file of a manifest row to look at first: a picture, or the map without one."""
    files = named_files(row)
    pictures = [files[name] for name in files if OUTPUTS[name].picture]
    return next(iter((*pictures, *files.values())), None)
