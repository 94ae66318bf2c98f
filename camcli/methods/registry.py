"""The registry of methods, METHODS, and the evidence that a method may ask for."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


EVIDENCE = MappingProxyType(
    {
        "acts": "A, the target layer's output (N,C,h,w)",
        "grads": "g, the gradient of the score with respect to A (N,C,h,w)",
        "log_grads": "gradient of log Y with respect to A, Y the class's softmax (N,C,h,w)",
        "mean_square": "mean of the squares of all classes' log_grads, weighted by Y (N,C,h,w)",
        "mean_cube": "mean of the cubes of all classes' log_grads, weighted by Y (N,C,h,w)",
        "pooled": "the map that the network's head averages over space (N,C,h,w)",
        "weights": "the head's weights for the target, one per channel of `pooled` (N,C)",
        "bias": "what a convolutional head adds at each position, zero for a linear one (N,)",
        "masked": "S on the image seen through each channel, scaled to 0..1 (N,C)",
        "ablated": "S with each channel of the layer zeroed in turn (N,C)",
        "guided": "gradient of the score at the input under the guided ReLU rule (N,3,H,W)",
        "score": "S on the whole image (N,)",
        "occluded": "S with the window grey, at each of its positions (N,r,c)",
        "rows": "1 where the window at a vertical position covers a row, else 0 (r,H)",
        "columns": "1 where the window at a horizontal position covers a column, else 0 (c,W)",
    }
)


AT_LAYER = frozenset(
    {
        *("acts", "grads", "log_grads", "mean_square", "mean_cube"),
        *("pooled", "masked", "ablated"),
    }
)
"""The evidence that is taken at a layer."""


@dataclass(frozen=True)
class Method:
    """A registered method.

    `needs` are the names in EVIDENCE that it asks for; `signed` says that negative values carry
    meaning, so that it is drawn around zero; `image` that its result is (N,3,H,W) at the input's
    size and not a map (N,h,w); `trainable` that a loss can be put on its maps, which takes one
    of a layer and its gradients alone.
    """

    name: str
    function: Callable[..., Tensor]
    source: str
    needs: frozenset[str]
    signed: bool
    image: bool
    trainable: bool

    @property
    def summary(self) -> str:
        """The first sentence of the function's docstring."""
        return (inspect.getdoc(self.function) or "").split("\n", 1)[0]

    @property
    def title(self) -> str:
        """What papers call it: the summary's beginning."""
        return re.split("[:,]", self.summary, maxsplit=1)[0]

    @property
    def at_layer(self) -> bool:
        """Whether it explains by way of a layer."""
        return bool(self.needs & AT_LAYER)


_methods: dict[str, Method] = {}


METHODS = MappingProxyType(_methods)


def register(
    name: str, *, source: str, signed: bool = False, image: bool = False, trainable: bool = False
) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Add a function to METHODS under `name`; its parameter names must be in EVIDENCE."""

    def add(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        needs = frozenset(inspect.signature(function).parameters)
        if name in _methods:
            raise ValueError(f"method {name!r} is registered twice")
        if unheard := needs - EVIDENCE.keys():
            raise ValueError(
                f"method {name!r} asks for {sorted(unheard)}; there is {list(EVIDENCE)}"
            )
        if trainable and needs != {"acts", "grads"}:
            raise ValueError(f"method {name!r} needs more than a layer to be trained on")
        _methods[name] = Method(name, function, source, needs, signed, image, trainable)
        return function

    return add
