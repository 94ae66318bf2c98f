"""Where test material lies, images made on the spot, and what a run wrote."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "sample_images"
SHARED = Path(os.environ.get("CAMCLI_SHARED", ROOT.parent / "shared"))


def make_photo(path: Path, width: int = 90, height: int = 60, **save: Any) -> Path:
    y, x = np.mgrid[:height, :width]
    rgb = np.stack([255 * x / width, 255 * y / height, 128 + 100 * np.sin(x / 5)], axis=-1)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rgb.astype(np.uint8)).save(path, **save)
    return path


def manifest(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
