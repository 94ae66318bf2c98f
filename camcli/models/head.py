"""The last linear map of a network, whose rows are its classes."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.functional import normalize


@dataclass(frozen=True)
class Head:
    """The last linear map of a network whose score is the mean of a class map.

    `linear` is an `nn.Linear` after the pooling or a 1x1 `nn.Conv2d` before it. `rectified` tells
    whether a functional ReLU lies between the target layer and the pooling.
    """

    linear: nn.Module
    rectified: bool = False


class CosineHead(nn.Module):
    """A linear map of embeddings of length 1: each class's score is a cosine, times a scale."""

    def __init__(self, rows: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        self.linear = nn.Linear(rows.shape[1], len(rows), bias=bias is not None, device="meta")
        self.linear.weight = nn.Parameter(rows)
        if bias is not None:
            self.linear.bias = nn.Parameter(bias)

    def forward(self, embeddings: Tensor) -> Tensor:
        """(N,D) -> (N,K)"""
        scores: Tensor = self.linear(normalize(embeddings, dim=1))
        return scores


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
    """Replace the last linear map by one with a row of zeros for each class, in place."""
    path, weight = classifier(module)
    is_conv = isinstance(module.get_submodule(path), nn.Conv2d)
    shape = weight.shape[1], num_classes
    new: nn.Module = nn.Conv2d(*shape, kernel_size=1) if is_conv else nn.Linear(*shape)
    for parameter in new.parameters():
        nn.init.zeros_(parameter)
    module.set_submodule(path, new)
