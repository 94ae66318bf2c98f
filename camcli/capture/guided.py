"""The guided rule of Springenberg et al. 2015, put on a forward pass from outside."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

from camcli.errors import CamcliWarning, MethodError


class GuidedReLU(TorchFunctionMode):
    """Puts the guided rule on every ReLU of a forward pass, as module, function or in place.

    While `active`, a backward pass lets only positive gradients into a ReLU from above; the ReLU's
    own derivative does the rest. ReLU6 is a ReLU too: its derivative is zero above 6. `relus` and
    `others` count the activation functions that ran on what a gradient can come back to: not those
    that only make a Swin V2's position biases, whatever the image.
    """

    OTHERS = frozenset(
        {
            *("celu", "elu", "gelu", "glu", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu"),
            *("logsigmoid", "mish", "prelu", "rrelu", "selu", "sigmoid", "silu", "softplus"),
            *("softsign", "tanh"),
        }
    )

    OWN = frozenset({"ReluBackward0", "HardtanhBackward0"})
    """Those whose gradient of the input is a tensor of their own making."""

    def __init__(self) -> None:
        super().__init__()
        self.active = False
        self.relus = 0
        self.others: Counter[str] = Counter()

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "").strip("_")
        if not getattr(result, "requires_grad", False):
            return result
        if _is_relu(name, args, kwargs or {}):
            self.relus += 1
            if result.grad_fn.name() in self.OWN:
                result.grad_fn.register_hook(self._rule_behind)
            else:
                result.register_hook(self._rule)
        elif name in self.OTHERS:
            self.others[name] += 1
        return result

    def _rule(self, gradient: Tensor) -> Tensor:
        return gradient.relu() if self.active else gradient

    def _rule_behind(self, found: tuple[Tensor, ...], _: object) -> tuple[Tensor, ...] | None:
        """The rule on what a ReLU has passed down: the same, as it passes by position or zero.

        Saves a pass over memory, since that is a tensor that nobody else has.
        """
        return (found[0].relu_(), *found[1:]) if self.active else None

    def check(self) -> None:
        """Refuse a network without a ReLU; warn of one that has other activations as well."""
        others = ", ".join(f"{count} {name}" for name, count in sorted(self.others.items()))
        if not self.relus:
            raise MethodError(
                "guided backpropagation needs ReLUs and this network has none "
                f"({others or 'no activation function'}): use gradcam or occlusion"
            )
        if others:
            warnings.warn(
                f"guided backpropagation guides this network's {self.relus} ReLUs, "
                f"but not its other activations ({others})",
                CamcliWarning,
                stacklevel=2,
            )


def _is_relu(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    """Whether a function of torch, called so, is zero below zero and linear above it."""

    def zero(position: int, keyword: str) -> bool:
        given = args[position] if len(args) > position else kwargs.get(keyword)
        return isinstance(given, int | float) and given == 0

    if name == "clamp":
        return zero(1, "min") and len(args) < 3 and kwargs.get("max") is None
    if name == "threshold":
        return zero(1, "threshold") and zero(2, "value")
    bounds = {"hardtanh": "min_val", "clamp_min": "min"}
    return name in ("relu", "relu6") or (name in bounds and zero(1, bounds[name]))
