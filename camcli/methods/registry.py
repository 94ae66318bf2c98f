"""The registry of methods, METHODS, and the evidence that methods can request."""

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
        "grads": "g, the gradient of S with respect to A (N,C,h,w)",
        "log_grads": "gradient of log Y with respect to A, Y the class's probability (N,C,h,w)",
        "mean_square": "mean of the squares of all classes' log_grads, weighted by Y (N,C,h,w)",
        "mean_cube": "mean of the cubes of all classes' log_grads, weighted by Y (N,C,h,w)",
        "pooled": "the map that the network's head averages over positions (N,C,h,w)",
        "weights": "the head's weights for the target, one per channel of `pooled` (N,C)",
        "bias": "the bias of a convolutional head, zero for a linear head (N,)",
        "masked": "S on the image masked with each channel, scaled to 0..1 (N,C)",
        "ablated": "S with each channel of the layer zeroed in turn (N,C)",
        "guided": "gradient of S with respect to the input with the guided ReLU rule (N,3,H,W)",
        "score": "S, the pre-softmax score of the target on the whole image (N,)",
        "occluded": "S with a grey window at each of its positions (N,r,c)",
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
"""The evidence that is recorded at the target layer."""


@dataclass(frozen=True)
class Method:
    """A registered method.

    `needs` holds the names in EVIDENCE of its parameters. `signed` states that negative values have
    a meaning, so that maps are drawn symmetric around zero. `image` states that the result has the
    shape (N,3,H,W) of the input instead of (N,h,w). `trainable` states that its maps can be part of
    a loss, which requires a method of activations and gradients only.
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
        """Return the first line of the function's docstring."""
        return (inspect.getdoc(self.function) or "").split("\n", 1)[0]

    @property
    def title(self) -> str:
        """Return the name used in papers: the summary up to the first colon or comma."""
        return re.split("[:,]", self.summary, maxsplit=1)[0]

    @property
    def at_layer(self) -> bool:
        """Return whether the method uses the output of a layer."""
        return bool(self.needs & AT_LAYER)


_methods: dict[str, Method] = {}


METHODS = MappingProxyType(_methods)
"""The registered methods by name."""


def register(
    name: str, *, source: str, signed: bool = False, image: bool = False, trainable: bool = False
) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Add the decorated function to METHODS under `name`.

    Raises ValueError for a name that is registered already, for parameters that are not in EVIDENCE
    and for a trainable method with parameters other than `acts` and `grads`.
    """

    def add(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        needs = frozenset(inspect.signature(function).parameters)
        if name in _methods:
            raise ValueError(f"method {name!r} is registered twice")
        if missing := needs - EVIDENCE.keys():
            raise ValueError(
                f"method {name!r} needs {sorted(missing)}: expected names from {list(EVIDENCE)}"
            )
        if trainable and needs != {"acts", "grads"}:
            raise ValueError(
                f"method {name!r} needs {sorted(needs)}: a trainable method needs acts and grads"
            )
        _methods[name] = Method(name, function, source, needs, signed, image, trainable)
        return function

    return add
