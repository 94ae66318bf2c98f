"""Folders written by `camcli train`: weights, class names, and a card with the other facts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from camcli.errors import ModelError, one_line
from camcli.images.preprocess import Preset
from camcli.models.options import ModelOptions
from camcli.models.preprocessing import PRESET_FIELDS, preset_of

CARD, WEIGHTS, LABELS = "model.json", "weights.safetensors", "labels.txt"
"""The files of a trained folder. The card holds architecture, preprocessing and accuracy."""


def read_card(folder: Path) -> tuple[str, Preset]:
    """Return the architecture and the preprocessing of a trained folder. Raises ModelError."""
    if not (folder / CARD).is_file():
        raise ModelError(f"model '{folder}': no {CARD} in it; expected a folder of `camcli train`")
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        values = card["preprocessing"]
        preset = preset_of({name: values[name] for name in PRESET_FIELDS if name in values})
        return str(card["architecture"]), preset
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise ModelError(f"model '{folder}': {CARD} is not readable ({reason})") from None


def with_files(options: ModelOptions, folder: Path) -> ModelOptions:
    """Return options that load the weights of a trained folder, with its labels by default."""
    labels = options.labels or folder / LABELS
    return replace(options, weights=str(folder / WEIGHTS), labels=labels)
