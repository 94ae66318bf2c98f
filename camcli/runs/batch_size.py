"""The number of images that run at once: halved for the rest of a run when memory is short."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Generic, TypeVar

import torch

from camcli.capture.windows import Window
from camcli.errors import CamcliWarning

Item = TypeVar("Item")

_SHORT = ("out of memory", "not enough memory", "can't allocate memory", "defaultcpuallocator")
"""What the allocators of MPS and of the CPU say, which raise no error type of their own."""


class BatchLimit(Generic[Item]):
    """The largest batch size allowed, which shrinks when a batch was too large for the memory."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.waiting: deque[list[Item]] = deque()

    def split(self, batches: Iterable[list[Item]]) -> Iterator[list[Item]]:
        """Yield the batches in order, in pieces of the allowed size, and again those that `halve`
        put back."""
        self.waiting.extend(batches)
        while self.waiting:
            batch = self.waiting.popleft()
            if rest := batch[self.size :]:
                self.waiting.appendleft(rest)
            yield batch[: self.size]

    def limited(self, window: Window) -> Window:
        """Return the window with its batch size within the limit."""
        return replace(window, batch_size=min(window.batch_size, self.size))

    def halve(self, error: Exception, batch: list[Item], reruns: int) -> bool:
        """Halve the limit and put a failed batch back, if memory was short. Return whether it was.

        `reruns` is the number of changed images that run at once for each image. Return False for
        another error, or where there is nothing left to halve. Warns of the new size.
        """
        size = min(self.size, max(len(batch), reruns))
        if size == 1 or not is_out_of_memory(error):
            return False
        self.size = size // 2
        self.waiting.appendleft(batch)
        warnings.warn(
            f"out of memory with {size} images at once: going on with {self.size}",
            CamcliWarning,
            stacklevel=2,
        )
        return True


def is_out_of_memory(error: Exception) -> bool:
    """Return whether torch failed for lack of memory, on any device."""
    message = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or any(words in message for words in _SHORT)
