"""One forward pass with taps on its layers."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from camcli.capture.endings import last_values, rerun_ended
from camcli.capture.guided import GuidedReLU
from camcli.capture.hooks import Tap, cloned, tapped
from camcli.capture.libra import balanced, check_balanced
from camcli.capture.readers import Reader
from camcli.capture.targets import ClassTarget, logits, ranking_of
from camcli.capture.windows import Window
from camcli.images.geometry import Centres
from camcli.methods.backward import LIBRA
from camcli.methods.backward import PLAIN as PLAIN_BACKWARD
from camcli.models.head import Head
from camcli.models.layouts import PLAIN, Layout
from camcli.speed import cached_property


@dataclass(frozen=True)
class Watch:
    """The layers, gradients and outputs to watch in a forward pass.

    `layers` are the paths of the layers to tap, and `layouts` describe those whose output is not
    (N,C,h,w). `guided` watches the gradient at the input under the guided ReLU rule. `backward` is
    a name in BACKWARDS. `window` is the square of the occlusion method, and `grey` its colour in
    the input's units: the mean colour, which is 0 where preprocessing has subtracted it. `reader`
    reads the output. `centres` are those of the layers' cells in input pixels, where they are
    known.
    """

    module: nn.Module
    layers: tuple[str, ...] = ()
    head: Head | None = None
    guided: bool = False
    backward: str = PLAIN_BACKWARD
    window: Window = field(default_factory=Window)
    reader: Reader = field(default_factory=Reader)
    grey: tuple[float, ...] = (0.0,)
    layouts: Mapping[str, Layout] = field(default_factory=dict)
    centres: Mapping[str, Centres | None] = field(default_factory=dict)


class Pass:
    """One watched forward pass over a batch: its `taps`, and its `output` with its `reading`.

    The output is Ended for a network that ends in a softmax or sigmoid.

    `inputs` are the model's positional arguments. The first image batch (N,C,H,W) among them is the
    `image` that Guided Backpropagation differentiates and that occlusion and Score-CAM change. Use
    a pass inside `borrowed(module)`.
    """

    def __init__(self, watch: Watch, inputs: tuple[Any, ...]) -> None:
        self.watch = watch
        self.inputs = tuple(_detached(x) if isinstance(x, Tensor) else x for x in inputs)
        self.taps: list[Tap] = []
        if watch.guided:
            self.image.requires_grad_()
        self.output = watch.reader.run(watch.module, self._forward)
        for tap in self.taps:
            tap.check(self.size)
        if watch.guided:
            self.rule.check(last_values(self.output))
        if watch.backward == LIBRA:
            check_balanced(last_values(self.output))

    @property
    def size(self) -> int:
        """The number of images, N."""
        return next(len(x) for x in self.inputs if isinstance(x, Tensor) and x.ndim)

    @property
    def image(self) -> Tensor:
        """The image batch among the inputs, (N,C,H,W)."""
        image = self.inputs[self._position]
        assert isinstance(image, Tensor)
        return image

    @cached_property
    def reading(self) -> Any:
        """The output as the watch's reader reads it, once a target asks for it."""
        return self.watch.reader(self.output)

    @cached_property
    def probabilities(self) -> Tensor | None:
        """The probabilities of all classes (N,K); None if the network gives values, not classes.

        Raises TargetError for an output without class scores.
        """
        logits(self.reading)
        found: Tensor | None = self.reading.probabilities
        return None if found is None else found.detach()

    @property
    def ranking(self) -> Tensor:
        """Numbers (N,K) that are highest for the best class of each image."""
        return ranking_of(self.reading)

    @cached_property
    def confidence(self) -> Tensor | None:
        """The probability of the best class, (N,); None if there are no probabilities."""
        if self.probabilities is None:
            return None
        (best,) = ClassTarget("pred").resolve(self.reading)
        return self.probabilities.gather(1, best.indices)[:, 0]

    @cached_property
    def coverage(self) -> tuple[Tensor, Tensor]:
        """The rows (r,H) and columns (c,W) under the window at each position, as 0 and 1."""
        rows, columns = self.watch.window.covering(*self.image.shape[2:])
        return rows.to(self.image), columns.to(self.image)

    def output_of(self, images: Tensor, which: Tensor, *_: Tensor) -> Any:
        """Return the output for `images`, each in the place of image `which` of the batch."""
        if self.image.is_contiguous(memory_format=torch.channels_last):
            images = images.contiguous(memory_format=torch.channels_last)
        else:
            images = images.contiguous()
        arguments: list[Any] = [*self.inputs]
        for position, x in enumerate(self.inputs):
            if position == self._position:
                arguments[position] = images
            elif isinstance(x, Tensor) and x.ndim and len(x) == self.size:
                arguments[position] = x[which]
        return self.run(*arguments)

    def run(self, *arguments: Any) -> Any:
        """Return the network's output for other arguments, in the form of `output`."""
        watch = self.watch
        return rerun_ended(self.output, lambda: watch.module(*arguments), watch.reader.values_in)

    @cached_property
    def _position(self) -> int:
        for position, x in enumerate(self.inputs):
            if isinstance(x, Tensor) and x.ndim == 4 and x.is_floating_point():
                return position
        given = [tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__ for x in self.inputs]
        raise ValueError(f"no image batch (N,C,H,W) of a floating type among the inputs: {given}")

    def _forward(self) -> Any:
        watch, self.rule = self.watch, GuidedReLU()
        with ExitStack() as stack:
            self.taps = [
                stack.enter_context(tapped(watch.module, path, watch.layouts.get(path, PLAIN)))
                for path in watch.layers
            ]
            if watch.guided:
                stack.enter_context(self.rule)
            if watch.backward == LIBRA:
                stack.enter_context(balanced())
            return watch.module(*cloned(self.inputs))


def _detached(x: Tensor) -> Tensor:
    """Return a tensor without the caller's graph. A tensor of inference mode has to be copied."""
    return x.clone() if x.is_inference() else x.detach()
