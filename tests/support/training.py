"""Coloured squares as training data, a short recipe, and model folders as `train` writes them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.torch import save_file

from camcli.images.preprocess import Preset
from camcli.models.torchvision_networks import initialise_torchvision
from camcli.training.recipe import Phase, Recipe

COLOURS = {"blue": (40, 60, 220), "green": (40, 190, 60), "red": (220, 40, 40)}
RECIPE = Recipe("squeezenet1_1", (Phase(33, 6),), batch_size=16, lr=5e-3, ema=0.9, seed=3)


def draw_squares(folder: Path) -> Path:
    """Write 40 images of each class: a square of its colour on noise, every second one wider."""
    rng = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (folder / name).mkdir()
        for i in range(40):
            pixels = rng.integers(60, 180, (36, 36 + 8 * (i % 2), 3)).astype(np.uint8)
            y, x = rng.integers(0, 12, 2)
            pixels[y : y + 22, x : x + 22] = colour
            Image.fromarray(pixels).save(folder / name / f"{i:02}.png")
    return folder


def write_model_folder(
    folder: Path, classes: Sequence[str], mean: Sequence[float] = Preset.mean
) -> Path:
    """Write a folder in the format of `camcli train`, with random weights."""
    folder.mkdir()
    module = initialise_torchvision("squeezenet1_1", classes).module
    save_file(module.state_dict(), folder / "weights.safetensors")
    (folder / "labels.txt").write_text("\n".join(classes))
    preset = {"resize": 64, "crop": 64, "mean": mean, "std": Preset.std, "bicubic": False}
    card = {"architecture": "squeezenet1_1", "preprocessing": preset}
    (folder / "model.json").write_text(json.dumps(card))
    return folder
