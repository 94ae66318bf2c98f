"""Trace a forward pass: what each module of a network does in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from camcli.capture.hooks import borrowed, cloned
from camcli.models.families import layout_of

Note: TypeAlias = Callable[[str, nn.Module, Any, Any], None]
"""Called after each module's run with its path, the module, its first argument and its output."""


@dataclass(frozen=True)
class Call:
    """One module's run in a traced forward pass, for the first image.

    `mean` (C,) and `rectified_mean` (C,) average the output and its positive part over space.
    `given` (C,) averages the input of a linear map over space, and is None for other modules.
    """

    path: str
    module: nn.Module
    output: Tensor
    spatial: bool
    mean: Tensor
    rectified_mean: Tensor
    given: Tensor | None


@torch.no_grad()
def trace(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[list[Call], Any]:
    """Run the first image through a network, and return the calls of its modules and its output.

    Calls are in the order in which modules finish. Modules that run more than once are left out,
    since a hook cannot tell which run was meant.
    """
    calls: list[Call] = []
    runs: Counter[str] = Counter()

    def note(path: str, part: nn.Module, given: Any, output: Any) -> None:
        runs[path] += 1
        if not isinstance(output, Tensor) or output.ndim not in (2, 3, 4):
            return
        if not output.is_floating_point():
            return
        flat = _flat(output)
        spatial = output.ndim == 4 and flat.shape[1] > 1
        linear = isinstance(part, nn.Linear | nn.Conv2d)
        means = flat.mean(1), flat.relu().mean(1)
        mean_given = _flat(given).mean(1) if linear else None
        calls.append(Call(path, part, output, spatial, *means, mean_given))

    with _noted(module, note):
        first = [x[:1] if isinstance(x, Tensor) and x.ndim else x for x in inputs]
        output = module(*cloned(first))
    return [call for call in calls if runs[call.path] == 1], output


def map_shapes(module: nn.Module, run: Callable[[], object]) -> dict[str, tuple[int, int, int]]:
    """Return the shape (C,h,w) of each layer that gives a map when `run` calls the network.

    Layers are in the order in which they run. Those that run more than once, or whose map has one
    cell, are left out.
    """
    shapes: dict[str, tuple[int, int, int]] = {}
    runs: Counter[str] = Counter()

    def note(path: str, _part: nn.Module, _given: Any, output: Any) -> None:
        runs[path] += 1
        layout = layout_of(module, path)
        if isinstance(output, Tensor) and output.ndim == layout.ndim:
            channels, height, width = layout.to_map(output).shape[1:]
            shapes[path] = channels, height, width

    with _noted(module, note), borrowed(module):
        run()
    return {
        path: shape for path, shape in shapes.items() if runs[path] == 1 and shape[1] * shape[2] > 1
    }


@contextmanager
def _noted(module: nn.Module, note: Note) -> Iterator[None]:
    """Call `note` after each run of each part of a network inside."""

    def hook_of(path: str) -> Callable[..., None]:
        def hook(part: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
            note(path, part, args[0] if args else kwargs.get("input"), output)

        return hook

    handles = [
        part.register_forward_hook(hook_of(path), with_kwargs=True)
        for path, part in module.named_modules()
        if path
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _flat(x: Tensor) -> Tensor:
    """Return the first image of (N,C), (N,T,C) or (N,C,h,w) as (C, positions)."""
    return x[0].flatten(1) if x.ndim > 2 else x[0][:, None]
