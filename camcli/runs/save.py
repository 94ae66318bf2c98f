"""Write one image's results as files, and return their manifest rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from functools import cache, partial
from typing import Any

import numpy as np

from camcli.errors import CamcliError, ImageError
from camcli.images.decode import fetch, read
from camcli.images.geometry import Crop, Pixels, placement
from camcli.images.memory import Budget
from camcli.images.source import Source
from camcli.methods.registry import METHODS
from camcli.render import draw
from camcli.runs.files import path_inside, write
from camcli.runs.items import Existing, Explained, Failed, Loaded, Packed, Result
from camcli.runs.job import Job
from camcli.runs.manifest import Row
from camcli.runs.names import Wanted, name_of
from camcli.runs.outputs import OUTPUTS, Drawing
from camcli.runs.predictions import Prediction, no_prediction


def write_results(job: Job, item: Explained, budget: Budget | None = None) -> list[Row]:
    """Write the files of an image and return its rows, one for each result.

    `budget` limits the memory of the images that are drawn at the same time. Members of a tar are
    returned with the rows, since they are written in input order.
    """
    if isinstance(item, Existing):
        return item.rows
    if isinstance(item, Failed):
        facts = {"status": "error", "error": str(item.error), "digest": f"{job.settings}-"}
        facts |= no_prediction(job.label(item.source))._asdict()
        return [_manifest_row(item.source, one, layer=one.layer, **facts) for one in job.results]
    loaded, results = item
    height, width = loaded.shape
    pixels = cache(partial(_pixels_of, job, loaded))
    members: dict[str, bytes] = {}
    put = members.__setitem__ if job.save_to == "tar" else partial(_write, job)
    with budget.drawing((width, height)) if budget and job.draws else nullcontext():
        rows = [_write_result(job, loaded, pixels, result, put) for result in results]
    return Packed(rows, members) if members else rows


def _write(job: Job, name: str, data: bytes) -> None:
    write(path_inside(job.output, name), data, job.owner)


def _pixels_of(job: Job, loaded: Loaded) -> Pixels:
    """Return an image's pixels, and read them again if they are not held. Raises ImageError."""
    if loaded.pixels is not None:
        return loaded.pixels
    path = fetch(loaded.source.path)
    pixels = read(path, job.inputs.reading, job.model.preset.channels).pixels
    if job.digest_of(path) != loaded.digest:
        raise ImageError(f"{path}: changed while it was explained")
    return pixels


def _write_result(
    job: Job,
    loaded: Loaded,
    pixels: Callable[[], Pixels],
    result: Result,
    put: Callable[[str, bytes], None],
) -> Row:
    crop = loaded.crop.placed(result.centres, loaded.size)
    facts = _facts(job, loaded, result, crop)
    row = partial(_manifest_row, loaded.source, result.wanted)
    if not np.isfinite(result.values).all() or not _is_finite(result.score):
        method = result.wanted.method
        error = f"{loaded.source.path}: the {method} map or its score holds NaN or infinity"
        unknown = dict.fromkeys(("score", "probability"))
        return row(**facts | unknown, status="error", error=error)
    facts |= _text_facts(result)
    if job.scale == "probability" and result.probability is None:
        error = f"{loaded.source.path}: --scale probability: the target has no probability"
        return row(**facts, status="error", error=error)
    saves = {
        name: name_of(loaded.source, result.wanted, name, job.picture_format, job.naming)
        for name in job.saves_of(result.wanted)
    }
    boxes = None
    if any(OUTPUTS[name].boxes for name in saves):
        placed = draw.place_map(result.values, crop, loaded.shape)
        boxes = [[*found] for found in job.boxes.find(placed, result.wanted.method)]
    drawing = _drawing_of(job, loaded, pixels, result, crop, boxes or [])
    try:
        for name, file in saves.items():
            put(file, OUTPUTS[name].contents(drawing))
    except ImageError as error:
        return row(**facts, status="error", error=str(error))
    except CamcliError as error:
        return row(**facts, status="error", error=f"{loaded.source.path}: {error}")
    return row(
        **facts,
        map_min=float(result.values.min()),
        map_max=float(result.values.max()),
        top=drawing.top,
        **{OUTPUTS[name].field: file for name, file in saves.items()},
        boxes=boxes,
        status="ok" if result.values.any() else "empty",
    )


