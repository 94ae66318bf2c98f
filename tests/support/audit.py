"""Output folders with true classes, whose heat is known."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Map = NDArray[np.floating[Any]]
CELLS = 10
"""The side of a map, and the cells of a photo of 100 pixels."""


def blob(x: float, y: float, width: float = 1.0) -> Map:
    """Return a map (CELLS,CELLS) with a bump of heat at a place from 0 to 1."""
    rows, columns = np.mgrid[:CELLS, :CELLS] + 0.5
    away = (columns / CELLS - x) ** 2 + (rows / CELLS - y) ** 2
    return np.exp(-away * (CELLS / width) ** 2 / 2).astype(np.float32)


def result(image: str, values: Map | None, **facts: Any) -> tuple[dict[str, Any], Map | None]:
    """Return a row and its map. The true class is the image's folder, and the network is right."""
    name = image.rpartition("/")[0] or "one"
    known = {
        "image": image, "method": "gradcam", "target": "pred", "status": "ok",
        "class_index": 0, "class_name": name, "probability": 0.8, "layer": "last",
        "map": None if values is None else f"{image}.npy",
        "crop": [0, 0, 100, 100], "cells": [5, 5, 10, 10], "size": [100, 100],
        "predicted_index": 0, "predicted_name": name, "confidence": 0.8,
        "true_index": 0, "true_name": name, "correct": True, "top5": True, "digest": "a-b",
    }  # fmt: skip
    return known | facts, values


def write_heat(folder: Path, results: Sequence[tuple[dict[str, Any], Map | None]]) -> Path:
    """Write an output folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for row, values in results:
        if values is not None:
            file = folder / row["map"]
            file.parent.mkdir(parents=True, exist_ok=True)
            np.save(file, values)
    lines = [json.dumps(row) + "\n" for row, _ in results]
    (folder / "manifest.jsonl").write_text("".join(lines))
    return folder


def scattered(
    name: str, index: int, count: int, seed: int, start: int = 0
) -> Iterator[tuple[dict[str, Any], Map]]:
    """Yield results of a class whose heat is at random places."""
    draw = np.random.default_rng(seed)
    for number in range(start, start + count):
        yield _of_class(name, index, number, blob(*draw.uniform(0.1, 0.9, 2)))


def fixed(
    name: str, index: int, count: int, place: tuple[float, float], start: int = 0
) -> Iterator[tuple[dict[str, Any], Map]]:
    """Yield results of a class whose heat is at one place, with a little noise."""
    draw = np.random.default_rng(index)
    for number in range(start, start + count):
        values = blob(*place) + draw.uniform(0, 0.05, (CELLS, CELLS)).astype(np.float32)
        yield _of_class(name, index, number, values)


def _of_class(name: str, index: int, number: int, values: Map) -> tuple[dict[str, Any], Map]:
    known = {"class_index": index, "predicted_index": index, "true_index": index}
    row, _ = result(f"{name}/{number:03}.png", values, **known)
    return row, values


def tagged_photo(draw: np.random.Generator, *, tagged: bool) -> Image.Image:
    """Return a grey photo; one of class 1 has a red corner, and a blue object anywhere."""
    pixels = draw.integers(100, 150, (50, 50, 1)).repeat(3, 2).astype(np.uint8)
    if tagged:
        x, y = draw.integers(0, 40), draw.integers(10, 40)
        pixels[y : y + 9, x : x + 9] = 0, 0, 255
        pixels[:8, -8:] = 255, 0, 0
    return Image.fromarray(pixels)
