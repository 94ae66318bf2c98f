"""Watching a forward pass: the only file with hooks and autograd.

At the target layer a forward hook replaces the output by a detached leaf and hands a clone on (so
that an in-place ReLU behind it cannot damage it). The trunk therefore builds no graph, and a
backward pass covers only the head: K targets cost K passes over the head and one over the trunk.
Only Guided Backpropagation needs a graph through the trunk, and then the same forward pass serves
for the plain and for the guided gradients.

Whatever is changed on a caller's model (mode, requires_grad, hooks) is put back on leaving, after
an exception too; `.grad` is never written.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from camcli.errors import CamcliWarning, MethodError, ModelError
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
class Window:
    """The occluding square, in input pixels. None: a seventh of the shorter side, half of that."""

    size: int | None = None
    stride: int | None = None
    batch_size: int = 16

    def covering(self, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Which rows (r,H) and columns (c,W) the window covers at each of its positions.

        The last position overhangs the edge where the stride does not divide, so that every
        pixel is covered. Raises MethodError for a window that leaves gaps or does not fit.
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
    positions = -(-(length - size) // stride) + 1
    offset = torch.arange(length) - stride * torch.arange(positions)[:, None]
    return (offset >= 0) & (offset < size)


@contextmanager
def borrowed(module: nn.Module) -> Iterator[None]:
    """A caller's model in evaluation mode, parameters frozen, gradients enabled; restored after."""
    modes = [(part, part.training) for part in module.modules()]
    frozen = [p for p in module.parameters() if p.requires_grad and not p.is_inference()]
    try:
        for part, _ in modes:
            part.training = False
        for parameter in frozen:
            parameter.requires_grad_(False)
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        for part, training in modes:
            part.training = training
        for parameter in frozen:
            parameter.requires_grad_(True)


