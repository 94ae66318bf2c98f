"""A network that is ready to explain images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from camcli.errors import ModelError, unknown
from camcli.images.preprocess import Preset
from camcli.models.head import Head
from camcli.models.options import ACTIVATIONS


@dataclass(frozen=True)
class Model:
    """A network in evaluation mode, with its own preprocessing.

    `weights` names their origin, and `preset_from` that of the preprocessing: the library that
    published it, `given` by options, or `assumed`. `layer` is the automatic target layer and `head`
    the linear map that CAM reads; both are None where only a traced forward pass can find them.
    `task` is one of `families.TASKS`. `activation` is one of `options.ACTIVATIONS`; `auto` is
    softmax for several values. `prompt` is, for run.json, how texts became the classes. Raises
    ModelError for an activation that does not exist or does not fit the task.
    """

    module: nn.Module
    name: str = "custom"
    weights: str = "given"
    preset: Preset = field(default_factory=Preset)
    class_names: tuple[str, ...] | None = None
    num_classes: int | None = None
    layer: str | None = None
    head: Head | None = None
    weights_hash: str | None = None
    task: str = "classification"
    preset_from: str = "assumed"
    activation: str = "auto"
    prompt: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise ModelError(unknown("activation", self.activation, ACTIVATIONS))
        if self.activation != "auto" and self.task != "classification":
            raise ModelError(
                f"activation {self.activation} is for networks that give values per image; "
                f"{self.name} is a {self.task} network: expected auto"
            )

    @property
    def device(self) -> torch.device:
        """The device of the first parameter; the CPU for a network without parameters."""
        return next((p.device for p in self.module.parameters()), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the first parameter, which images must have too."""
        return next((p.dtype for p in self.module.parameters()), torch.float32)
