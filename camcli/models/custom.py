"""Networks of one's own, named `package.module:factory`. Importing and calling it executes it."""

from __future__ import annotations

import importlib
import inspect
import operator
import os
import sys
from collections.abc import Callable
from typing import Any

from torch import nn

from camcli.errors import ModelError, one_line

Factory = Callable[..., Any]


def find(name: str) -> Factory:
    """The function or class of that name; the working directory is searched first.

    Raises ModelError.
    """
    home, _, attribute = name.partition(":")
    sys.path.insert(0, here := os.getcwd())
    try:
        found = operator.attrgetter(attribute)(importlib.import_module(home))
    except (ImportError, ValueError, SyntaxError) as error:
        raise ModelError(f"model '{name}': cannot import '{home}' ({one_line(error)})") from None
    except AttributeError:
        raise ModelError(f"model '{name}': there is no '{attribute}' in {home}") from None
    finally:
        sys.path.remove(here)
    if not callable(found):
        kind = type(found).__name__
        raise ModelError(f"model '{name}': expected a function or a class, got {kind}")
    factory: Factory = found
    return factory


def build(name: str, factory: Factory, num_classes: int | None = None) -> nn.Module:
    """What the factory makes, for that number of classes if it takes one. Raises ModelError."""
    takes_one = num_classes is not None and "num_classes" in inspect.signature(factory).parameters
    try:
        module = factory(num_classes=num_classes) if takes_one else factory()
    except TypeError as error:  # arguments without a default, as a rule
        raise ModelError(f"model '{name}': it cannot be called ({one_line(error)})") from None
    if not isinstance(module, nn.Module):
        raise ModelError(f"model '{name}': expected an nn.Module, got {type(module).__name__}")
    return module
