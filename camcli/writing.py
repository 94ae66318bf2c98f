"""One image's results as files and manifest rows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from camcli import outputs, render
from camcli.errors import CamcliError
from camcli.images import Source
from camcli.job import Existing, Explained, Failed, Job, Loaded, Result, Row
from camcli.methods import METHODS
from camcli.outputs import Wanted


def written(job: Job, item: Explained) -> list[Row]:
    if isinstance(item, Existing):
        return item.rows
    if isinstance(item, Failed):
        facts = {"status": "error", "error": str(item.error), "digest": f"{job.settings}-"}
        return [_row(item.source, one, layer=one.layer, **facts) for one in job.results]
    loaded, results = item
    return [_write_one(job, loaded, result) for result in results]


def _write_one(job: Job, loaded: Loaded, result: Result) -> Row:
    names = job.model.class_names
    facts: Row = {
        "class_index": result.class_index,
        "class_name": names[result.class_index] if names else None,
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
    files = files_of(job, loaded.source, result.wanted)
    boxes = _boxes(job, loaded, result) if "boxes" in files else []
    explained = [facts["box"]] if facts["box"] else []
    try:
        for what, file in files.items():
            place = outputs.within(job.output, file)
            frames = boxes if what == "boxes" else explained
            outputs.write(place, _contents(job, loaded, result, what, frames), job.owner)
    except CamcliError as error:
        return row(**facts, status="error", error=f"{loaded.source.path}: {error}")
    return row(
        **facts,
        map_min=float(result.values.min()),
        map_max=float(result.values.max()),
        **{outputs.FIELDS[what]: file.as_posix() for what, file in files.items()},
        boxes=boxes if "boxes" in files else None,
        status="ok" if result.values.any() else "empty",
    )


def _boxes(job: Job, loaded: Loaded, result: Result) -> list[list[int]]:
    """The boxes that the map gives, in pixels of the original."""
    values = render.placed(result.values, loaded.crop, loaded.pixels.shape[:2])
    return [[*box] for box in job.boxes.of(values, result.wanted.method)]


def files_of(job: Job, source: Source, wanted: Wanted) -> dict[str, Path]:
    return {what: outputs.name_of(source, wanted, what) for what in job.saves}


def _contents(
    job: Job, loaded: Loaded, result: Result, what: str, frames: Sequence[list[int]]
) -> bytes:
    if what == "map":
        buffer = BytesIO()
        np.save(buffer, result.values)
        return buffer.getvalue()
    signed = METHODS[result.wanted.method].signed
    size = (loaded.pixels.shape[0], loaded.pixels.shape[1])
    if what == "heatmap":
        return render.png(render.heatmap(result.values, loaded.crop, size, job.style, signed))
    draw = render.panel if what == "panel" else render.overlay
    picture = draw(loaded.pixels, result.values, loaded.crop, job.style, signed)
    for box in frames:
        # A panel ends with the overlay.
        render.frame(picture[:, picture.shape[1] - size[1] :], box)
    return render.png(picture)


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
    return {field: known.get(field) for field in _FIELDS}
