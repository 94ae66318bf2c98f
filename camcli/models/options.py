"""The options that select a network and its preprocessing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from camcli.images.preprocess import Sides

if TYPE_CHECKING:
    import torch

Labels: TypeAlias = str | Path | Sequence[str] | Mapping[str, int] | Mapping[int, str]
"""Names of classes, as `labels.read_labels` takes them."""


ACTIVATIONS = ("auto", "softmax", "sigmoid", "none")
"""The activations that turn a network's values into probabilities; `none` for a regression."""


@dataclass(frozen=True)
class ModelOptions:
    """The name of a network, and how to load it; see `camcli.load` for the values.

    `arguments` are passed to the function that builds the network. `state` is a state dict that
    takes the place of a weights file; `weights` is then its name. `texts` are the classes of a
    network for images and texts, and `template` the sentence that each of them is put into.
    """

    name: str = "mini"
    weights: str = "DEFAULT"
    labels: Labels | None = None
    device: str | torch.device = "cpu"
    seed: int = 0
    precision: str = "fp32"
    activation: str = "auto"
    arguments: Mapping[str, Any] = field(default_factory=dict)
    state: Mapping[str, torch.Tensor] | None = None
    texts: tuple[str, ...] = ()
    template: str | None = None


def with_arguments(name: str, arguments: Mapping[str, Any]) -> str:
    """Return the name of a network that was built with arguments, as runs record it."""
    given = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
    return f"{name}({given})" if given else name


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
