"""The guided ReLU rule of Springenberg et al. 2015, applied to a forward pass from outside."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

from camcli.errors import CamcliWarning, MethodError


class GuidedReLU(TorchFunctionMode):
    """A mode that puts the guided rule on every ReLU of a forward pass: module, function, in place.

    While `active`, a backward pass keeps only positive gradients at the output of a ReLU; the
    ReLU's own derivative does the rest. ReLU6 counts as a ReLU: its derivative is zero above 6.
    `relus` and `others` count the activation functions whose result has a gradient. Those that
    compute parameters independently of the image, as in Swin V2's position biases, have none.
    """

    OTHERS = frozenset(
        {
            *("celu", "elu", "gelu", "glu", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu"),
            *("logsigmoid", "mish", "prelu", "rrelu", "selu", "sigmoid", "silu", "softplus"),
            *("softsign", "tanh"),
        }
    )

    OWN = frozenset({"ReluBackward0", "HardtanhBackward0"})
    """Backward functions that allocate the gradient of their input."""

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
                result.grad_fn.register_hook(self._rule_at_input)
            else:
                result.register_hook(self._rule)
        elif name in self.OTHERS:
            self.others[name] += 1
        return result

    def _rule(self, gradient: Tensor) -> Tensor:
        return gradient.relu() if self.active else gradient

    def _rule_at_input(self, found: tuple[Tensor, ...], _: object) -> tuple[Tensor, ...] | None:
        """Apply the rule, in place, to the gradient at a ReLU's input.

        It equals the rule on the gradient at the output, since a ReLU passes a gradient on or sets
        it to zero. In place saves a pass over memory, and nothing else holds this tensor.
        """
        return (found[0].relu_(), *found[1:]) if self.active else None

    def check(self) -> None:
        """Raise MethodError for a network without a ReLU, and warn of other activations."""
        others = ", ".join(f"{count} {name}" for name, count in sorted(self.others.items()))
        if not self.relus:
            raise MethodError(
                "guided backpropagation needs ReLUs and this network has none "
                f"({others or 'no activation function'}): use gradcam or occlusion"
            )
        if others:
            warnings.warn(
                f"guided backpropagation applies to this network's {self.relus} ReLUs, "
                f"but not its other activations ({others})",
                CamcliWarning,
                stacklevel=2,
            )


def _is_relu(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    """Return whether a torch function, with these arguments, is a ReLU or ReLU6."""

    def zero(position: int, keyword: str) -> bool:
        given = args[position] if len(args) > position else kwargs.get(keyword)
        return isinstance(given, int | float) and given == 0

    if name == "clamp":
        return zero(1, "min") and len(args) < 3 and kwargs.get("max") is None
    if name == "threshold":
        return zero(1, "threshold") and zero(2, "value")
    bounds = {"hardtanh": "min_val", "clamp_min": "min"}
    return name in ("relu", "relu6") or (name in bounds and zero(1, bounds[name]))
