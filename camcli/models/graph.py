"""A network as a graph of operations that write to none of their inputs."""

from __future__ import annotations

import copy
import itertools
import threading
from collections.abc import Callable, Collection
from typing import Any

from torch import fx, nn
from torch.jit import ScriptModule
from torch.nn.modules import module as every_module

_TRACING = threading.Lock()


def operations(module: nn.Module, without: Collection[str] = ()) -> fx.Interpreter | None:
    """Trace a network into operations that run on its own weights; None if that is not possible.

    The last operation with one of the names `without` is left out, as is a module of that name.
    It is not possible if the forward pass depends on values, writes to a tensor, or has hooks or
    scripted parts. The network is not changed: a copy is traced that shares its weights.
    """
    if _is_hooked(module) or any(isinstance(part, ScriptModule) for part in module.modules()):
        return None
    weights = {id(x): x for x in itertools.chain(module.parameters(), module.buffers())}
    try:
        with _TRACING:
            root = copy.deepcopy(module, weights)
            graph = _Tracer().trace(root)
    except Exception:  # noqa: BLE001 - any code may raise anything when it gets a fx.Proxy
        return None
    for part in root.modules():
        if getattr(part, "inplace", False):
            part.inplace = False  # type: ignore[assignment]
    for node in graph.nodes:
        if "inplace" in node.kwargs:
            node.kwargs = {**node.kwargs, "inplace": False}
        if node.op == "call_method" and node.target == "view":
            node.target = "reshape"  # a view fails if patches are not contiguous
    if any(map(_writes, graph.nodes)) or (without and not _leave_out(graph, root, without)):
        return None
    return fx.Interpreter(root, graph=graph)


def apply(network: fx.Interpreter, node: fx.Node, value: Callable[[fx.Node], Any]) -> Any:
    """Return the output of an operation. `value` gives the outputs of the nodes before it."""

    def resolve(source: fx.Node) -> Any:
        return network.get_attr(source.target, (), {}) if source.op == "get_attr" else value(source)

    args, kwargs = fx.map_arg((node.args, node.kwargs), resolve)
    return getattr(network, node.op)(node.target, args, kwargs)


class _Tracer(fx.Tracer):
    """A tracer for one thread. fx patches nn.Module, so calls of all threads arrive here."""

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
    everywhere = every_module._global_forward_hooks or every_module._global_forward_pre_hooks
    return bool(everywhere) or any(
        part._forward_hooks or part._forward_pre_hooks for part in module.modules()
    )


def _leave_out(graph: fx.Graph, root: nn.Module, names: Collection[str]) -> bool:
    """Leave out the last operation with one of the names; return whether there was one."""
    plain = {name.replace("_", "") for name in names}
    for node in reversed(graph.nodes):
        if node.op == "call_module":
            name = type(root.get_submodule(str(node.target))).__name__.lower()
        else:
            name = _name(node).replace("_", "")
        if name in plain and node.op != "output":
            node.replace_all_uses_with(node.all_input_nodes[0])
            graph.erase_node(node)
            return True
    return False


def _name(node: fx.Node) -> str:
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")


def _writes(node: fx.Node) -> bool:
    name = _name(node)
    called = node.op in ("call_function", "call_method")
    return called and ((name.endswith("_") and not name.endswith("__")) or name == "setitem")