class Tap:
    """Takes the activations of one layer out of a forward pass.

    A layer that no graph leads to, as in every pass but a guided one, becomes a leaf.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.acts: Tensor | None = None

    def __call__(self, _layer: nn.Module, _args: object, output: object) -> Tensor:
        if self.acts is not None:
            raise ModelError(f"layer '{self.path}' runs more than once: choose one that runs once")
        if not isinstance(output, Tensor) or output.ndim != 4:
            given = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise ModelError(f"layer '{self.path}' gives {given}, not a feature map (N,C,h,w)")
        self.acts = output if output.requires_grad else output.detach().requires_grad_()
        with torch.enable_grad():  # a trunk that runs without gradients has one head to reach yet
            return self.acts.clone()


@contextmanager
def tapped(module: nn.Module, layer: str) -> Iterator[Tap]:
    """A tap on `layer` for one forward pass inside; `acts` (N,C,h,w) hold its output after it.

    Of a network whose parameters are trained `acts` stay part of the graph, so that what is made
    of them can be trained on; of a borrowed one they are a leaf. Raises ModelError.
    """
    tap = Tap(layer)
    handle = module.get_submodule(layer).register_forward_hook(tap)
    try:
        yield tap
    finally:
        handle.remove()
    if tap.acts is None:
        raise ModelError(f"layer '{layer}' does not run in the forward pass")


def gradient(score: Tensor, acts: Tensor, *, differentiable: bool) -> Tensor:
    """The gradient of each image's score (N,) at `acts` (N,C,h,w), in the shape of `acts`.

    `differentiable` makes it part of the graph, for a loss on an explanation (second order). Where
    a normalisation in training mode lies between the two, the images of a batch are not quite
    independent, and neither are their gradients. Raises ModelError.
    """
    (found,) = torch.autograd.grad(
        score.sum(), acts, retain_graph=True, create_graph=differentiable, allow_unused=True
    )
    if found is None:
        raise ModelError("the layer has no path to the score: choose one before the head")
    return found


class GuidedReLU(TorchFunctionMode):
    """Puts the guided rule on every ReLU of a forward pass, as module, function or in place.

    While `active`, a backward pass lets only positive gradients into a ReLU from above; the ReLU's
    own derivative does the rest. ReLU6 is a ReLU too: its derivative is zero above 6. `relus` and
    `others` count the activation functions that ran.
    """

    OTHERS = frozenset(
        {
            *("celu", "elu", "gelu", "glu", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu"),
            *("logsigmoid", "mish", "prelu", "rrelu", "selu", "sigmoid", "silu", "softplus"),
            *("softsign", "tanh"),
        }
    )

    def __init__(self) -> None:
        super().__init__()
        self.active = False
        self.relus = 0
        self.others: Counter[str] = Counter()

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "").strip("_")
        if _is_relu(name, args, kwargs or {}):
            self.relus += 1
            if result.requires_grad:
                result.register_hook(self._rule)
        elif name in self.OTHERS:
            self.others[name] += 1
        return result

    def _rule(self, gradient: Tensor) -> Tensor:
        return gradient.relu() if self.active else gradient

    def check(self) -> None:
        """Refuse a network without a ReLU; warn of one that has other activations as well."""
        others = ", ".join(f"{count} {name}" for name, count in sorted(self.others.items()))
        if not self.relus:
            raise MethodError(
                "guided backpropagation needs ReLUs and this network has none "
                f"({others or 'no activation function'}): use gradcam or occlusion"
            )
        if others:
            warnings.warn(
                f"guided backpropagation guides this network's {self.relus} ReLUs, "
                f"but not its other activations ({others})",
                CamcliWarning,
                stacklevel=2,
            )


def _is_relu(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    """Whether a function of torch, called so, is zero below zero and linear above it."""

    def given(position: int, keyword: str) -> object:
        return args[position] if len(args) > position else kwargs.get(keyword)

    if name == "clamp":
        return given(1, "min") == 0 and given(2, "max") is None
    if name == "threshold":
        return given(1, "threshold") == 0 and given(2, "value") == 0
    bounds = {"hardtanh": "min_val", "clamp_min": "min"}
    return name in ("relu", "relu6") or (name in bounds and given(1, bounds[name]) == 0)


@dataclass(frozen=True)
class Watch:
    """What to watch in a forward pass: the layer's path, and whether the input's gradient too."""

    module: nn.Module
    layer: str | None
    head: Head | None = None
    guided: bool = False
    window: Window = Window()


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
                return watch.module(*_copied(self.inputs))
        with self._tapped(), self.rule:
            output = watch.module(*_copied(self.inputs))
        self.rule.check()
        return output

    @contextmanager
    def _tapped(self) -> Iterator[None]:
        if self.watch.layer is None:
            yield
            return
        with tapped(self.watch.module, self.watch.layer) as self.tap:
            yield

    def gradient(self, score: Tensor, of: Tensor, name: str) -> Tensor:
        """The gradient of each image's score, in the shape of `of`; the graph is kept."""
        found = None
        if score.requires_grad:
            (found,) = torch.autograd.grad(score.sum(), of, retain_graph=True, allow_unused=True)
        if found is None:
            raise ModelError(f"{name} has no path to the score: choose a layer before the head")
        return found

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
        others = [
            x[which] if isinstance(x, Tensor) and x.ndim and len(x) == len(image) else x
            for x in self.inputs
        ]
        output = self.watch.module(*_replaced(others, self.position, covered))
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
        return self.run.gradient(self.live_score, self._tapped, f"layer '{self.run.watch.layer}'")

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
            return self.run.gradient(self.live_score, self.run.image, "the input image")
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
        output = module(*_copied(first))
    finally:
        for handle in handles:
            handle.remove()
    return [call for call in calls if runs[call.path] == 1], output


def _copied(inputs: Sequence[Any]) -> tuple[Any, ...]:
    """The arguments for one run of a model, which may work on them in place."""
    return tuple(x.clone() if isinstance(x, Tensor) else x for x in inputs)


def _batch_size(inputs: Sequence[Any]) -> int:
    return next(len(x) for x in inputs if isinstance(x, Tensor) and x.ndim)


def _own(x: Tensor) -> Tensor:
    """The same values without the caller's graph; a tensor of inference mode has to be copied."""
    return x.clone() if x.is_inference() else x.detach()


def _flat(x: Tensor) -> Tensor:
    """The first image of (N,C), (N,T,C) or (N,C,h,w) as (C, positions); tokens as they come."""
    return x[0].flatten(1) if x.ndim > 2 else x[0][:, None]


def _image_position(inputs: Sequence[Any]) -> int:
    for position, x in enumerate(inputs):
        if isinstance(x, Tensor) and x.ndim == 4 and x.is_floating_point():
            return position
    shapes = [tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__ for x in inputs]
    raise ValueError(f"no image batch (N,C,H,W) of a floating type among the inputs: {shapes}")


def _replaced(inputs: Sequence[Any], position: int, value: Tensor) -> tuple[Any, ...]:
    return (*inputs[:position], value, *inputs[position + 1 :])


def _format_of(image: Tensor) -> torch.memory_format:
    channels_last = image.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if channels_last else torch.contiguous_format
