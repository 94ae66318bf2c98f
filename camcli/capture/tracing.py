"""What each module of a network does in a forward pass, for finding layer and head."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from camcli.capture.perturbed import copied


@dataclass(frozen=True)
class Call:
    """One module's run in a traced forward pass, for the first image.

    `mean` and `rectified_mean` are of the output over space (C,), `given` is of a linear module's
    input, likewise.
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
    """Every module of one forward pass over the first image, in the order they end, and the output.

    Modules that run more than once are left out: no hook can tell which run was meant.
    """
    calls: list[Call] = []
    runs: Counter[str] = Counter()

    def note(path: str) -> Callable[..., None]:
        def hook(part: nn.Module, args: Any, kwargs: dict[str, Any], output: object) -> None:
            runs[path] += 1
            if not isinstance(output, Tensor) or output.ndim not in (2, 3, 4):
                return
            if not output.is_floating_point():
                return
            flat = _flat(output)
            spatial = output.ndim == 4 and flat.shape[1] > 1
            linear = isinstance(part, nn.Linear | nn.Conv2d)
            given = _flat(args[0] if args else kwargs["input"]).mean(1) if linear else None
            means = flat.mean(1), flat.relu().mean(1)
            calls.append(Call(path, part, output, spatial, *means, given))

        return hook

    handles = [
        part.register_forward_hook(note(path), with_kwargs=True)
        for path, part in module.named_modules()
        if path
    ]
    try:
        first = [x[:1] if isinstance(x, Tensor) and x.ndim else x for x in inputs]
        output = module(*copied(first))
    finally:
        for handle in handles:
            handle.remove()
    return [call for call in calls if runs[call.path] == 1], output


def _flat(x: Tensor) -> Tensor:
    """The first image of (N,C), (N,T,C) or (N,C,h,w) as (C, positions); tokens as they come."""
    return x[0].flatten(1) if x.ndim > 2 else x[0][:, None]
