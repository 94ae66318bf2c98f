"""One image's results as files and manifest rows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from camcli.errors import CamcliError
from camcli.images.find import Source
from camcli.images.geometry import MapArray, Pixels
from camcli.methods.registry import METHODS
from camcli.render import draw, panels
from camcli.runs.files import within, write
from camcli.runs.job import Existing, Explained, Failed, Job, Loaded, Result, Row
from camcli.runs.names import FIELDS, Wanted, name_of


def written(job: Job, item: Explained) -> list[Row]:
    if isinstance(item, Existing):
        return item.rows
    if isinstance(item, Failed):
        facts = {"status": "error", "error": str(item.error), "digest": f"{job.settings}-"}
        return [_row(item.source, one, layer=one.layer, **facts) for one in job.results]
    loaded, results = item
    return [_write_one(job, loaded, result) for result in results]


def _write_one(job: Job, loaded: Loaded, result: Result) -> Row:
    facts: Row = {
        "class_index": result.class_index,
        "class_name": _name(job, result),
        "score": result.score,
        "probability": result.probability,
        "layer": result.layer,
        "map_shape": list(result.values.shape),
        "crop": [loaded.crop.x0, loaded.crop.y0, loaded.crop.x1, loaded.crop.y1],
        "box": loaded.crop.corners(result.box, loaded.size),
        "digest": loaded.digest,
    }
    row = partial(_row, loaded.source, result.wanted)
    if not np.isfinite(result.values).all() or not np.isfinite(result.score):
        method = result.wanted.method
        error = f"{loaded.source.path}: the {method} map or its score holds NaN or infinity"
        return row(**facts | {"score": None, "probability": None}, status="error", error=error)
    if result.said and (told := result.said.answers or result.said.words):
        facts["answers" if result.said.answers else "words"] = [list(one) for one in told]
    files = files_of(job, loaded.source, result.wanted)
    boxes = _boxes(job, loaded, result) if "boxes" in files else []
    explained = [facts["box"]] if facts["box"] else []
    try:
        for what, file in files.items():
            place = within(job.output, file)
            frames = boxes if what == "boxes" else explained
            write(place, _contents(job, loaded, result, what, frames), job.owner)
    except CamcliError as error:
        return row(**facts, status="error", error=f"{loaded.source.path}: {error}")
    return row(
        **facts,
        map_min=float(result.values.min()),
        map_max=float(result.values.max()),
        **{FIELDS[what]: file.as_posix() for what, file in files.items()},
        boxes=boxes if "boxes" in files else None,
        status="ok" if result.values.any() else "empty",
    )


def _name(job: Job, result: Result) -> str | None:
    """What was explained: a class's name, or a text."""
    if result.class_index is None:
        return result.said.text if result.said else None
    names = job.model.class_names
    return names[result.class_index] if names else None


def _boxes(job: Job, loaded: Loaded, result: Result) -> list[list[int]]:
    """The boxes that the map gives, in pixels of the original."""
    values = draw.place_map(result.values, loaded.crop, loaded.pixels.shape[:2])
    return [[*box] for box in job.boxes.find(values, result.wanted.method)]


def files_of(job: Job, source: Source, wanted: Wanted) -> dict[str, Path]:
    """The files of a result. The words of a text have no boxes: the text itself has."""
    words = job.prompt is not None and job.prompt.words and wanted.target == job.targets[-1]
    saves = [what for what in job.saves if not (words and what == "boxes")]
    return {what: name_of(source, wanted, what) for what in saves}


def _contents(
    job: Job, loaded: Loaded, result: Result, what: str, frames: Sequence[list[int]]
) -> bytes:
    if what == "map":
        buffer = BytesIO()
        np.save(buffer, result.values)
        return buffer.getvalue()
    if result.said and result.said.words:
        each = [
            (f"{word}  {probability:.0%}", _picture(job, loaded, result, what, values))
            for (word, probability), values in zip(result.said.words, result.values, strict=True)
        ]
        return draw.png(panels.labelled_grid(each))
    picture = _picture(job, loaded, result, what, result.values)
    for box in frames:
        # A panel ends with the overlay.
        draw.draw_box(picture[:, picture.shape[1] - loaded.pixels.shape[1] :], box)
    return draw.png(picture)


def _picture(job: Job, loaded: Loaded, result: Result, what: str, values: MapArray) -> Pixels:
    """A heatmap, a panel or an overlay of a map."""
    signed = METHODS[result.wanted.method].signed
    if what == "heatmap":
        size = (loaded.pixels.shape[0], loaded.pixels.shape[1])
        return draw.heatmap(values, loaded.crop, size, job.style, signed)
    picture = panels.panel if what == "panel" else draw.overlay
    return picture(loaded.pixels, values, loaded.crop, job.style, signed)


_FIELDS = (
    *("image", "method", "target", "class_index", "class_name", "score", "probability", "layer"),
    *("map", "overlay", "heatmap", "panel", "boxes_overlay"),
    *("map_shape", "map_min", "map_max", "crop", "box", "boxes"),
    *("status", "error", "digest"),
)


def _row(source: Source, wanted: Wanted, **facts: Any) -> Row:
    """A manifest row: the same fields in the same order, null where there is nothing to say."""
    explained = {"method": wanted.method, "target": wanted.target}
    known = {"image": source.name.as_posix(), **explained, **facts}
    # What is told with a text is there where there is one.
    return {field: known.get(field) for field in _FIELDS} | {
        field: known[field] for field in ("answers", "words") if field in known
    }
