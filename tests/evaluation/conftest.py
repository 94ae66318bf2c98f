"""Folders of photos to evaluate."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.evaluation import BOXES, SIZES


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Five photos of random patches."""
    (tmp_path / "in").mkdir()
    for i in range(5):
        pixels = np.random.default_rng(i).integers(0, 255, (7, 9, 3), np.uint8)
        Image.fromarray(pixels).resize((90, 70)).save(tmp_path / "in" / f"{i}.png")
    return tmp_path / "in"


@pytest.fixture
def coloured(tmp_path: Path) -> Path:
    """Three photos of each of four colours, sorted by colour."""
    (tmp_path / "colours").mkdir()
    noise = np.random.default_rng(0)
    for i, colour in enumerate(["red", "lime", "blue", "black"]):
        for j in range(3):
            plain = np.asarray(Image.new("RGB", (64, 64), colour)).astype(int)
            pixels = (plain + noise.integers(-40, 40, (64, 64, 1))).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "colours" / f"{i}{j}.png")
    return tmp_path / "colours"


@pytest.fixture
def annotated(tmp_path: Path) -> Path:
    """Four photos; the third has no object of a class of the model, the fourth no annotation."""
    folder = tmp_path / "in"
    folder.mkdir()
    for i, (name, (height, width)) in enumerate(SIZES.items()):
        pixels = np.random.default_rng(i).integers(0, 255, (5, 5, 3), np.uint8)
        Image.fromarray(pixels).resize((width, height)).save(folder / name)
    rows = [(name, label, *box) for name, objects in BOXES.items() for label, box in objects]
    with (tmp_path / "boxes.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "class", "x0", "y0", "x1", "y1"), *rows])
    (tmp_path / "all.txt").write_text("red: 0-4\nblue: 4\n")
    return folder


@pytest.fixture
def ground_truth(tmp_path: Path) -> tuple[object, ...]:
    """The options for the annotations of `annotated`."""
    return "--boxes", f"csv:{tmp_path / 'boxes.csv'}", "--class-map", tmp_path / "all.txt"
