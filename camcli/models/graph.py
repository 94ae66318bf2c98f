"""A network as a graph of its operations, each of which makes a new tensor."""

from __future__ import annotations

import copy
import itertools
import threading
import warnings
from collections.abc import Callable
from typing import Any

from torch import fx, nn
from torch.nn.modules import module as every_module

_TRACING = threading.Lock()


def operations(module: nn.Module) -> fx.Interpreter | None:
    """The operations of a network, ready to run on its own weights; None where fx cannot tell them.

    That is so where the forward pass depends on values, and where something in the network could
    not be seen in them: a hook, or a tensor written to. The network itself is left alone: what is
    traced, and keeps whatever its forward pass keeps, is a copy that shares the weights.
    """
    if _is_hooked(module):
        return None
    weights = {id(x): x for x in itertools.chain(module.parameters(), module.buffers())}
    try:
        with _TRACING, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of code that is only being read
            root = copy.deepcopy(module, weights)
            graph = _Tracer().trace(root)
    except Exception:  # noqa: BLE001 - anyone's code, given what is no tensor, may raise anything
        return None
    for part in root.modules():
        if getattr(part, "inplace", False):
            part.inplace = False  # type: ignore[assignment]
    for node in graph.nodes:
        if "inplace" in node.kwargs:
            node.kwargs = {**node.kwargs, "inplace": False}
        if node.op == "call_method" and node.target == "view":
            node.target = "reshape"  # whatever order the numbers of a patch are stored in
    return None if any(map(_writes, graph.nodes)) else fx.Interpreter(root, graph=graph)


def apply(network: fx.Interpreter, node: fx.Node, value: Callable[[fx.Node], Any]) -> Any:
    """What an operation gives for other nodes' values; parameters it finds itself."""

    def found(source: fx.Node) -> Any:
        return network.get_attr(source.target, (), {}) if source.op == "get_attr" else value(source)

    args, kwargs = fx.map_arg((node.args, node.kwargs), found)
    return getattr(network, node.op)(node.target, args, kwargs)


class _Tracer(fx.Tracer):
    """Traces its own thread: meanwhile, all threads' modules and their parameters come by here."""

    def __init__(self) -> None:
        super().__init__()
        self.thread = threading.get_ident()

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: dict[str, Any]
    ) -> Any:
        if threading.get_ident() != self.thread:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        if threading.get_ident() != self.thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)


def _is_hooked(module: nn.Module) -> bool:
    """Whether something other than a module's own code sees or changes what goes through it."""
    everywhere = every_module._global_forward_hooks or every_module._global_forward_pre_hooks
    return bool(everywhere) or any(
        part._forward_hooks or part._forward_pre_hooks for part in module.modules()
    )


def _writes(node: fx.Node) -> bool:
    """Whether an operation writes to a tensor that it is given."""
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    called = node.op in ("call_function", "call_method")
    return called and ((name.endswith("_") and not name.endswith("__")) or name == "setitem")
