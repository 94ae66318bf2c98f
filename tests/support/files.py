"""Paths of test material, generated images, and readers of what a run wrote."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "sample_images"
SHARED = Path(os.environ.get("CAMCLI_SHARED", ROOT.parent / "shared"))


def make_photo(path: Path, width: int = 90, height: int = 60, **save: Any) -> Path:
    """Write a photo-like image; `save` holds options of Pillow's `save`."""
    y, x = np.mgrid[:height, :width]
    rgb = np.stack([255 * x / width, 255 * y / height, 128 + 100 * np.sin(x / 5)], axis=-1)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rgb.astype(np.uint8)).save(path, **save)
    return path


def manifest(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of a folder's manifest."""
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]


def by_name(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows in the order of a manifest."""
    return sorted(
        rows, key=lambda row: (row["image"], row["method"], row["target"], row["layer"] or "")
    )


def files(folder: Path) -> dict[str, bytes]:
    """Return the content of all files by relative path, except those that contain times: run.json,
    and the indexes of large manifests."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(("run.json", ".camcli-index."))
    }
