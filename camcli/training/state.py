"""The state of a training run between two epochs, and its networks, checked against the data."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from camcli.capture.targets import logits
from camcli.engine.survey import with_target_layer
from camcli.errors import TrainingError, one_line
from camcli.images.preprocess import Preset, preprocess
from camcli.models.load import load_for_training
from camcli.models.model import Model
from camcli.models.options import ModelOptions
from camcli.training.data import Dataset, Splits
from camcli.training.distillation import TRAINABLE_METHODS, Distillation
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
    student = _load_student(recipe, data.classes)
    losses = _with_teacher(recipe, student, teacher, data.classes, device) if teacher else None
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
        initial_weights="none" if untrained else _identity(student),
        distillation=losses,
        teacher=_identity(teacher) if teacher else None,
    )


def _load_student(recipe: Recipe, classes: Sequence[str]) -> Model:
    model = load_for_training(ModelOptions(recipe.model, recipe.weights, seed=recipe.seed), classes)
    if recipe.weights != "none":
        _check_colours(model)
    for phase in recipe.phases:
        _check_size(model, phase.size)
    return model


def _with_teacher(
    recipe: Recipe, student: Model, teacher: Model, classes: Sequence[str], device: torch.device
) -> Distillation:
    if teacher.num_classes != len(classes) or (teacher.class_names or classes) != classes:
        names = ", ".join((teacher.class_names or ())[:3])
        raise TrainingError(
            f"teacher {teacher.name} has {teacher.num_classes} classes ({names}, ...), the data "
            f"{len(classes)} ({', '.join(classes[:3])}, ...): expected the same classes"
        )
    _check_colours(teacher)
    return Distillation(
        teacher=teacher.module.to(device),
        layer=_target_layer(teacher, recipe),
        student_layer=_target_layer(student, recipe),
        method=TRAINABLE_METHODS[recipe.explain_method],
        kd_temperature=recipe.kd_temperature,
    )


def _target_layer(model: Model, recipe: Recipe) -> str:
    size = recipe.phases[-1].size
    layer = with_target_layer(model, (torch.zeros(1, 3, size, size, device=model.device),)).layer
    assert layer is not None
    return layer


def _check_colours(model: Model) -> None:
    if (model.preset.mean, model.preset.std) != (Preset.mean, Preset.std):
        raise TrainingError(
            f"{model.name} normalises colours by mean {model.preset.mean} and std "
            f"{model.preset.std}: expected ImageNet's {Preset.mean} and {Preset.std}"
        )


def _check_size(model: Model, size: int) -> None:
    model.module.eval()
    try:
        with torch.no_grad():
            logits(model.module(torch.zeros(1, 3, size, size)))
    except (RuntimeError, ValueError, AssertionError) as error:
        reason = one_line(error)
        raise TrainingError(
            f"{model.name} does not accept images of {size} pixels ({reason})"
        ) from None


def _identity(model: Model) -> str:
    """Return a model's name and weights, by which a resumed run recognises it."""
    return f"{model.name} {model.weights_hash or model.weights}"


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
