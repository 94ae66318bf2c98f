"""The model folder that a run writes: weights, labels and the model card."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from camcli import __version__
from camcli.models.folder import CARD, LABELS, WEIGHTS
from camcli.models.torchvision import version as torchvision_version
from camcli.runs.files import to_json, write
from camcli.training.state import TrainingState
from camcli.training.temporary_norm import fold_temporary_layers


def write_model(state: TrainingState, output: Path) -> None:
    """Write the averaged network as a folder that `models.load` accepts. Raises WriteError.

    Matrices are stored in half precision. Vectors, which include variances, keep theirs.
    """
    weights = fold_temporary_layers(state.average, dict(state.average.state_dict()))
    stored = {
        key: (value.half() if value.ndim > 1 else value).cpu().contiguous()
        for key, value in weights.items()
    }
    write(output / WEIGHTS, safetensors.torch.save(stored))
    write(output / LABELS, "".join(f"{name}\n" for name in state.data.classes).encode())
    write(output / CARD, to_json(_card(state), indent=2))


def add_test_accuracy(output: Path, accuracy: Mapping[str, float]) -> dict[str, Any]:
    """Add the accuracy on each test source to a folder's card and return the card."""
    card: dict[str, Any] = json.loads((output / CARD).read_text(encoding="utf-8"))
    card["accuracy"] = {"validation": card["accuracy"]["validation"], "test": dict(accuracy)}
    write(output / CARD, to_json(card, indent=2))
    return card


def _card(state: TrainingState) -> dict[str, Any]:
    record, recipe = state.records[-1], state.recipe
    return {
        "architecture": recipe.model,
        "preprocessing": asdict(state.preset),
        "classes": list(state.data.classes),
        "accuracy": {"validation": record["val"]},
        "epoch": record["epoch"],
        "seed": recipe.seed,
        "training": {
            **asdict(recipe),
            "weights": state.initial_weights,
            "teacher": state.teacher,
        },
        "images": {source.name: len(source) for source in state.data.train},
        "versions": {
            "camcli": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": torchvision_version,
        },
    }
