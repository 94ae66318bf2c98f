"""The guided ReLU rule of Springenberg et al. 2015, applied to a forward pass from outside."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any

from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.autograd.graph import Node
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from camcli.capture.rectifiers import RULES, is_relu, relu_of_node
from camcli.errors import CamcliWarning, MethodError


class GuidedReLU(TorchFunctionMode):
    """A mode that puts the guided rule on every ReLU of a forward pass: module, function, in place.

    While `active`, a backward pass keeps only positive gradients at the output of a ReLU; the
    ReLU's own derivative does the rest. `relus` and `others` count the activation functions whose
    result has a gradient. Those that compute parameters independently of the image, as in Swin V2's
    position biases, have none. Call `check` after the pass, which finds ReLUs that Python does not
    run, such as those of scripted modules.
    """

    OTHERS = frozenset(
        {
            *("abs", "celu", "elu", "gelu", "glu", "hardsigmoid", "hardswish", "hardtanh"),
            *("leaky_relu", "logsigmoid", "mish", "prelu", "rrelu", "selu", "sigmoid", "silu"),
            *("softplus", "softsign", "tanh"),
        }
    )

    OWN = frozenset({"ReluBackward0", "HardtanhBackward0"})
    """Backward functions that allocate the gradient of their input."""

    def __init__(self) -> None:
        super().__init__()
        self.active = False
        self.relus = 0
        self.others: Counter[str] = Counter()
        self._seen: dict[Node, str] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs, name = kwargs or {}, getattr(func, "__name__", "").strip("_")
        rectifies = is_relu(name, args, kwargs)
        returned = func(*args, **kwargs)
        result = args[0] if name == "setitem" else returned
        if not getattr(result, "requires_grad", False):
            return returned
        if rectifies:
            self.relus += 1
            if result.grad_fn.name() in self.OWN:
                result.grad_fn.register_hook(self._rule_at_input)
            else:
                result.register_hook(self._rule)
        if name in RULES or name in self.OTHERS:
            self._seen[result.grad_fn] = "" if rectifies or name not in self.OTHERS else name
        return returned

    def _rule(self, gradient: Tensor) -> Tensor:
        return gradient.relu() if self.active else gradient

    def _rule_at_input(self, found: tuple[Tensor, ...], _: object) -> tuple[Tensor, ...] | None:
        """Apply the rule, in place, to the gradient at a ReLU's input.

        It equals the rule on the gradient at the output, since a ReLU passes a gradient on or sets
        it to zero. In place saves a pass over memory, and nothing else holds this tensor.
        """
        return (found[0].relu_(), *found[1:]) if self.active else None

    def _rule_at_inputs(
        self, found: tuple[Tensor | None, ...], _: object
    ) -> tuple[Tensor | None, ...] | None:
        """Apply the rule to the gradients at the inputs of a ReLU."""
        if not self.active:
            return None
        return tuple(None if one is None else one.relu() for one in found)

    def check(self, output: Any) -> None:
        """Put the rule on the ReLUs in the graph of an output that no function has shown.

        Raise MethodError for a network without a ReLU, and for a part that may hide some. Warn of
        other activations.
        """
        seen, self._seen = self._seen, {}  # which would keep the graph
        for node in nodes_of(output):
            if node in seen:
                self.others[seen[node]] += 1
            else:
                self._see(node)
        del self.others[""]
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

    def _see(self, node: Node) -> None:
        """Put the rule on a node if it is a ReLU. Raises MethodError if that is not known."""
        rectifies, name = relu_of_node(node), node.name().rpartition("::")[2]
        name = name.partition("Backward")[0]
        if rectifies is None:
            raise MethodError(
                f"guided backpropagation cannot see what '{name}' rectifies in this network, which "
                f"hides its operations: use gradcam or occlusion"
            )
        if rectifies:
            self.relus += 1
            node.register_hook(self._rule_at_inputs)
        elif isinstance(node, BackwardCFunction):
            self.others[name] += 1
        elif name.lower() in {other.replace("_", "") for other in self.OTHERS}:
            self.others[name.lower()] += 1


def nodes_of(output: Any) -> Iterator[Node]:
    """Yield the nodes of the graph of an output, each once."""
    fields = getattr(output, "__dict__", {})  # of an output that is an object
    left = [x.grad_fn for x in tree_leaves((output, fields)) if isinstance(x, Tensor)]
    seen: set[Node | None] = {None}
    while left:
        node = left.pop()
        if node is not None and node not in seen:
            seen.add(node)
            yield node
            left += [source for source, _ in node.next_functions]
