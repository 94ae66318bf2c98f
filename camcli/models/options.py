"""The options that select a network and its preprocessing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from camcli.images.preprocess import Sides

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


@dataclass(frozen=True)
class PreprocessOptions:
    """Changes of a network's preprocessing; see `Preset` for the values. None changes nothing.

    `file` is a description of the whole preprocessing, see `preprocessing.read_preset`. `crop` is
    `none` for no crop. One value of `mean` or `std` is for all channels.
    """

    file: Path | None = None
    resize: Sides | str | None = None
    crop: Sides | str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    interpolation: str | None = None
    channels: int | None = None
