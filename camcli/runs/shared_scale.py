"""Draw the pictures of a run at one scale, once all its maps are known.

A run draws each map as soon as it is computed, at its own scale. With `--scale run` its pictures
are drawn again at the end, from the saved maps: full colour is the largest value of all maps in the
folder of the same method, target and layer.
"""

from __future__ import annotations

import json
import warnings
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import TypeAlias

import numpy as np

from camcli.errors import CamcliError, CamcliWarning, ImageError, MethodError
from camcli.images.decode import fetch, read
from camcli.images.geometry import Pixels
from camcli.images.memory import Budget
from camcli.images.places import has_stdin
from camcli.images.source import Source
from camcli.images.store import RemotePath
from camcli.methods.registry import METHODS
from camcli.runs.ahead import read_ahead
from camcli.runs.files import path_inside, write
from camcli.runs.grids import crop_of
from camcli.runs.job import Job
from camcli.runs.manifest import Adder, Row
from camcli.runs.maps import read_map
from camcli.runs.outputs import OUTPUTS, Drawing, named_files
from camcli.runs.rows import Rows

Key: TypeAlias = tuple[str, str, str | None]
"""Method, target and layer: maps whose values have one unit."""


def check_shared_scale(job: Job) -> None:
    """Raise CamcliError for a job whose pictures cannot be drawn again from its maps."""
    if images := [name for name in job.methods if METHODS[name].image]:
        raise MethodError(f"'{images[0]}' gives images, and --scale run is for maps: leave it out")
    reasons = {
        "needs the maps: add map to --save": "map" not in job.saves,
        "needs all maps of the run, and a shard has a part: leave out --shard": job.part,
        "needs the maps here: --executor ray cannot draw them": job.executor["name"] != "local",
        "reads images twice, which standard input cannot do": has_stdin(job.sources),
        "draws pictures again, and a tar is not changed: leave out --save-to": job.save_to == "tar",
        "needs an --output on this machine": isinstance(job.output, RemotePath),
    }
    if reason := next((text for text, holds in reasons.items() if holds), None):
        raise CamcliError(f"--scale run {reason}")


def share_scale(job: Job, rows: Rows, add: Adder) -> None:
    """Draw the pictures of a job's images that have another scale than the folder's, and record it.

    Warns of pictures that keep another scale: the photos of other images are not known.
    """
    tops = _tops(rows)
    redraw = partial(_redraw, job, rows, tops, Budget(job.inputs.memory))
    workers, problems = job.inputs.workers, list[str]()
    with ThreadPoolExecutor(workers) as executor:
        for found in read_ahead(executor.submit, redraw, job.sources, workers):
            if isinstance(found, ImageError):
                problems.append(str(found))
                continue
            for row in found:
                rows.add(row)
            add(found)
    if left := sum(_is_due(row, tops) for row in map(json.loads, rows.lines())):
        reason = problems[0] if problems else "they are of images that this run did not get"
        line = f"pictures of {left} maps keep another scale than the run's: {reason}"
        warnings.warn(line, CamcliWarning, stacklevel=2)


def _tops(rows: Rows) -> Mapping[Key, float]:
    """Return the largest value of the maps with each key, of signed maps the largest absolute."""
    tops: dict[Key, float] = defaultdict(float)
    for row in map(json.loads, rows.lines()):
        if row["status"] == "ok":
            low = -row["map_min"] if _is_signed(row) else 0
            tops[_key(row)] = max(tops[_key(row)], row["map_max"], low)
    return tops


def _is_signed(row: Row) -> bool:
    method = METHODS.get(row["method"])
    return method is not None and method.signed


def _key(row: Row) -> Key:
    return row["method"], row["target"], row.get("layer")


def _pictures(row: Row) -> dict[str, str]:
    return {name: file for name, file in named_files(row).items() if OUTPUTS[name].picture}


def _is_due(row: Row, tops: Mapping[Key, float]) -> bool:
    """Return whether a row of a map has pictures of another scale."""
    method = METHODS.get(row["method"])
    is_map = row["status"] == "ok" and not (method and method.image)
    return is_map and bool(_pictures(row)) and row.get("top") != tops[_key(row)]


def _redraw(
    job: Job, rows: Rows, tops: Mapping[Key, float], budget: Budget, source: Source
) -> list[Row] | ImageError:
    """Draw an image's pictures, and return their rows, or the error that leaves them."""
    due = [row for row in rows.of_image(source.image) if _is_due(row, tops)]
    if not due:
        return []
    pixels = cache(partial(_pixels, job, source, due[0]["digest"]))
    try:
        with budget.drawing((due[0]["size"][0], due[0]["size"][1])):
            return [_redrawn(job, row, tops[_key(row)], pixels()) for row in due]
    except ImageError as error:
        return error


def _pixels(job: Job, source: Source, digest: str) -> Pixels:
    path = fetch(source.path)
    pixels = read(path, job.inputs.reading, job.model.preset.channels).pixels
    if job.digest_of(path) != digest:
        raise ImageError(f"{path}: changed while it was explained")
    return pixels


def _redrawn(job: Job, row: Row, top: float, pixels: Pixels) -> Row:
    """Draw a row's pictures from its map."""
    crop = crop_of(row)
    try:
        saved = path_inside(job.output, row["map"] or "")
        values = read_map(saved) if isinstance(saved, Path) and row["map"] else None
    except CamcliError as error:
        raise ImageError(f"{row['map']}: {error}") from None
    if crop is None or values is None:
        raise ImageError(f"{row['image']}: the row has no map or no crop")
    drawing = Drawing(
        read=lambda: pixels,
        values=values.astype(np.float32),
        crop=crop,
        style=job.style,
        signed=_is_signed(row),
        top=top,
        picture_format=job.picture_format,
        target_boxes=[row["box"]] if row["box"] else [],
        map_boxes=row["boxes"] or [],
    )
    for name, file in _pictures(row).items():
        write(path_inside(job.output, file), OUTPUTS[name].contents(drawing), job.owner)
    return row | {"top": top}
