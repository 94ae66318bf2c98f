"""The networks of a run: the student and its teacher, checked against the data."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from camcli.capture.targets import logits
from camcli.engine.explain import with_target_layer
from camcli.errors import TrainingError, one_line
from camcli.images.preprocess import Preset
from camcli.models.load import load_for_training
from camcli.models.model import Model
from camcli.models.options import ModelOptions
from camcli.training.distillation import TRAINABLE_METHODS, Distillation
from camcli.training.recipe import Recipe


def load_student(recipe: Recipe, classes: Sequence[str]) -> Model:
    """Load the network to train, with one output for each class.

    Raises ModelError, or TrainingError if the network does not suit the recipe.
    """
    model = _initial_model(recipe, classes)
    for phase in recipe.phases:
        _check_size(model, phase.size)
    return model


def identity(model: Model) -> str:
    """Return a model's name and weights, by which a resumed run recognises it."""
    return f"{model.name} {model.weights_hash or model.weights}"


def distillation(
    recipe: Recipe, student: Model, teacher: Model, classes: Sequence[str], device: torch.device
) -> Distillation:
    """Return the losses with a teacher. Raises TrainingError if its classes or colours differ."""
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


def _initial_model(recipe: Recipe, classes: Sequence[str]) -> Model:
    options = ModelOptions(recipe.model, recipe.weights, seed=recipe.seed)
    model = load_for_training(options, classes)
    if recipe.weights != "none":
        _check_colours(model)
    return model


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
