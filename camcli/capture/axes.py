"""Follow the axes of tensors through a forward pass, operation by operation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from camcli.capture.axis_rules import Step, find_rule
from camcli.models.atoms import Line
from camcli.models.axes import Axes, Axis, channels, places


class AxisTracer(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows the axes of all tensors that are computed from images inside.

    A tensor is recognised by its storage, since views are other objects inside than outside. Weak
    references keep a storage's address from being used twice, and let go of its memory.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Return False. Otherwise torch imports its compiler, which takes as long as torch."""
        return False

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._axes: dict[object, Axes] = {}
        self._kept: list[object] = []

    def follow(self, image: Tensor) -> None:
        """Follow an image (1,C,H,W)."""
        height, width = image.shape[2:]
        pixels = Line(0.5, 1)
        sides = places("y", height, pixels), places("x", width, pixels)
        self._note(image, (Axis(), channels(image.shape[1]), *sides))

    def axes_of(self, x: Tensor) -> Axes | None:
        """Return the axes of a tensor; None if it was not computed from the image."""
        return self._axes.get(_memory(x))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        results = [x for x in tree_leaves(found) if isinstance(x, Tensor)]
        if results and any(self.axes_of(x) for x in given):
            name = func._schema.name.partition("::")[2].strip("_")
            step = Step(name, args, kwargs or {}, given, results, self._axes_or_channels)
            for x, axes in zip(results, find_rule(name)(step), strict=False):
                self._note(x, axes)
        return found

    def _axes_or_channels(self, x: Tensor) -> Axes:
        return self.axes_of(x) or tuple(map(channels, x.shape))

    def _note(self, x: Tensor, axes: Axes) -> None:
        assert len(axes) == x.ndim, axes
        self._axes[_memory(x)] = axes
        dense = x.layout is torch.strided
        self._kept.append(StorageWeakRef(x.untyped_storage()) if dense else x)  # type: ignore[no-untyped-call]


def _memory(x: Tensor) -> object:
    """Return what tells a tensor from all others that are kept."""
    if x.layout is not torch.strided:
        return id(x)
    strides = tuple(step if size > 1 else 0 for size, step in zip(x.shape, x.stride(), strict=True))
    return x.untyped_storage()._cdata, x.storage_offset(), tuple(x.shape), strides
