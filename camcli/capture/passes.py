"""One forward pass, watched, and the evidence that methods may ask it for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from camcli.capture.guided import GuidedReLU
from camcli.capture.hooks import Tap, gradient, tapped
from camcli.capture.windows import Window
from camcli.errors import MethodError
from camcli.grids import PLAIN, Grid
from camcli.targets import Target, logits


@dataclass(frozen=True)
class Head:
    """The last linear map of a network whose score is the mean of a class map.

    `linear` is an `nn.Linear` behind the pooling or a 1x1 `nn.Conv2d` before it; `rectified` says
    that a ReLU without a module of its own stands between the target layer and the pooling.
    """

    linear: nn.Module
    rectified: bool = False


@dataclass(frozen=True)
class Watch:
    """What to watch in a forward pass: the layer's path, and whether the input's gradient too.

    `grid` is the layout of the layer's output.
    """

    module: nn.Module
    layer: str | None
    head: Head | None = None
    guided: bool = False
    window: Window = field(default_factory=Window)
    grid: Grid = PLAIN


class Pass:
    """One watched forward pass over a batch; `evidence` holds what it shows for each target.

    `inputs` are the model's positional arguments; the first image batch (N,C,H,W) among them is
    the one that Guided Backpropagation differentiates and occlusion covers. Use it inside
    `borrowed(module)`, and `close` it: a pass and its evidence know each other, and would keep
    their graph until the garbage collector finds them.
    """

    def __init__(self, watch: Watch, inputs: tuple[Any, ...], targets: Sequence[Target]) -> None:
        self.watch = watch
        self.inputs = tuple(_own(x) if isinstance(x, Tensor) else x for x in inputs)
        self.rule = GuidedReLU()
        self.tap: Tap | None = None
        if watch.guided:
            self.image.requires_grad_()
        self.output = self._forward()
        self.evidence = [Evidence(self, target) for target in targets]

    def close(self) -> None:
        """Let go of the evidence, and with it of the graph."""
        self.evidence.clear()

    @cached_property
    def position(self) -> int:
        """Which of the inputs is the image batch."""
        return _image_position(self.inputs)

    @property
    def image(self) -> Tensor:
        """The image batch among the inputs, (N,C,H,W)."""
        image = self.inputs[self.position]
        assert isinstance(image, Tensor)
        return image

    def _forward(self) -> Any:
        watch = self.watch
        if not watch.guided:
            with self._tapped():
                return watch.module(*copied(self.inputs))
        with self._tapped(), self.rule:
            output = watch.module(*copied(self.inputs))
        self.rule.check()
        return output

    @contextmanager
    def _tapped(self) -> Iterator[None]:
        if self.watch.layer is None:
            yield
            return
        with tapped(self.watch.module, self.watch.layer, self.watch.grid) as self.tap:
            yield

    @cached_property
    def covering(self) -> tuple[Tensor, Tensor]:
        """Rows and columns that the window covers, as 0 and 1 in the image's type."""
        rows, columns = self.watch.window.covering(*self.image.shape[2:])
        return rows.to(self.image), columns.to(self.image)

    @cached_property
    @torch.no_grad()
    def occluded(self) -> Tensor:
        """Scores with the window at each position, for all targets of one set of forwards.

        (T,N,r,c) for T targets. The windows of all images are queued and run in batches.
        """
        rows, columns = self.covering
        image = self.image.detach()
        shape = (len(image), len(rows), len(columns))
        queue = torch.cartesian_prod(*(torch.arange(n, device=image.device) for n in shape))
        scores = [
            self._scores_occluded(image, *chunk.unbind(1))
            for chunk in torch.split(queue, max(self.watch.window.batch_size, len(image)))
        ]
        return torch.cat(scores, dim=1).view(-1, *shape)

    def _scores_occluded(self, image: Tensor, which: Tensor, row: Tensor, column: Tensor) -> Tensor:
        rows, columns = self.covering
        seen = 1 - rows[row, None, :, None] * columns[column, None, None, :]
        # Grey is 0: the mean colour that the preprocessing subtracted.
        covered = (image[which] * seen).contiguous(memory_format=_format_of(image))
        arguments = [
            x[which] if isinstance(x, Tensor) and x.ndim and len(x) == len(image) else x
            for x in _replaced(self.inputs, self.position, None)
        ]
        output = self.watch.module(*_replaced(arguments, self.position, covered))
        return torch.stack([shown.scores_of(output, which) for shown in self.evidence])


