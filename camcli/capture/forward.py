"""One forward pass, watched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from camcli.capture import perturbed
from camcli.capture.evidence import Aim, Evidence, Site
from camcli.capture.guided import GuidedReLU
from camcli.capture.hooks import Tap, tapped
from camcli.capture.perturbed import copied
from camcli.capture.readers import Reader, Reading
from camcli.capture.targets import Target, logits
from camcli.capture.windows import Window
from camcli.models.head import Head
from camcli.models.layouts import PLAIN, Layout


@dataclass(frozen=True)
class Watch:
    """What to watch in a forward pass: the layers' paths, and whether the input's gradient too.

    `layouts` describe the layers whose output is not (N,C,h,w). `grey` is the mean colour in the
    input's units, 0 where preprocessing has subtracted it.
    """

    module: nn.Module
    layers: tuple[str, ...] = ()
    head: Head | None = None
    guided: bool = False
    window: Window = field(default_factory=Window)
    reader: Reader = field(default_factory=Reader)
    grey: tuple[float, ...] = (0.0,)
    layouts: Mapping[str, Layout] = field(default_factory=dict)


class Pass:
    """One watched forward pass over a batch, and what it shows of each target.

    `aims` are the targets and `sites` the layers. `at_layers` holds for each target its evidence at
    each layer, `apart` likewise the one that is not taken at a layer.

    `inputs` are the model's positional arguments; the first image batch (N,C,H,W) among them is
    the one that Guided Backpropagation differentiates, and occlusion and Score-CAM cover. Use it
    inside `borrowed(module)`, and `close` it: a pass and its evidence know each other, and would
    keep their graph until the garbage collector finds them.
    """

    def __init__(self, watch: Watch, inputs: tuple[Any, ...], targets: Sequence[Target]) -> None:
        self.watch = watch
        self.inputs = tuple(_own(x) if isinstance(x, Tensor) else x for x in inputs)
        self.rule = GuidedReLU()
        self.taps: list[Tap] = []
        if watch.guided:
            self.image.requires_grad_()
        self.output = self._forward()
        self.reading = watch.reader(self.output)
        self.sites = [Site(self, tap) for tap in self.taps]
        self.aims = [Aim(self, target) for target in targets]
        self.apart = [[Evidence(aim, None)] for aim in self.aims]
        self.at_layers = [[Evidence(aim, site) for site in self.sites] for aim in self.aims]

    def close(self) -> None:
        """Let go of the evidence, and with it of the graph."""
        for held in (self.aims, self.sites, self.apart, self.at_layers):
            held.clear()

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

    @property
    def probabilities(self) -> Tensor:
        """Those of all classes (N,K), by softmax unless the reading has its own."""
        if isinstance(self.reading, Reading):
            return self.reading.probabilities.detach()
        return logits(self.reading).detach().softmax(1)

    @cached_property
    def covering(self) -> tuple[Tensor, Tensor]:
        """Rows and columns that the window covers, as 0 and 1 in the image's type."""
        rows, columns = self.watch.window.covering(*self.image.shape[2:])
        return rows.to(self.image), columns.to(self.image)

    @cached_property
    def occluded(self) -> Tensor:
        """Scores with the window at each position, (T,N,r,c) for T targets."""
        return perturbed.occluded(self)

    def output_of(self, images: Tensor, which: Tensor, *_: Tensor) -> Any:
        """The model's output for other images, each in the place of image `which` of the batch."""
        arguments = [
            x[which] if isinstance(x, Tensor) and x.ndim and len(x) == self.size else x
            for x in _replaced(self.inputs, self._position, None)
        ]
        images = images.contiguous(memory_format=_format_of(self.image))
        return self.watch.module(*_replaced(arguments, self._position, images))

    @cached_property
    def _position(self) -> int:
        return _image_position(self.inputs)

    def _forward(self) -> Any:
        watch = self.watch
        with ExitStack() as stack:
            self.taps = [
                stack.enter_context(tapped(watch.module, path, watch.layouts.get(path, PLAIN)))
                for path in watch.layers
            ]
            if watch.guided:
                stack.enter_context(self.rule)
            output = watch.module(*copied(self.inputs))
        if watch.guided:
            self.rule.check()
        return output


def _own(x: Tensor) -> Tensor:
    """The same values without the caller's graph; a tensor of inference mode has to be copied."""
    return x.clone() if x.is_inference() else x.detach()


def _image_position(inputs: Sequence[Any]) -> int:
    for position, x in enumerate(inputs):
        if isinstance(x, Tensor) and x.ndim == 4 and x.is_floating_point():
            return position
    shapes = [tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__ for x in inputs]
    raise ValueError(f"no image batch (N,C,H,W) of a floating type among the inputs: {shapes}")


def _replaced(inputs: Sequence[Any], position: int, value: Tensor | None) -> tuple[Any, ...]:
    return (*inputs[:position], value, *inputs[position + 1 :])


def _format_of(image: Tensor) -> torch.memory_format:
    channels_last = image.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if channels_last else torch.contiguous_format