def _facts(job: Job, loaded: Loaded, result: Result, crop: Crop) -> Row:
    """Return the row's fields that are known before any file is written."""
    return {
        "class_index": result.class_index,
        "class_name": _explained_name(job, result),
        **result.prediction._asdict(),
        "score": result.score,
        "probability": result.probability,
        "unsure": result.prediction.unsure,
        "layer": result.layer,
        "map_shape": list(result.values.shape),
        "size": [loaded.shape[1], loaded.shape[0]],
        "frame": loaded.frame,
        "levels": loaded.levels and list(loaded.levels),
        "crop": list(crop.box),
        "placement": placement(result.centres),
        "cells": [round(number, 6) for number in crop.centres(result.values.shape)[:4]],
        "box": crop.corners(result.box, loaded.size),
        "digest": loaded.digest,
    }


def _is_finite(score: float | None) -> bool:
    return score is None or math.isfinite(score)


def _drawing_of(
    job: Job,
    loaded: Loaded,
    pixels: Callable[[], Pixels],
    result: Result,
    crop: Crop,
    boxes: list[list[int]],
) -> Drawing:
    """Return what the output rows draw: a map in its crop, and the boxes found in the map."""
    box = crop.corners(result.box, loaded.size)
    return Drawing(
        read=pixels,
        values=result.values,
        crop=crop,
        style=job.style,
        signed=METHODS[result.wanted.method].signed,
        parts=result.text.words if result.text else (),
        target_boxes=[box] if box else [],
        map_boxes=boxes,
        drawn=result.drawn,
        top=_top(job, result),
        picture_format=job.picture_format,
    )


def _top(job: Job, result: Result) -> float | None:
    """Return the value in full colour, None for the map's own maximum.

    With `--scale probability` a map has full colour only where its class is certain.
    """
    if job.scale != "probability" or result.probability is None:
        return None
    values = result.values if result.drawn is None else result.drawn
    signed = METHODS[result.wanted.method].signed
    return draw.ceiling(values, signed=signed) / max(result.probability, 1e-9) or None


def _explained_name(job: Job, result: Result) -> str | None:
    """Return the explained class's name, or the explained text."""
    if result.class_index is None:
        return result.text.text if result.text else None
    names = job.model.class_names
    return names[result.class_index] if names else None


def _text_facts(result: Result) -> Row:
    """Return the row's fields for the network's own answers, or for the words of a text."""
    if result.text and result.text.answers:
        return {"answers": [list(answer) for answer in result.text.answers]}
    if result.text and result.text.words:
        return {"words": [list(word) for word in result.text.words]}
    return {}


def _manifest_row(source: Source, wanted: Wanted, **facts: Any) -> Row:
    """Return a manifest row: always the same fields in the same order, null if unknown.

    Raw maps precede pictures, and boxes are last. `answers` and `words` are added if a result has
    them.
    """
    kinds = sorted(OUTPUTS.values(), key=lambda kind: (kind.picture, kind.boxes))
    fields = (
        *("image", "method", "target", "class_index", "class_name", *Prediction._fields),
        *("score", "probability", "unsure", "layer", *(kind.field for kind in kinds)),
        *("map_shape", "map_min", "map_max", "top", "size", "frame", "levels", "crop", "placement"),
        *("cells", "box", "boxes"),
        *("status", "error", "digest"),
    )
    explained = {"method": wanted.method, "target": wanted.target}
    known = {"image": source.image, **explained, **facts}
    return {field: known.get(field) for field in fields} | {
        field: known[field] for field in ("answers", "words") if field in known
    }
