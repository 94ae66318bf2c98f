"""The options that select a network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


ACTIVATIONS = ("auto", "softmax", "sigmoid", "none")
"""The activations that turn a network's values into probabilities; `none` for a regression."""


@dataclass(frozen=True)
class ModelOptions:
    """The name of a network, and how to load it; see `camcli.load` for the values."""

    name: str = "mini"
    weights: str = "DEFAULT"
    labels: str | Path | None = None
    device: str | torch.device = "cpu"
    seed: int = 0
    precision: str = "fp32"
    activation: str = "auto"
