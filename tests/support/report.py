"""An output folder, an evaluation and a reader of pages for the tests of `camcli report`."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from camcli.images.decode import decode
from camcli.images.geometry import Crop
from camcli.render import draw, encode
from camcli.render.style import Style
from camcli.runs import resume
from tests.support.files import make_photo

HOSTILE_NAME = "<img src=x onerror=window.hit=1>.jpg"
ODD_NAME = "sub/a#b%41 é.jpg"
HOSTILE_CLASS = "</script><script>window.hit=1</script>"
RUN_RECORD = {
    "model": "tiny",
    "weights": "none",
    "weights_hash": "sha256:1",
    "layers": ["auto"],
    "colormap": "auto",
    "alpha": 0.5,
    "device": "cpu",
    "versions": {"camcli": "1", "python": "3"},
}
MAP: NDArray[np.float32] = (np.mgrid[:5, :7].sum(0) ** 2).astype(np.float32)
"""The map of every result that is not empty; occlusion's is 40 lower."""
CROP = (15, 0, 75, 60)
"""The part of each photo (90,60) that the network received."""


def make_output_folder(top: Path) -> Path:
    """Write `top/out` beside its photos: two methods of four images.

    One image failed, one has empty maps, and names and classes contain markup.
    """
    folder = top / "out"
    rows: list[dict[str, Any]] = []
    for name, class_name, probability, is_empty in (
        ("plain.jpg", HOSTILE_CLASS, 0.9, False),
        (HOSTILE_NAME, "cat", 0.5, False),
        (ODD_NAME, "cat", 0.2, True),
    ):
        photo = make_photo(top / "photos" / name)
        for method, offset in (("gradcam", 0), ("occlusion", -40)):
            values = np.zeros_like(MAP) if is_empty else MAP + np.float32(offset)
            facts = {"image": name, "class_name": class_name, "probability": probability}
            facts |= {"unsure": probability < 0.3}
            facts |= {"true_name": "cat", "correct": class_name == "cat"}
            rows.append(_write_result(folder, photo, method, values, facts))
    for method in ("gradcam", "occlusion"):
        row = dict.fromkeys(rows[0]) | {"image": "broken.jpg", "method": method, "target": "pred"}
        rows.append(row | {"status": "error", "error": "broken.jpg: damaged", "digest": "s-"})
    write_manifest(folder, rows)
    (folder / "run.json").write_text(json.dumps(RUN_RECORD))
    return folder


def write_manifest(folder: Path, rows: list[dict[str, Any]]) -> None:
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def _write_result(
    folder: Path, photo: Path, method: str, values: NDArray[np.float32], facts: dict[str, Any]
) -> dict[str, Any]:
    """Write the files of one result and return its manifest row."""
    stem = f"{facts['image'].removesuffix('.jpg')}.{method}"
    (folder / stem).parent.mkdir(parents=True, exist_ok=True)
    np.save(folder / f"{stem}.npy", values)
    overlay = draw.overlay(
        decode(photo), values, Crop(*CROP), Style(blend="even"), method == "occlusion"
    )
    (folder / f"{stem}.png").write_bytes(encode.png(overlay))
    return {
        **facts,
        **{"method": method, "target": "pred", "class_index": 3, "score": 1.5, "layer": None},
        **{"map": f"{stem}.npy", "overlay": f"{stem}.png", "map_shape": [5, 7], "boxes": None},
        **{"map_min": float(values.min()), "map_max": float(values.max()), "crop": CROP},
        **{"status": "ok" if values.any() else "empty", "error": None},
        "digest": f"s-{resume.input_digest(photo, resume.environment_digest(RUN_RECORD))}",
    }


def make_evaluation(folder: Path, **record: Any) -> Path:
    """Write the files of `camcli evaluate --output`, with fields of the record replaced."""
    folder.mkdir(exist_ok=True)
    cell = {"mean": 0.5, "low": 0.25, "high": 0.75, "images": 3, "verdict": None}
    cells = {
        "gradcam": cell | {"verdict": "fails"},
        "random": cell | {"mean": None},
        "centre": cell | {"low": None, "high": None, "images": 1},
    }
    whole = {
        "model": "tiny",
        "weights_hash": "sha256:1",
        "images": 3,
        "target": "pred",
        "layer": "auto",
        "methods": ["gradcam"],
        "controls": ["random", "centre"],
        "metrics": {
            "deletion": {"better": "lower", "unit": None, "source": "a paper", "rows": cells},
            "win": {"better": "higher", "unit": "percent", "source": "another", "rows": cells},
        },
        "curves": {"deletion": {}},
    }
    (folder / "metrics.json").write_text(json.dumps(whole | record))
    (folder / "scores.csv").write_text(
        "image,class_index,class_name,probability,method,deletion,win\n"
        f"plain.jpg,3,dog,0.9,gradcam,0.125,\n{HOSTILE_NAME},3,cat,0.5,gradcam,,\n"
    )
    for plot in ("deletion", "distributions", "win"):
        Image.new("RGB", (8, 8)).save(folder / f"{plot}.png")
    return folder


class PageParser(HTMLParser):
    """The elements of a page, its text, and the text of each script, style, title and h1."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {"script": [], "style": [], "title": [], "h1": []}
        self.text = ""
        self._open: str | None = None
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag in self.texts:
            self._open = tag
            self.texts[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == self._open:
            self._open = None

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts[self._open][-1] += data
        if self._open not in ("script", "style"):
            self.text += data

    @property
    def json_text(self) -> str:
        """The text of the first script element, which holds the page's data."""
        return self.texts["script"][0]

    @property
    def data(self) -> dict[str, Any]:
        data: dict[str, Any] = json.loads(self.json_text)
        return data

    def image(self, name: str) -> dict[str, Any]:
        """The data of one image."""
        found: dict[str, Any] = next(one for one in self.data["images"] if one["name"] == name)
        return found

    def results(self, name: str) -> list[dict[str, Any]]:
        """The data of the results of one image."""
        results: list[dict[str, Any]] = self.image(name)["results"]
        return results


def read_page(folder: Path) -> PageParser:
    """Parse `report.html` in a folder."""
    return PageParser((folder / "report.html").read_text())
