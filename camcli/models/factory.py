"""Networks named `package.module:factory` or `file.py:factory`.

Importing and calling the factory runs its code.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import operator
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from camcli.errors import ModelError, one_line
from camcli.images.preprocess import Preset
from camcli.models.head import count_classes, replace_classifier
from camcli.models.keys import match_keys
from camcli.models.labels import read_labels, stored_names
from camcli.models.model import Model
from camcli.models.options import ModelOptions, with_arguments
from camcli.models.preprocessing import preset_of_timm
from camcli.models.weights import fit, given_weights, implied_arguments, random_weights

Factory = Callable[..., Any]


def load_factory(options: ModelOptions) -> Model:
    """Call the factory, and load a weights file into its network if one is given.

    If the file has another number of classes, the network is built again for that number.
    Raises ModelError.
    """
    name, arguments, factory = options.name, options.arguments, find_factory(options.name)
    given = given_weights(options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        module, used, digest = call_factory(name, factory, arguments), f"from {name}", None
        if given is not None:
            state = match_keys(given.state, module.state_dict(), options.weights)
            implied = implied_arguments(module, state) if count_classes(module) else {}
            if "num_classes" in implied and "num_classes" not in arguments:
                module = call_factory(name, factory, arguments, implied["num_classes"])
            fit(module, state, options.weights, name)
            used, digest = given.name, given.digest
    count = count_classes(module)
    names = stored_names(given and given.labels, count)
    if options.labels is not None:
        names = read_labels(options.labels, count)
    preset, preset_from = preset_for(module)
    return Model(
        module=module,
        name=with_arguments(name, arguments),
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
        module = call_factory(name, find_factory(name), {}, len(class_names))
    if count_classes(module) is None:
        raise ModelError(f"model '{name}' cannot be trained: it has no linear layer")
    names = tuple(class_names)
    return Model(module, name, random_weights(seed), class_names=names, num_classes=len(names))


def find_factory(name: str) -> Factory:
    """Return the function or class of a name, from a module or a file that is imported.

    The working directory is searched first; for a file, its own folder. Raises ModelError.
    """
    package, _, attribute = name.rpartition(":")
    is_file = package.endswith(".py")
    first = os.path.dirname(os.path.abspath(package)) if is_file else os.getcwd()
    sys.path.insert(0, first)
    try:
        module = _import_file(package) if is_file else importlib.import_module(package)
        found = operator.attrgetter(attribute)(module)
    except (ImportError, ValueError, SyntaxError, OSError) as error:
        raise ModelError(f"model '{name}': cannot import '{package}' ({one_line(error)})") from None
    except AttributeError:
        raise ModelError(f"model '{name}': there is no '{attribute}' in {package}") from None
    finally:
        sys.path.remove(first)
    if not callable(found):
        kind = type(found).__name__
        raise ModelError(f"model '{name}': expected a function or a class, got {kind}")
    factory: Factory = found
    return factory


def _import_file(file: str) -> ModuleType:
    """Run a file as a module. Its name in `sys.modules` cannot hide another module."""
    name = f"camcli_factory_{Path(file).stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is not a file of Python")
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def call_factory(
    name: str, factory: Factory, arguments: Mapping[str, Any], num_classes: int | None = None
) -> nn.Module:
    """Call the factory for a network, of `num_classes` classes if that is given.

    The last linear map is replaced by zeros if the factory does not take `num_classes`.
    Raises ModelError.
    """
    takes_it = num_classes is not None and "num_classes" in inspect.signature(factory).parameters
    try:
        module = factory(**arguments, **({"num_classes": num_classes} if takes_it else {}))
    except TypeError as error:  # usually parameters without a default
        raise ModelError(f"model '{name}': it cannot be called ({one_line(error)})") from None
    if not isinstance(module, nn.Module):
        raise ModelError(f"model '{name}': expected an nn.Module, got {type(module).__name__}")
    if num_classes is not None and count_classes(module) not in (None, num_classes):
        replace_classifier(module, num_classes)
    return module


def preset_for(module: nn.Module) -> tuple[Preset, str]:
    """Return the preprocessing of a factory's network, and where it is from.

    It is the network's own attribute `preset`, or that of timm's `pretrained_cfg` or `default_cfg`.
    Otherwise that of most of torchvision's networks is assumed. A network whose first convolution
    takes another number of channels than three gets values between 0 and 1. Raises ModelError.
    """
    if isinstance(preset := getattr(module, "preset", None), Preset):
        return preset, "the network"
    card = getattr(module, "pretrained_cfg", None) or getattr(module, "default_cfg", None)
    if isinstance(card, Mapping):
        try:
            return preset_of_timm(card), "the network"
        except (ValueError, TypeError, KeyError) as error:
            raise ModelError(
                f"preprocessing of {type(module).__name__}: {one_line(error)}"
            ) from None
    first = next((part for part in module.modules() if isinstance(part, nn.Conv2d)), None)
    if first is None or first.in_channels == 3:
        return Preset(), "assumed"
    return Preset(mean=(0.0,) * first.in_channels, std=(1.0,) * first.in_channels), "assumed"
