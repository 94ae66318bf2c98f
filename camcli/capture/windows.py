"""The occluding window and its positions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from camcli.errors import MethodError


def ignored(_: int) -> None:
    """Take no note of the inputs that have passed through the network."""


@dataclass(frozen=True)
class Window:
    """The square that occlusion slides over the image, in input pixels.

    `size` None is a seventh of the shorter side, and `stride` None half of the size. `batch_size`
    is the number of covered images that run at once. `passed` is called with the number of these
    after each forward pass.
    """

    size: int | None = None
    stride: int | None = None
    batch_size: int = 16
    passed: Callable[[int], None] = field(default=ignored, compare=False, repr=False)

    def covering(self, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Return which rows (r,H) and columns (c,W) the window covers at each position, as bool.

        The last position reaches beyond the edge where the stride does not divide the side, so that
        every pixel is covered. Raises MethodError for a window that leaves gaps or does not fit.
        """
        size = max(1, min(height, width) // 7) if self.size is None else self.size
        stride = max(1, size // 2) if self.stride is None else self.stride
        if not 1 <= stride <= size <= min(height, width):
            raise MethodError(
                f"occlusion window {size}, stride {stride}: expected 1 <= stride <= window <= "
                f"{min(height, width)}, the input's shorter side"
            )
        rows, columns = (_covered(length, size, stride) for length in (height, width))
        return rows, columns


def _covered(length: int, size: int, stride: int) -> Tensor:
    """Return which of `length` pixels each position of the window covers, (positions, length)."""
    positions = -(-(length - size) // stride) + 1
    offset = torch.arange(length) - stride * torch.arange(positions)[:, None]
    return (offset >= 0) & (offset < size)
