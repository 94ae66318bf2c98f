"""The last linear map of a network, whose rows are its classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor, nn

from camcli.errors import ModelError
from camcli.models.model import Model


def classifier(module: nn.Module) -> tuple[str, Tensor]:
    """Return the path and the weight (K, ...) of the last linear layer or convolution."""
    return [
        (path, part.weight)
        for path, part in module.named_modules()
        if isinstance(part, nn.Linear | nn.Conv2d)
    ][-1]


def count_classes(module: nn.Module) -> int | None:
    """Return the number of rows of the last linear map; None if the network has none."""
    linear = any(isinstance(part, nn.Linear | nn.Conv2d) for part in module.modules())
    return len(classifier(module)[1]) if linear else None


def replace_classifier(module: nn.Module, num_classes: int) -> None:
    """Replace the last linear map by one of zeros with as many rows as classes, in place."""
    path, weight = classifier(module)
    is_conv = isinstance(module.get_submodule(path), nn.Conv2d)
    shape = weight.shape[1], num_classes
    new: nn.Module = nn.Conv2d(*shape, kernel_size=1) if is_conv else nn.Linear(*shape)
    for parameter in new.parameters():
        nn.init.zeros_(parameter)
    module.set_submodule(path, new)


def with_classes(model: Model, class_names: Sequence[str]) -> Model:
    """Return a model for other classes; the last linear map is replaced in place.

    Returns the model itself if it has these classes. Raises ModelError if it is no classifier.
    """
    if model.class_names == tuple(class_names):
        return model
    if model.task != "classification" or count_classes(model.module) is None:
        raise ModelError(f"model '{model.name}': expected a classifier, with a last linear layer")
    replace_classifier(model.module, len(class_names))
    return replace(model, class_names=tuple(class_names), num_classes=len(class_names), head=None)
