"""The methods as pure functions of evidence, and the fusion of maps of several layers.

In reading order: `registry` (METHODS and the evidence that methods can request), `maps` (the
methods), `tokens` (those for transformers), `fusion`, `backward`. Importing this package registers
the methods. Imports only `errors`.
"""

from camcli.methods import maps, tokens  # noqa: F401 - registers the methods
from camcli.methods.registry import METHODS, register

__all__ = ["METHODS", "register"]
