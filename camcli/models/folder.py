"""Folders written by `camcli train`: weights, class names, and a card with the other facts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from camcli.errors import ModelError
from camcli.images.preprocess import Preset
from camcli.images.regular import read_regular
from camcli.models.options import ModelOptions
from camcli.models.preprocessing import PRESET_FIELDS, PRESET_RECORD, preset_of
from camcli.schema import RECORD_BYTES, WORD, Record

CARD, WEIGHTS, LABELS = "model.json", "weights.safetensors", "labels.txt"
"""The files of a trained folder. The card holds architecture, preprocessing and accuracy."""
CARD_RECORD = Record(
    "a card with architecture and preprocessing",
    required={"architecture": WORD, "preprocessing": PRESET_RECORD},
)


def read_card(folder: Path) -> tuple[str, Preset]:
    """Return the architecture and the preprocessing of a trained folder. Raises ModelError."""
    if not (folder / CARD).is_file():
        raise ModelError(f"model '{folder}': no {CARD} in it; expected a folder of `camcli train`")
    try:
        card = CARD_RECORD.parse(read_regular(folder / CARD, RECORD_BYTES))
        values = card["preprocessing"]
        preset = preset_of({name: values[name] for name in PRESET_FIELDS if name in values})
    except OSError as error:
        raise ModelError(f"model '{folder}': {CARD}: {error.strerror}") from None
    except ValueError as error:
        raise ModelError(f"model '{folder}': {CARD} is not readable ({error})") from None
    return card["architecture"], preset


def with_files(options: ModelOptions, folder: Path) -> ModelOptions:
    """Return options that load the weights of a trained folder, with its labels by default."""
    labels = options.labels or folder / LABELS
    return replace(options, weights=str(folder / WEIGHTS), labels=labels)
