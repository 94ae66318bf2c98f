"""The stage that explain and evaluate share: read ahead, batch by shape, retry in smaller batches.

Both read images in threads, `InputOptions.batch_size` at a time, run the images of one shape
together, and halve the batch size for the rest of a run when memory is short.
"""

from __future__ import annotations

import itertools
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from camcli.capture.windows import Window
from camcli.errors import CamcliWarning, ImageError, without_frames
from camcli.images.decode import Picture, read
from camcli.images.geometry import Crop
from camcli.images.memory import Budget
from camcli.images.preprocess import preprocess
from camcli.images.store import AnyPath
from camcli.models.model import Model
from camcli.runs.ahead import In, Out
from camcli.runs.options import InputOptions

REFUSALS = (RuntimeError, AssertionError, ValueError)
"""What a network raises for a batch: no memory, or an input of a size that it cannot take.

The networks of transformers raise ValueError for the second.
"""
_NO_MEMORY = ("out of memory", "not enough memory", "can't allocate memory", "defaultcpuallocator")
"""Messages of the allocators of MPS and the CPU, which raise no error type of their own."""


class HasInput(Protocol):
    """An image that was read, with the network's input (3,h,w)."""

    @property
    def input(self) -> Tensor: ...


Item = TypeVar("Item", bound=HasInput)


def read_image(
    path: AnyPath, model: Model, options: InputOptions, budget: Budget | None = None
) -> tuple[Picture, Tensor, Crop]:
    """Return an image, the model's input (3,h,w) made of it, and the part that it shows.

    `budget` limits the memory of the images that are read at the same time. Raises ImageError.
    """
    picture = read(path, options.reading, model.preset.channels, budget)
    try:
        return picture, *preprocess(picture.bands, model.preset, options.fit)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from None


def windows_of(items: Iterable[In], size: int) -> Iterator[list[In]]:
    """Yield lists of `size` items. The same list of images thus always has the same batches."""
    stream = iter(items)
    return iter(lambda: list(itertools.islice(stream, size)), [])


def by_shape(items: Iterable[Item]) -> list[list[Item]]:
    """Return the items in batches of one input shape."""
    shapes: dict[torch.Size, list[Item]] = {}
    for item in items:
        shapes.setdefault(item.input.shape, []).append(item)
    return list(shapes.values())


def stacked(batch: Sequence[HasInput], model: Model) -> Tensor:
    """Return the inputs of a batch as (N,3,h,w), on the model's device and in its precision."""
    inputs = torch.stack([item.input for item in batch])
    return inputs.to(model.device, model.dtype, memory_format=torch.channels_last)


class BatchLimit(Generic[In]):
    """The largest batch size allowed, which is halved when memory is short."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.waiting: deque[list[In]] = deque()

    def split(self, batches: Iterable[list[In]]) -> Iterator[list[In]]:
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

    def halve(self, error: Exception, batch: list[In], reruns: int) -> bool:
        """Halve the limit and put a failed batch back, if memory was short. Return whether it was.

        `reruns` is the number of changed images that run at once for each image. Return False for
        another error, or if the limit is 1. Warns of the new size.
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
    return isinstance(error, torch.OutOfMemoryError) or any(
        words in message for words in _NO_MEMORY
    )


def run_batches(
    batches: Iterable[list[In]],
    limit: BatchLimit[In],
    run: Callable[[list[In]], Out],
    reruns: Callable[[], int] = lambda: 1,
) -> Iterator[tuple[list[In], Out | Exception]]:
    """Run batches within a limit, and yield each with its result or with the error that it raised.

    A batch for which memory is short is run again in halves. `reruns` gives the number of changed
    images that run at once for each image.
    """
    for batch in limit.split(batches):
        try:
            found: Any = run(batch)
        except REFUSALS as error:
            if limit.halve(error, batch, reruns()):
                continue
            found = without_frames(error)
        yield batch, found
