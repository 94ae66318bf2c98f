"""Fitting a state dict into a network, and reading from it what the network must be."""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from camcli.errors import ModelError
from camcli.models.classifier import classifier
from camcli.models.families import ModelSpec


def rename_keys(state: Mapping[str, Tensor], spec: ModelSpec | None = None) -> dict[str, Tensor]:
    """Return a state dict with the keys of the installed version of the network."""

    def key(name: str) -> str:
        name = name.removeprefix("module.")  # added by DataParallel
        for old, new in spec.renamed if spec else ():
            name = re.sub(old, new, name)
        return name

    return {key(name): value for name, value in state.items()}


def fit(module: nn.Module, state: Mapping[str, Tensor], given: str, name: str) -> None:
    """Load a state dict, as float32, into a network that may be on the meta device.

    `given` and `name` are the weights and the network of the message. Raises ModelError if keys
    or shapes differ.
    """
    expected, state = module.state_dict(), dict(state)
    for key in expected.keys() - state.keys():
        if key.endswith("num_batches_tracked"):  # absent from old files, not used in evaluation
            state[key] = torch.zeros((), dtype=torch.long)
    if problems := _differences(expected, state):
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise ModelError(f"weights '{given}' do not fit {name}: {'; '.join(problems[:3])}{more}")
    floats = OrderedDict((k, v.float() if v.is_floating_point() else v) for k, v in state.items())
    # Some modules convert states of older versions. These shapes are those of this version.
    floats._metadata = expected._metadata  # type: ignore[attr-defined]
    module.load_state_dict(floats, assign=True)


def implied_arguments(
    module: nn.Module, state: Mapping[str, Tensor], spec: ModelSpec | None = None
) -> dict[str, int]:
    """Return the constructor arguments that a state dict implies: num_classes and image_size.

    Only those are returned that differ from the network's own.
    """
    path, rows = classifier(module)
    head, tokens = state.get(f"{path}.weight"), state.get((spec and spec.positions) or "")
    found = {}
    if head is not None and head.ndim and len(head) != len(rows):
        found["num_classes"] = len(head)
    if tokens is not None and tokens.ndim == 3:
        size = math.isqrt(tokens.shape[1] - 1) * int(module.patch_size)  # type: ignore[arg-type]
        if size != module.image_size:
            found["image_size"] = size
    return found


def _differences(expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> list[str]:
    shapes = [
        f"{key} is {_shape(given[key])}, expected {_shape(value)}"
        for key, value in expected.items()
        if key in given and _shape(given[key]) != _shape(value)
    ]
    missing = [f"no {key} {tuple(v.shape)}" for key, v in expected.items() if key not in given]
    return shapes + missing + [f"unexpected {key}" for key in given if key not in expected]


def _shape(value: Tensor) -> str:
    return f"{tuple(value.shape)}{'' if value.is_floating_point() else ' of whole numbers'}"
