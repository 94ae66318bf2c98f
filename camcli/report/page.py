"""Write the page: HTML that holds its data as JSON, safe for any file name and class name.

Names are never markup. JSON is escaped so that it contains no `<`, the script sets text and no
HTML, and links are percent-encoded. The page's content security policy runs only the page's own
script, by its hash, and loads only pictures, from the disk or from where the page itself is.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from importlib.resources import files
from typing import Any, TypeAlias

import numpy as np

from camcli.errors import CamcliError, ImageError
from camcli.images.decode import thumbnail
from camcli.images.geometry import Crop
from camcli.images.store import AnyPath
from camcli.render.blend import GROUND, SATURATION, UNSEEN
from camcli.render.draw import DIM
from camcli.render.style import Style
from camcli.report.changes import Change, Changes, change_of
from camcli.report.contents import Contents
from camcli.report.evaluation import Evaluation, metric_values
from camcli.report.folder import OutputFolder, SavedResult
from camcli.report.maps import PackedMap, pack_map
from camcli.report.markup import POLICY, link, sha256
from camcli.report.originals import Original, webp
from camcli.runs.ahead import read_from
from camcli.snapshots.tables import VERDICTS

Data: TypeAlias = dict[str, Any]
SCRIPTS = (
    *("data.js", "state.js", "colours.js", "picture.js"),
    *("gallery.js", "check.js", "share.js"),
    *("viewer.js", "stage.js", "zoom.js", "main.js"),
)
"""The files of the page's script, in the order in which they are joined."""
STYLES = ("page.css", "gallery.css")
"""The files of the page's style. Other pages begin with the first one, too."""
RUN_FIELDS = (
    *("model", "weights", "layers", "fuse", "fit", "precision", "device"),
    *("region", "scale"),
)
"""The fields of the run record that the page shows. Times are left out: pages stay the same."""
BROWSER_FORMATS = (".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".avif")
"""The endings of the image files that browsers can show."""


def render_page(data: dict[str, Any]) -> bytes:
    """Return the page that shows `data`. The same data gives the same bytes."""
    parts = files("camcli.report")
    style, script = (
        "".join((parts / name).read_text(encoding="utf-8") for name in names)
        for names in (STYLES, SCRIPTS)
    )
    values = {
        "policy": POLICY.format(script=sha256(script), style=sha256(style)),
        "title": html.escape(data["title"]),
        "style": style,
        "script": script,
        "data": script_json(data),
    }
    template = (parts / "page.html").read_text(encoding="utf-8")
    page = re.sub(r"{{(\w+)}}", lambda match: values[match[1]], template)
    return page.encode(errors="backslashreplace")


def script_json(value: Any) -> str:
    """Return ASCII JSON that is safe inside a script element: it has no `&`, `<` or `>`."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e")


def page_data(report: Contents) -> Data:
    """Return everything that the page shows: the run, its images and their results."""
    run, style = report.folder.run, style_of(report.folder.run)
    images = read_from([report.folder.path], partial(_image_data, report), report.originals)
    return {
        "title": report.title or default_title(report.folder),
        "run": _run_fields(run),
        "notes": [*report.notes()],
        "alpha": style.opacity,
        "blend": style.blend,
        "dim": DIM,
        "ground": {"saturation": SATURATION, "brightness": GROUND, "unseen": UNSEEN},
        "colormaps": [_colormap_data(style, signed) for signed in (False, True)],
        "images": [*report.reader.until_stopped(images)],
        "evaluation": _evaluation_data(report.evaluation),
        "check": _changes_data(report.changes),
    }


def default_title(folder: OutputFolder) -> str:
    """Return the model and the methods of a folder."""
    methods = list(dict.fromkeys(result.method for result in folder.results))
    listed = f"{len(methods)} methods" if len(methods) > 3 else ", ".join(methods)
    return f"{folder.run.get('model') or 'camcli'}: {listed}"


def _run_fields(run: Mapping[str, Any]) -> list[tuple[str, str]]:
    values = ((name, run.get(name)) for name in RUN_FIELDS)
    return [
        (name, ", ".join(map(str, value)) if isinstance(value, list) else str(value))
        for name, value in values
        if value not in (None, "") and (name, value) != ("scale", "image")
    ]


def _colormap_data(style: Style, signed: bool) -> Data:
    """Return the colours of maps: RGBA of a layer over the photo, and RGB of a bar beside it."""
    colours, shares = style.layer(signed)
    opacity = np.rint(255 * shares).astype(np.uint8)
    return {
        "layer": _base64(np.column_stack([colours, opacity]).tobytes()),
        "bar": _base64(style.table(signed).tobytes()),
        "strength": style.strength(signed),
    }


def style_of(run: Mapping[str, Any]) -> Style:
    """Return the style of a run's pictures, the default where its record has none.

    Runs that recorded no blend drew their maps evenly.
    """
    blend = run.get("blend") or ("even" if run.get("colormap") else "heat")
    try:
        return Style(run.get("colormap") or "auto", run.get("alpha"), blend)
    except CamcliError:
        return Style()


def _image_data(report: Contents, original: Original) -> Data:
    file, thumbnail = original.file, original.thumbnail
    shown = file and thumbnail and file.suffix.lower() in BROWSER_FORMATS
    results = report.folder.images[original.name]
    return _without_empty(
        name=original.name,
        size=original.size,
        thumbnail=thumbnail and f"data:image/webp;base64,{_base64(thumbnail)}",
        original=link(file, report.file) if file and shown else None,
        note=original.note,
        results=[_result_data(report, result, results, original) for result in results],
    )


def _result_data(
    report: Contents, result: SavedResult, siblings: Sequence[SavedResult], original: Original
) -> Data:
    change = change_of(result, report.changes.by_image.get(result.image, ()))
    packed, note = _packed_map(report, result.files.get("map"))
    before, before_note = _packed_map(report, change.baseline if change else None)
    crop = result.crop
    files, file_note = _files(report, result, packed is None or original.thumbnail is None)
    notes = [*(f"{name} is missing" for name in result.missing), note, file_note]
    notes += [f"baseline: {before_note}"] if packed and before_note else []
    return _without_empty(
        method=result.method,
        target=result.target,
        layer=result.layer,
        status=result.status,
        error=result.error,
        score=result.score,
        probability=result.probability,
        unsure=result.unsure or None,
        true=result.true_name if result.correct is False else None,
        correct=result.correct,
        **{"class": _class_name(result)},
        crop=crop and crop.box,
        cells=crop and packed and _cells(crop, packed.saved_shape),
        boxes=result.boxes or None,
        top=result.top,
        signed=result.signed,
        map=packed and asdict(packed),
        range=None if packed or result.map_min is None else (result.map_min, result.map_max),
        files=files or None,
        picture=result.picture,
        note="; ".join(filter(None, notes)),
        change=change and _change_data(report, change),
        before=before and _before_data(crop, before),
        values=dict(metric_values(result, siblings, report.same_model_evaluation)) or None,
    )


def _files(
    report: Contents, result: SavedResult, is_shown: bool
) -> tuple[dict[str, str], str | None]:
    """Return the addresses of a result's files, and a note on a picture that cannot be read.

    The page holds a picture that a browser cannot open itself, if it `is_shown`.
    """
    links = ((kind, link(file, report.file)) for kind, file in result.files.items())
    found = {kind: url for kind, url in links if url}
    if result.picture and result.picture not in found and is_shown:
        file = result.files[result.picture]
        try:
            picture, _ = thumbnail(file, report.picture_side)
        except ImageError as error:
            reason = str(error).removeprefix(f"{file}: ")
            return found, f"{result.picture} not readable ({reason})"
        found[result.picture] = f"data:image/webp;base64,{_base64(webp(picture.pixels))}"
    return found, None


def _cells(crop: Crop, shape: tuple[int, int]) -> tuple[float, ...]:
    """Return the centres of a map's cells as shares of the crop's width and height."""
    x, y = 1 / crop.size[0], 1 / crop.size[1]
    return crop.centres(shape).scaled(x, y, -crop.x0 * x, -crop.y0 * y)[:4]


def _before_data(crop: Crop | None, before: PackedMap) -> Data:
    """Return the baseline's map, which lies in the crop of the new one."""
    return _without_empty(map=asdict(before), cells=crop and _cells(crop, before.saved_shape))


def _packed_map(report: Contents, file: AnyPath | None) -> tuple[PackedMap | None, str | None]:
    if file is None:
        return None, None
    try:
        packed = pack_map(file, report.max_cells, report.reader.read)
    except CamcliError as error:
        return None, str(error)
    if packed is None:
        return None, "gradients of each pixel: shown as saved, values only in the .npy file"
    if packed.shape != packed.saved_shape:
        saved, shown = ("x".join(map(str, shape)) for shape in (packed.saved_shape, packed.shape))
        return packed, f"map of {saved} cells, reduced to {shown} here"
    return packed, None


def _class_name(result: SavedResult) -> str | None:
    if result.class_name or result.class_index is None or result.probability is None:
        return result.class_name  # a value without a probability is no class
    return f"class {result.class_index}"


def _change_data(report: Contents, change: Change) -> Data:
    return _without_empty(
        verdict=change.verdict,
        class_changed=change.class_changed or None,
        reasons=change.reasons,
        measures=change.measures,
        picture=change.picture and link(change.picture, report.file),
    )


def _evaluation_data(found: Evaluation | None) -> Data | None:
    if found is None:
        return None
    return {
        "summary": found.summary,
        "columns": found.columns,
        "rows": [asdict(row) for row in found.rows],
        "legend": found.legend,
        "plots": [
            (name, f"data:image/png;base64,{_base64(png)}") for name, png in found.plots.items()
        ],
    }


def _changes_data(changes: Changes) -> Data | None:
    """Return how many results have each verdict, by method too, and what only the baseline has."""
    if not changes.counts:
        return None
    more = changes.counts["missing"] - len(changes.missing)
    return {
        "counts": {verdict: n for verdict in VERDICTS if (n := changes.counts[verdict])},
        "methods": [
            {
                "method": method,
                **{verdict: one.counts[verdict] for verdict in VERDICTS},
                "class changed": one.classes,
                "correlation": one.correlation,
            }
            for method, one in changes.methods.items()
        ],
        "tolerances": list(changes.tolerances),
        "missing": [*changes.missing, *([f"and {more} more"] if more else [])],
    }


def _without_empty(**values: Any) -> Data:
    return {name: value for name, value in values.items() if value not in (None, "")}


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
