"""camcli: where did the network look?

The public names are imported when first used (PEP 562), so that `import camcli` and
`camcli --help` stay quick: neither imports torch.
"""

# No `from __future__ import annotations`: it would hide the module camcli.annotations.
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from camcli.engine.explain import explain
    from camcli.engine.explanation import Explanation
    from camcli.errors import CamcliError
    from camcli.methods.registry import METHODS
    from camcli.models.load import load
    from camcli.models.model import Model

__version__ = "0.1.0"
__all__ = ["METHODS", "CamcliError", "Explanation", "Model", "__version__", "explain", "load"]

_HOME = {
    "METHODS": "camcli.methods.registry",
    "CamcliError": "camcli.errors",
    "Explanation": "camcli.engine.explanation",
    "Model": "camcli.models.model",
    "explain": "camcli.engine.explain",
    "load": "camcli.models.load",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'camcli' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
