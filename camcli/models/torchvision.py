"""torchvision, imported without torch's compiler: in half the time.

torchvision's operators take one function from `torch._dynamo`, to ask on a GPU whether they can be
compiled, and importing that package takes as long as importing torch. Here it is imported when the
function is called. The other modules have torchvision from this one, so that no import comes first.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

__all__ = ["models", "ops", "version"]


class _Later(ModuleType):
    """Stands in for a module of which one function is imported: it is loaded by the first call."""

    def __init__(self, name: str, function: str) -> None:
        super().__init__(name)
        self._function = function

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):  # asked of every module, by `inspect` for one
            raise AttributeError(attribute)
        if attribute != self._function:
            return getattr(self._loaded(), attribute)
        return lambda *given, **named: getattr(self._loaded(), attribute)(*given, **named)

    def _loaded(self) -> ModuleType:
        self.stand_down()
        return importlib.import_module(self.__name__)

    def stand_down(self) -> None:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]


@contextlib.contextmanager
def _later(module: str, function: str) -> Iterator[None]:
    """Meanwhile, importing that function of a module does not import the module."""
    stand_in = _Later(module, function)
    sys.modules.setdefault(module, stand_in)
    try:
        yield
    finally:
        stand_in.stand_down()


with _later("torch._dynamo.utils", "is_compile_supported"):
    from torchvision import __version__ as version
    from torchvision import models, ops
