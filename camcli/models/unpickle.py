"""Read the tensors of a pickle whose other objects cannot be read without running code.

An ordinary unpickler imports the classes and functions that a file names, and calls them. This one
knows a few functions that rebuild tensors. Every other name becomes a `Placeholder`, which does
nothing. No module is imported and no code of a file runs.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any, ClassVar

import torch
import torch._utils


class Placeholder:
    """An inert stand-in for an object, a class or a function of a file.

    `__name__` is the name of the class or function, `module.name`. Contents are dropped.
    """

    def __init__(self, name: str) -> None:
        self.__name__ = name

    def append(self, item: object) -> None:
        """Drop an item of a list."""

    add = append

    def extend(self, items: object) -> None:
        """Drop items of a list."""

    def __setitem__(self, key: object, value: object) -> None:
        """Drop an item of a mapping."""


_REBUILDING: Mapping[tuple[str, str], Callable[..., Any]] = MappingProxyType(
    {
        ("collections", "OrderedDict"): OrderedDict,
        ("torch", "Size"): torch.Size,
        ("torch._utils", "_rebuild_tensor"): torch._utils._rebuild_tensor,
        ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
        ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
    }
)
"""The only functions that are called, by module and name. They make tensors and containers."""


class _Unpickler(pickle._Unpickler):
    """The unpickler of the standard library, where it would call or change what a file names.

    It is the one written in Python, whose instructions can be replaced.
    """

    stack: list[Any]

    def find_class(self, module: str, name: str, /) -> Any:
        """Return a function of _REBUILDING, or a placeholder. Imports nothing."""
        return _REBUILDING.get((module, name)) or Placeholder(f"{module}.{name}")

    def _instantiate(self, kind: object, _: object) -> None:
        self.stack.append(_instance(kind))

    def load_reduce(self) -> None:
        arguments = self.stack.pop()
        function = self.stack[-1]
        known = any(function is each for each in _REBUILDING.values())
        whole = not any(isinstance(each, Placeholder) for each in arguments)
        self.stack[-1] = function(*arguments) if known and whole else _instance(function)

    def load_newobj(self) -> None:
        self.stack.pop()
        self.stack[-1] = _instance(self.stack[-1])

    def load_newobj_ex(self) -> None:
        del self.stack[-2:]
        self.stack[-1] = _instance(self.stack[-1])

    def load_build(self) -> None:
        """Drop the attributes of an object, which could be code or change a known function."""
        self.stack.pop()

    dispatch: ClassVar[dict[int, Any]] = {
        **pickle._Unpickler.dispatch,
        pickle.REDUCE[0]: load_reduce,
        pickle.NEWOBJ[0]: load_newobj,
        pickle.NEWOBJ_EX[0]: load_newobj_ex,
        pickle.BUILD[0]: load_build,
    }


def _instance(kind: object) -> Any:
    """Return an empty OrderedDict, or a placeholder for an instance of any other class."""
    return (
        OrderedDict() if kind is OrderedDict else Placeholder(getattr(kind, "__name__", str(kind)))
    )


def _load(file: Any, **options: Any) -> Any:
    return _Unpickler(file, **options).load()


_MODULE = SimpleNamespace(__name__=__name__, Unpickler=_Unpickler, load=_load)
"""The names of the module `pickle` that torch uses."""


def read_with_placeholders(file: Path, *, mapped: bool) -> Any:
    """Return the contents of a file of torch.save, with placeholders for all foreign objects.

    `mapped` maps the tensors instead of reading them. A TorchScript archive must not be given:
    torch would load it as such.
    """
    return torch.load(
        file,
        map_location="cpu",
        pickle_module=_MODULE,
        weights_only=False,  # the unpickler above decides what is called
        mmap=mapped,
    )
