"""torchvision, imported without torch's compiler, which halves the time of the import.

torchvision's operators import one function from `torch._dynamo`, which they call on a GPU to find
out whether they can be compiled. Importing that package takes as long as importing torch. Here it
is imported when the function is called. All other modules import torchvision from here.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

__all__ = ["models", "ops", "version"]


class _Placeholder(ModuleType):
    """A placeholder for a module from which one function is imported. The first call loads it."""

    def __init__(self, name: str, function: str) -> None:
        super().__init__(name)
        self._function = function

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):  # `inspect` reads such attributes of every module
            raise AttributeError(attribute)
        if attribute != self._function:
            return getattr(self._loaded(), attribute)
        return lambda *given, **named: getattr(self._loaded(), attribute)(*given, **named)

    def _loaded(self) -> ModuleType:
        self.remove()
        return importlib.import_module(self.__name__)

    def remove(self) -> None:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]


@contextlib.contextmanager
def _deferred(module: str, function: str) -> Iterator[None]:
    """In this context, importing that function from a module does not import the module."""
    placeholder = _Placeholder(module, function)
    sys.modules.setdefault(module, placeholder)
    try:
        yield
    finally:
        placeholder.remove()


with _deferred("torch._dynamo.utils", "is_compile_supported"):
    from torchvision import __version__ as version
    from torchvision import models, ops
