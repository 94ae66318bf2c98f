"""Output folders written by hand, and readers of comparisons."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from camcli.snapshots.compare import compare
from camcli.snapshots.measures import Tolerance

PEAK: NDArray[np.float64] = np.exp(-(((np.mgrid[:9, :9] - 4) ** 2).sum(0)) / 6)
"""A map (9,9) with one peak of height 1 in its centre."""


def write_rows(folder: Path, rows: list[dict[str, Any]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_output(folder: Path, maps: dict[str, Any], **fields: Any) -> Path:
    """Write an output folder with a map, or an error for None, for each image.

    `fields` replace fields of every row.
    """
    rows = []
    for image, values in maps.items():
        row = {"image": image, "method": "gradcam", "target": "pred", "class_index": 3}
        row |= {"class_name": "cat", "layer": "last", "map": None, "overlay": None, "status": "ok"}
        if values is None:
            row |= {"status": "error", "error": "damaged"}
        else:
            row["map"] = image.rpartition(".")[0] + ".gradcam.npy"
            (folder / row["map"]).parent.mkdir(parents=True, exist_ok=True)
            np.save(folder / row["map"], np.asarray(values, np.float32))
        rows.append(row | fields)
    write_rows(folder, rows)
    return folder


def verdicts(new: Path, baseline: Path, **tolerance: float) -> dict[str, tuple[str, ...]]:
    """Compare two folders. Returns the verdict and the reasons for each image."""
    comparisons = compare(new, baseline, Tolerance(**tolerance))
    return {one.image: (one.verdict, *one.reasons) for one in comparisons}


def contents(folder: Path) -> dict[str, bytes]:
    """Read every file below a folder, by its relative path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
