"""The page: facts as JSON in HTML that can hold any name, under a policy that forbids all else.

Names come from files and may be anything. They are never markup: JSON is escaped so that no `<`
is left in it, the script sets text and no HTML, paths in links are percent-encoded byte by byte,
and the policy lets nothing run but the page's own script, by its hash, and nothing load but
pictures from the disk (or from where the page itself came from).
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote

from camcli.errors import CamcliError
from camcli.methods.registry import METHODS
from camcli.render.draw import DIM, Style
from camcli.report import changes, evaluation, maps
from camcli.report.changes import Change
from camcli.report.evaluation import Evaluation
from camcli.report.folder import Entry, Folder, number, text
from camcli.report.originals import Photo

Facts: TypeAlias = dict[str, Any]
SCRIPTS = ("facts.js", "heat.js", "stage.js", "gallery.js", "viewer.js", "main.js")
"""The page's script, in the order in which the parts are put together."""
SHOWN_BY_BROWSERS = (".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".avif")
_POLICY = (
    "default-src 'none'; img-src 'self' file: data:; script-src 'sha256-{script}'; "
    "style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'"
)


@dataclass(frozen=True)
class Report:
    """All that goes into a page, which will be written to `file`.

    `most` is how many cells of one map there is room for.
    """

    folder: Folder
    photos: Sequence[Photo]
    file: Path
    most: int
    title: str | None = None
    evaluation: Evaluation | None = None
    changes: Sequence[Change] = ()

    @cached_property
    def changes_of(self) -> dict[str, list[Change]]:
        """What differs, by the image."""
        found: dict[str, list[Change]] = {}
        for one in self.changes:
            found.setdefault(one.image, []).append(one)
        return found

    @property
    def trusted(self) -> Evaluation | None:
        """The evaluation, where it is of the network that made the maps."""
        found, own = self.evaluation, self.folder.run.get("weights_hash")
        return found if found and found.weights == own else None

    @property
    def explained(self) -> list[Photo]:
        """The images of which there is a result; of a failed one there may be nothing to find."""
        failed = {"error"}
        found = self.folder.images
        return [one for one in self.photos if {e.status for e in found[one.name]} != failed]

    @property
    def counts(self) -> Counter[str]:
        """How many results there are of each status."""
        return Counter(entry.status for entry in self.folder.entries)


def cells(folder: Folder, budget: int) -> int:
    """How many cells of one map there is room for, if all maps may take `budget` bytes."""
    shapes = [entry.map_shape for entry in folder.entries if len(entry.map_shape) == 2]
    return maps.largest([rows * columns for rows, columns in shapes], budget)


def page(report: Report) -> bytes:
    """The whole page. The same folder gives the same bytes."""
    return filled({"title": report.title or _title(report.folder), **facts(report)})


def filled(known_facts: Facts) -> bytes:
    """The page of these facts."""
    parts = files("camcli.report")
    style = (parts / "page.css").read_text(encoding="utf-8")
    script = "".join((parts / name).read_text(encoding="utf-8") for name in SCRIPTS)
    known = {
        "policy": _POLICY.format(script=_hash(script), style=_hash(style)),
        "title": html.escape(known_facts["title"]),
        "style": style,
        "script": script,
        "facts": embedded(known_facts),
    }
    template = (parts / "page.html").read_text(encoding="utf-8")
    whole = re.sub(r"{{(\w+)}}", lambda found: known[found[1]], template)
    return whole.encode(errors="backslashreplace")


def embedded(value: Any) -> str:
    """JSON that ends no script element and begins no other, in ASCII, with undecodable bytes."""
    plain = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return plain.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e")


def link(file: Path, page_file: Path) -> str:
    """The address of a file as seen from the page: relative, percent-encoded."""
    here = os.path.realpath(page_file.parent)
    there = os.path.join(os.path.realpath(file.parent), file.name)
    try:
        path = os.path.relpath(there, here)
    except ValueError:  # on another drive of Windows
        return Path(there).as_uri()
    return quote(os.fsencode(Path(path).as_posix()))


def facts(report: Report) -> Facts:
    """What the page's script knows: images, their results, and what was found of them."""
    run, style = report.folder.run, _style(report.folder.run)
    return {
        "run": _run(run),
        "notes": [*notes(report)],
        "alpha": style.alpha,
        "dim": DIM,
        "colours": [
            {
                "table": base64.b64encode(style.table(signed).tobytes()).decode(),
                "diverging": style.diverging(signed),
            }
            for signed in (False, True)
        ],
        "images": [_image(report, photo) for photo in report.photos],
        "evaluation": _evaluation(report.evaluation),
        "check": _check(report),
    }


def notes(report: Report) -> Iterator[str]:
    """What somebody should know who believes that the page shows all there is, line by line."""
    folder, explained = report.folder, report.explained
    if folder.unread:
        yield f"lines of the manifest that cannot be read: {folder.unread} (is the run over?)"
    if lost := sum(photo.small is None for photo in explained):
        yield f"originals not found below --images or beside the folder: {lost} of {len(explained)}"
    if other := sum(photo.small is not None and photo.note is not None for photo in explained):
        yield f"originals that are not the files that were explained: {other} of {len(explained)}"
    if gone := sum(len(entry.missing) for entry in folder.entries):
        yield f"files that the manifest names and that are not there: {gone}"
    if report.evaluation and not report.trusted:
        yield "the evaluation is of other weights than the maps"


def _title(folder: Folder) -> str:
    methods = list(dict.fromkeys(entry.method for entry in folder.entries))
    many = f"{len(methods)} methods" if len(methods) > 3 else ", ".join(methods)
    return f"{text(folder.run.get('model')) or 'camcli'}: {many}"


def _run(run: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What of the run's record people ask for; no times, so that the page stays the same."""
    names = ("model", "weights", "layers", "fuse", "fit", "precision", "device", "region")
    known = {name: run.get(name) for name in names}
    told = {name: ", ".join(map(str, v)) if isinstance(v, list) else v for name, v in known.items()}
    return [(name, str(value)) for name, value in told.items() if value not in (None, "")]


def _style(run: Mapping[str, Any]) -> Style:
    """The run's own colours, or the usual ones where its record does not tell."""
    usual, alpha = Style(), number(run.get("alpha"))
    try:
        return Style(
            text(run.get("colormap")) or usual.colormap, usual.alpha if alpha is None else alpha
        )
    except CamcliError:
        return usual


def _image(report: Report, photo: Photo) -> Facts:
    whole = photo.file and photo.small and photo.file.suffix.lower() in SHOWN_BY_BROWSERS
    small = photo.small and f"data:image/webp;base64,{base64.b64encode(photo.small).decode()}"
    entries = report.folder.images[photo.name]
    return _known(
        name=photo.name,
        size=photo.size,
        small=small,
        original=link(photo.file, report.file) if photo.file and whole else None,
        note=photo.note,
        results=[_result(report, one, entries) for one in entries],
    )


def _result(report: Report, entry: Entry, among: Sequence[Entry]) -> Facts:
    change = changes.change_of(entry, report.changes_of.get(entry.image, ()))
    packed, note = _packed(entry, report.most)
    crop, method = entry.crop, METHODS.get(entry.method)
    return _known(
        **{name: getattr(entry, name) for name in ("method", "target", "layer", "status", "error")},
        **{name: getattr(entry, name) for name in ("score", "probability")},
        **{"class": _class(entry)},
        crop=(crop.x0, crop.y0, crop.x1, crop.y1) if crop else None,
        boxes=entry.boxes or None,
        signed=method.signed if method else (entry.map_min or 0) < 0,
        map=packed and asdict(packed),
        range=None if packed or entry.map_min is None else (entry.map_min, entry.map_max),
        files={what: link(file, report.file) for what, file in entry.files.items()} or None,
        note="; ".join(filter(None, [*(f"{name} is missing" for name in entry.missing), note])),
        change=change and _change(report, change),
        values=dict(evaluation.values_of(entry, among, report.trusted)) or None,
    )


def _packed(entry: Entry, most: int) -> tuple[maps.Packed | None, str | None]:
    """The map's values, and what is to be said of them."""
    if "map" not in entry.files:
        return None, None
    try:
        packed = maps.pack(entry.files["map"], most)
    except CamcliError as error:
        return None, str(error)
    if packed is None:
        return None, "gradients of each pixel: shown as saved, values only in the .npy file"
    if packed.cells != packed.shape:
        told = ("x".join(map(str, size)) for size in (packed.shape, packed.cells))
        return packed, "map of {} cells, reduced to {} here".format(*told)
    return packed, None


def _class(entry: Entry) -> str | None:
    if entry.class_index is None:
        return entry.class_name
    return entry.class_name or f"class {entry.class_index}"


def _change(report: Report, change: Change) -> Facts:
    picture = change.picture and link(change.picture, report.file)
    return _known(
        verdict=change.verdict, reasons=change.reasons, picture=picture, **change.measures
    )


def _evaluation(found: Evaluation | None) -> Facts | None:
    if found is None:
        return None
    return {
        "told": found.told,
        "columns": found.columns,
        "lines": [asdict(line) for line in found.lines],
        "plots": [
            (name, f"data:image/png;base64,{base64.b64encode(data).decode()}")
            for name, data in found.plots.items()
        ],
    }


def _check(report: Report) -> Facts | None:
    """How many results differ, and those of the baseline that there is nothing of."""
    if not report.changes:
        return None
    return {
        "counts": dict(Counter(one.verdict for one in report.changes)),
        "missing": [
            f"{one.image}  {one.method}  {one.target}"
            for one in report.changes
            if one.verdict == "missing"
        ],
    }


def _known(**known: Any) -> Facts:
    """The same without what there is nothing to say of."""
    return {name: value for name, value in known.items() if value not in (None, "")}


def _hash(source: str) -> str:
    return base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
