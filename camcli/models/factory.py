"""Networks named `package.module:factory`. Importing and calling the factory runs its code."""

from __future__ import annotations

import importlib
import inspect
import operator
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from camcli.errors import ModelError, one_line
from camcli.images.preprocess import Preset
from camcli.models.head import count_classes, replace_classifier
from camcli.models.model import Model
from camcli.models.options import ModelOptions
from camcli.models.weights import (
    fit,
    implied_arguments,
    random_weights,
    read_labels,
    read_state,
    sha256,
)

Factory = Callable[..., Any]


def load_factory(options: ModelOptions) -> Model:
    """Call the factory, and load a weights file into its network if one is given.

    If the file has another number of classes, the network is built again for that number.
    Raises ModelError.
    """
    name, weights, factory = options.name, options.weights, find_factory(options.name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        module, used, digest = call_factory(name, factory), f"from {name}", None
        if weights not in ("DEFAULT", "none"):
            if not (file := Path(weights)).is_file():
                raise ModelError(f"weights '{weights}': no such file or folder of `camcli train`")
            state, used, digest = read_state(file), file.name, sha256(file)
            arguments = implied_arguments(module, state) if count_classes(module) else {}
            if "num_classes" in arguments:
                module = call_factory(name, factory, arguments["num_classes"])
            fit(module, state, weights, name)
    count = count_classes(module)
    names = None if options.labels is None else read_labels(options.labels, count)
    preset, preset_from = preset_for(module)
    return Model(
        module=module,
        name=name,
        weights=used,
        preset=preset,
        preset_from=preset_from,
        class_names=names,
        num_classes=count,
        weights_hash=digest,
    )


def initialise_factory(name: str, class_names: Sequence[str], seed: int = 0) -> Model:
    """Build a classifier of these classes with random weights, to be trained. Raises ModelError."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = call_factory(name, find_factory(name), len(class_names))
    if count_classes(module) is None:
        raise ModelError(f"model '{name}' cannot be trained: it has no linear layer")
    names = tuple(class_names)
    return Model(module, name, random_weights(seed), class_names=names, num_classes=len(names))


def find_factory(name: str) -> Factory:
    """Import the function or class of a name; the working directory is searched first.

    Raises ModelError.
    """
    package, _, attribute = name.partition(":")
    sys.path.insert(0, here := os.getcwd())
    try:
        found = operator.attrgetter(attribute)(importlib.import_module(package))
    except (ImportError, ValueError, SyntaxError) as error:
        raise ModelError(f"model '{name}': cannot import '{package}' ({one_line(error)})") from None
    except AttributeError:
        raise ModelError(f"model '{name}': there is no '{attribute}' in {package}") from None
    finally:
        sys.path.remove(here)
    if not callable(found):
        kind = type(found).__name__
        raise ModelError(f"model '{name}': expected a function or a class, got {kind}")
    factory: Factory = found
    return factory


def call_factory(name: str, factory: Factory, num_classes: int | None = None) -> nn.Module:
    """Call the factory for a network, of `num_classes` classes if that is given.

    The last linear map is replaced by zeros if the factory does not take `num_classes`.
    Raises ModelError.
    """
    takes_it = num_classes is not None and "num_classes" in inspect.signature(factory).parameters
    try:
        module = factory(num_classes=num_classes) if takes_it else factory()
    except TypeError as error:  # usually parameters without a default
        raise ModelError(f"model '{name}': it cannot be called ({one_line(error)})") from None
    if not isinstance(module, nn.Module):
        raise ModelError(f"model '{name}': expected an nn.Module, got {type(module).__name__}")
    if num_classes is not None and count_classes(module) not in (None, num_classes):
        replace_classifier(module, num_classes)
    return module


def preset_for(module: nn.Module) -> tuple[Preset, str]:
    """Return the preprocessing of a factory's network, and where it is from.

    It is the network's own attribute `preset`. Otherwise that of most of torchvision's networks is
    assumed. A network whose first convolution takes another number of channels than three gets
    values between 0 and 1.
    """
    if isinstance(preset := getattr(module, "preset", None), Preset):
        return preset, "the network"
    first = next((part for part in module.modules() if isinstance(part, nn.Conv2d)), None)
    if first is None or first.in_channels == 3:
        return Preset(), "assumed"
    return Preset(mean=(0.0,) * first.in_channels, std=(1.0,) * first.in_channels), "assumed"
