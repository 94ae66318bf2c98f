"""The methods as pure functions of evidence, their registry, and fusion of several layers.

Importing this package registers the methods of `maps`, so that METHODS is never half full.
"""

from camcli.methods import maps  # noqa: F401 - registers the methods
from camcli.methods.registry import METHODS, register

__all__ = ["METHODS", "register"]