class Evidence:
    """What the methods may ask for, by the names in `methods.EVIDENCE`, for one target of a pass.

    Each is computed when first asked for and then kept, so that methods share what they need.
    """

    def __init__(self, run: Pass, target: Target) -> None:
        self.run = run
        self.target = target
        self.classes = target.classes(run.output)
        self.live_score = target.score(run.output, self.classes)
        if len(self.live_score) != (images := _batch_size(run.inputs)):
            raise TypeError(
                f"target '{target.spec}' gives {len(self.live_score)} scores for {images} images"
            )

    def scores_of(self, output: Any, which: Tensor) -> Tensor:
        """The target's scores in another output, whose rows are images `which` of the pass."""
        return self.target.score(output, None if self.classes is None else self.classes[which])

    @property
    def score(self) -> Tensor:
        return self.live_score.detach()

    @property
    def probability(self) -> Tensor | None:
        """Softmax of the score among the classes (N,); None where a function gives the score."""
        if self.classes is None:
            return None
        every = logits(self.run.output).detach().softmax(1)
        return every.gather(1, self.classes[:, None])[:, 0]

    @property
    def acts(self) -> Tensor:
        return self._tapped.detach()

    @cached_property
    def grads(self) -> Tensor:
        assert self.run.tap is not None
        return self.run.tap.gradient(self.live_score)

    @property
    def pooled(self) -> Tensor:
        return self.acts.relu() if self._head.rectified else self.acts

    @property
    def weights(self) -> Tensor:
        return self._of_class("weight").flatten(1)

    @property
    def bias(self) -> Tensor:
        bias = self._head.linear.bias if isinstance(self._head.linear, nn.Conv2d) else None
        return torch.zeros_like(self.score) if bias is None else self._of_class("bias")

    @cached_property
    def guided(self) -> Tensor:
        self.run.rule.active = True
        try:
            return gradient(self.live_score, self.run.image, "the input image")
        finally:
            self.run.rule.active = False

    @property
    def occluded(self) -> Tensor:
        return self.run.occluded[self.run.evidence.index(self)]

    @property
    def rows(self) -> Tensor:
        return self.run.covering[0]

    @property
    def columns(self) -> Tensor:
        return self.run.covering[1]

    @property
    def _tapped(self) -> Tensor:
        assert self.run.tap is not None
        assert self.run.tap.acts is not None
        return self.run.tap.acts

    @property
    def _head(self) -> Head:
        assert self.run.watch.head is not None
        return self.run.watch.head

    def _of_class(self, name: str) -> Tensor:
        if self.classes is None:
            raise MethodError("cam explains a class, not a function: use gradcam")
        parameter = getattr(self._head.linear, name)
        assert isinstance(parameter, Tensor)
        return parameter.detach()[self.classes]


def _batch_size(inputs: Sequence[Any]) -> int:
    return next(len(x) for x in inputs if isinstance(x, Tensor) and x.ndim)


def _own(x: Tensor) -> Tensor:
    """The same values without the caller's graph; a tensor of inference mode has to be copied."""
    return x.clone() if x.is_inference() else x.detach()


def copied(inputs: Sequence[Any]) -> tuple[Any, ...]:
    """The arguments for one run of a model, which may work on them in place."""
    return tuple(x.clone() if isinstance(x, Tensor) else x for x in inputs)


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
