"""The state of a training run between two epochs."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from camcli.images.preprocess import Preset, preprocess
from camcli.models.model import Model
from camcli.training.data import Dataset, Splits
from camcli.training.distillation import Distillation
from camcli.training.networks import distillation, identity, load_student
from camcli.training.recipe import Recipe
from camcli.training.temporary_norm import add_temporary_layers

EpochRecord: TypeAlias = dict[str, Any]
"""The measurements of an epoch, as printed and kept in metrics.jsonl."""


@dataclass
class TrainingState:
    """The networks, the optimiser and the records of a run after `epoch` epochs.

    `average` is the moving average of the weights of `module`. `initial_weights` and `teacher` name
    weights with their hash, by which a resumed run recognises them.
    """

    recipe: Recipe
    data: Splits
    module: nn.Module
    average: nn.Module
    optimizer: torch.optim.Optimizer
    device: torch.device
    initial_weights: str
    distillation: Distillation | None = None
    teacher: str | None = None
    epoch: int = 0
    step: int = 0
    records: list[EpochRecord] = field(default_factory=list)

    @property
    def preset(self) -> Preset:
        """The preprocessing for the input size of the latest epoch."""
        size = self.recipe.size_at(max(0, self.epoch - 1))
        return Preset(resize=size, crop=size)


def initial_state(
    recipe: Recipe, data: Splits, device: torch.device, teacher: Model | None = None
) -> TrainingState:
    """Return the state before the first epoch. Raises TrainingError or ModelError."""
    student = load_student(recipe, data.classes)
    losses = distillation(recipe, student, teacher, data.classes, device) if teacher else None
    untrained = recipe.weights == "none"
    sample = None if untrained else _sample(data.train, recipe.phases[0].size)
    module = add_temporary_layers(student.module, sample)
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.p = recipe.dropout
    module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return TrainingState(
        recipe=recipe,
        data=data,
        module=module,
        average=copy.deepcopy(module).eval().requires_grad_(False),
        optimizer=_optimizer(module, recipe),
        device=device,
        initial_weights="none" if untrained else identity(student),
        distillation=losses,
        teacher=identity(teacher) if teacher else None,
    )


def _sample(sources: tuple[Dataset, ...], size: int, count: int = 256) -> Tensor:
    """Return about `count` of the images to train on, (N,3,S,S), preprocessed as in `explain`."""
    pixels = [image for source in sources for image in source.pixels]
    step = -(-len(pixels) // count)
    return torch.stack([preprocess(image, Preset(size, size))[0] for image in pixels[::step]])


def _optimizer(module: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Return AdamW with weight decay on matrices only, not on biases and normalisations."""
    matrices = [p for p in module.parameters() if p.ndim > 1]
    vectors = [p for p in module.parameters() if p.ndim <= 1]
    groups: list[dict[str, Any]] = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.lr, weight_decay=recipe.weight_decay)
