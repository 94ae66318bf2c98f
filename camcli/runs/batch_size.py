"""How many images are run at once: fewer, for the rest of a run, once memory was short."""

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
"""What allocators without an error of their own say, those of MPS and of the processor."""


class Allowance(Generic[Item]):
    """The size that batches may have, halved whenever one was too large for the memory."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.waiting: deque[list[Item]] = deque()

    def split(self, batches: Iterable[list[Item]]) -> Iterator[list[Item]]:
        """The batches in pieces that are allowed, in order, and those again that `halved` took."""
        self.waiting.extend(batches)
        while self.waiting:
            batch = self.waiting.popleft()
            if rest := batch[self.size :]:
                self.waiting.appendleft(rest)
            yield batch[: self.size]

    def of(self, window: Window) -> Window:
        """The window, run at no more places at once."""
        return replace(window, batch_size=min(window.batch_size, self.size))

    def halved(self, error: Exception, batch: list[Item], windows: int) -> bool:
        """Whether a batch that failed is to be tried again in halves, which are the rule then.

        `windows` is how many changed images are run at once even for one image. Not if memory was
        not what failed, or there is nothing to halve. Warns of what it does.
        """
        size = min(self.size, max(len(batch), windows))
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
    """Whether torch failed for want of memory, on any device."""
    said = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or any(words in said for words in _SHORT)
