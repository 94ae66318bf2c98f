"""Building torchvision's networks, empty or with given weights, and refusing weights of others."""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from camcli.errors import ModelError
from camcli.models.families import ModelSpec, spec_named
from camcli.models.skip_init import Hollow
from camcli.models.torchvision import models as zoo


def seeded(name: str, seed: int, size: int | None = None, **arguments: Any) -> nn.Module:
    """A network with random weights, always the same from one seed, for an input of that size.

    `arguments` are for its constructor.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _built(name, size, **arguments)


def empty(name: str, size: int | None = None, **arguments: Any) -> nn.Module:
    """A network whose weights have shapes and no storage, made without initialising anything."""
    with Hollow():
        return _built(name, size, **arguments)


def assembled(name: str, state: Mapping[str, Tensor], given: str) -> nn.Module:
    """A network with these weights, that came from what was `given`. Raises ModelError."""
    spec = spec_named(name) or ModelSpec("")
    state = renamed(state, spec)
    state = {key: value for key, value in state.items() if not key.startswith(spec.unused or "\0")}
    module = empty(name, **spec.pretrained)
    if arguments := implied(module, state, spec):
        module = empty(name, **spec.pretrained, **arguments)
    fit(module, state, given, name)
    return module


def renamed(state: Mapping[str, Tensor], spec: ModelSpec | None = None) -> dict[str, Tensor]:
    """Weights by the names of today."""

    def key(name: str) -> str:
        name = name.removeprefix("module.")  # left there by DataParallel
        for old, new in spec.renamed if spec else ():
            name = re.sub(old, new, name)
        return name

    return {key(name): value for name, value in state.items()}


def fit(module: nn.Module, state: Mapping[str, Tensor], given: str, name: str) -> None:
    """Put weights into a network that may have none yet. Raises ModelError where they differ."""
    expected, state = module.state_dict(), dict(state)
    for key in expected.keys() - state.keys():
        if key.endswith("num_batches_tracked"):  # absent from old files, and of no use here
            state[key] = torch.zeros((), dtype=torch.long)
    if problems := _differences(expected, state):
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise ModelError(f"weights '{given}' do not fit {name}: {'; '.join(problems[:3])}{more}")
    floats = OrderedDict((k, v.float() if v.is_floating_point() else v) for k, v in state.items())
    # The shapes are this version's, so the keys are: modules that ask for theirs may be told so.
    floats._metadata = expected._metadata  # type: ignore[attr-defined]
    module.load_state_dict(floats, assign=True)


def implied(
    module: nn.Module, state: Mapping[str, Tensor], spec: ModelSpec | None = None
) -> dict[str, int]:
    """Arguments by which a network follows its weights: number of classes, size of the input."""
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


def classifier(module: nn.Module) -> tuple[str, Tensor]:
    """Path and weight of the last linear map, whose rows are the classes."""
    return [
        (path, part.weight)
        for path, part in module.named_modules()
        if isinstance(part, nn.Linear | nn.Conv2d)
    ][-1]


def _built(name: str, size: int | None, **arguments: Any) -> nn.Module:
    spec = spec_named(name) or ModelSpec("")
    held = {"image_size": size} if size and spec.positions else {}
    module: nn.Module = zoo.get_model(name, **{**spec.build, **held, **arguments})
    return module


def _differences(expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> list[str]:
    shapes = [
        f"{key} is {_kind(given[key])}, expected {_kind(value)}"
        for key, value in expected.items()
        if key in given and _kind(given[key]) != _kind(value)
    ]
    missing = [f"no {key} {tuple(v.shape)}" for key, v in expected.items() if key not in given]
    return shapes + missing + [f"unexpected {key}" for key in given if key not in expected]


def _kind(value: Tensor) -> str:
    return f"{tuple(value.shape)}{'' if value.is_floating_point() else ' of whole numbers'}"
