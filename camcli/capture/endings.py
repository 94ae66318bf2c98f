"""The softmax or sigmoid that a network may end in, and the values before it.

The explained score is the value before it. A second softmax would give wrong probabilities, and
the gradient of a probability vanishes where the probability is close to 1. Networks that end in
scores are told by these scores, and pay nothing else.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.jit import ScriptModule
from torch.overrides import TorchFunctionMode

from camcli.errors import CamcliWarning
from camcli.models.precision import at_least_float32

Find: TypeAlias = Callable[[Any], Tensor | None]
"""From an output to the values (N,K,...) of K classes in it; None if it has none."""

SOFTMAX, LOG_SOFTMAX, SIGMOID = "softmax", "log_softmax", "sigmoid"
FUNCTIONS = MappingProxyType(
    {
        **{name: name for name in (SOFTMAX, LOG_SOFTMAX, SIGMOID)},
        **{"special_softmax": SOFTMAX, "special_log_softmax": LOG_SOFTMAX},
        **{"special_expit": SIGMOID},
    }
)
"""The functions that may end a network, by the names of torch's functions."""

_MOST = 4
"""The number of calls that are kept. The one that ends a network is among its last."""

_SUSPECTED: WeakSet[nn.Module] = WeakSet()
"""Networks whose output once looked like one of these functions'. Their passes are watched at once.

Some of them end in none: scores that are never negative, as after a ReLU, may all be below 1.
"""


@dataclass(frozen=True, eq=False)
class Ended:
    """A network's `own` output, and the values `logits` (N,K,...) before its last function.

    `kind` is the function, and `place` its place among the last calls, as a negative index. It is
    None for a function that was not seen; `logits` are then the logs of the probabilities, or the
    log-odds for a sigmoid.
    """

    own: Any
    logits: Tensor
    kind: str
    place: int | None


class LastCalls(TorchFunctionMode):
    """A mode that keeps the last softmaxes and sigmoids of a forward pass, with their inputs."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: deque[tuple[str, Tensor, Tensor]] = deque(maxlen=_MOST)

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs, name = kwargs or {}, getattr(func, "__name__", "")
        kind = FUNCTIONS.get(name.strip("_"))
        if kind is None:
            return func(*args, **kwargs)
        given = args[0] if args else kwargs["input"]
        before = given.clone() if name.endswith("_") else given
        result = func(*args, **kwargs)
        self._calls.append((kind, before, result))
        return result

    def find(self, kind: str, values: Tensor) -> int | None:
        """Return the place of the last call of a kind whose result are these values."""
        for place in range(-1, -1 - len(self._calls), -1):
            found, _, result = self._calls[place]
            if found == kind and result.numel() == values.numel():
                seen = result.detach().to(values).reshape(values.shape)
                if torch.equal(seen, values.detach()):
                    return place
        return None

    def before(self, place: int, values: Tensor) -> Tensor:
        """Return the input of the call at a place, in the shape of the values it gave."""
        return at_least_float32(self._calls[place][1].reshape(values.shape))


def kind_of(values: Tensor) -> str | None:
    """Return the function that may have given values (N,K,...); None for plain scores.

    Rows that are probabilities, or their logs, tell a softmax. Values between 0 and 1 alone do not
    tell a sigmoid: an operation has to be found, too.
    """
    seen = at_least_float32(values.detach())
    low, high = torch.stack(seen.aminmax()).tolist() if seen.numel() else (-1, 1)
    near = 1e-4 if seen.dtype == values.dtype else 1e-2
    several = seen.shape[1] > 1
    if high <= 0 and several and bool((seen.logsumexp(1).abs() < near).all()):
        return LOG_SOFTMAX
    if not 0 <= low <= high <= 1 + near:
        return None
    return SOFTMAX if several and bool(((seen.sum(1) - 1).abs() < near).all()) else SIGMOID


def run_ended(module: nn.Module, run: Callable[[], Any], find: Find, kinds: frozenset[str]) -> Any:
    """Return the output of a pass `run` of a network: Ended where it ends in one of `kinds`.

    The first pass that may end so is repeated to watch its operations. A function that cannot be
    seen gives a CamcliWarning.
    """
    if not kinds:
        return run()
    calls, watched = LastCalls(), module in _SUSPECTED
    with calls if watched else nullcontext():
        output = run()
    if (kind := _suspected(output, find, kinds)) is None:
        return output
    if not watched:
        _SUSPECTED.add(module)
        with calls:
            output = run()
    if (found := seen_ending(calls, output, find, kinds)) is not output:
        return found
    if kind == SIGMOID and not _ends_in_scripted_sigmoid(module):
        return output
    return _warned(ended(output, find, kind, None, calls))


def seen_ending(calls: LastCalls, output: Any, find: Find, kinds: frozenset[str]) -> Any:
    """Return an output as Ended if the last of some calls gave it, else the output itself."""
    if (kind := _suspected(output, find, kinds)) is None:
        return output
    values = find(output)
    assert values is not None
    place = calls.find(kind, values)
    return output if place is None else ended(output, find, kind, place, calls)


def rerun_ended(known: Any, run: Callable[[], Any], find: Find) -> Any:
    """Return the output of another pass of a network that gave `known`, Ended where that is."""
    if not isinstance(known, Ended):
        return run()
    with LastCalls() as calls:
        output = run()
    return ended(output, find, known.kind, known.place, calls)


def ended(output: Any, find: Find, kind: str, place: int | None, calls: LastCalls) -> Ended:
    """Return an output with the values before the call at `place`, or logs where that is None."""
    values = find(output)
    assert values is not None
    if place is not None:
        return Ended(output, calls.before(place, values), kind, place)
    logs = at_least_float32(values)
    if kind == SOFTMAX:
        logs = logs.clamp(min=torch.finfo(logs.dtype).tiny).log()
    if kind == SIGMOID:
        logs = logs.logit(eps=torch.finfo(logs.dtype).eps)
    return Ended(output, logs, kind, None)


def last_values(output: Any) -> Any:
    """Return what scores are read from: the values before an ending, or else the output."""
    return output.logits if isinstance(output, Ended) else output


def own_output(output: Any) -> Any:
    """Return the output as the network gave it."""
    return output.own if isinstance(output, Ended) else output


def _suspected(output: Any, find: Find, kinds: frozenset[str]) -> str | None:
    values = find(output)
    kind = None if values is None else kind_of(values)
    return kind if kind in kinds else None


def _ends_in_scripted_sigmoid(module: nn.Module) -> bool:
    """Return whether a network, or the last of its parts, is scripted and ends in a sigmoid."""
    parts = [module] if isinstance(module, ScriptModule) else [None, *module.children()]
    if not isinstance(last := parts[-1], ScriptModule):
        return False
    kinds = [value.node().kind() for value in last.inlined_graph.outputs()]
    return kinds[:1] in (["aten::sigmoid"], ["aten::sigmoid_"])


def _warned(found: Ended) -> Ended:
    logs = (
        "log-odds of the probability are" if found.kind == SIGMOID else "log of the probability is"
    )
    warnings.warn(
        f"the network gives probabilities, and the scores before its {found.kind} cannot be seen: "
        f"the {logs} explained; leave the {found.kind} out to explain the score",
        CamcliWarning,
        stacklevel=2,
    )
    return found
