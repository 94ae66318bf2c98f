"""Borrow a model, tap one of its layers, and take gradients at that layer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointError

from camcli.capture.pooled import pooled_gradient
from camcli.errors import ModelError
from camcli.models.exclusive import exclusive
from camcli.models.layouts import PLAIN, Layout


@contextmanager
def borrowed(module: nn.Module) -> Iterator[None]:
    """Put a caller's model into evaluation mode with frozen parameters, and restore it on leaving.

    Gradients are enabled inside, also where the caller has disabled them. Other threads wait until
    the network is free. Raises ModelError for weights that can have no gradients.
    """
    if any(weight.is_inference() for weight in module.parameters()):
        raise ModelError(
            "the network's weights were made in torch.inference_mode(), where there are no "
            "gradients: build the network outside it"
        )
    with exclusive(module):
        modes = [(part, part.training) for part in module.modules()]
        frozen = [p for p in module.parameters() if p.requires_grad]
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
    """A forward hook that takes the map `acts` (N,C,h,w) of one layer, whatever its layout.

    In a pass without a graph, which is every pass but a guided one, `acts` becomes a leaf. The
    layer returns a clone, so that a subsequent in-place ReLU cannot change `acts`.
    """

    def __init__(self, path: str, layout: Layout = PLAIN) -> None:
        self.path = path
        self.layout = layout
        self.output: Tensor | None = None
        self.acts: Tensor | None = None
        self.is_disabled = False

    def __call__(self, _layer: nn.Module, _args: object, output: object) -> Tensor:
        if self.acts is not None:
            raise ModelError(f"layer '{self.path}' runs more than once: choose one that runs once")
        if not isinstance(output, Tensor) or output.ndim != self.layout.ndim:
            given = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise ModelError(f"layer '{self.path}' gives {given}, not a feature map (N,C,h,w)")
        if output.is_inference():
            raise ModelError(
                f"layer '{self.path}' runs in torch.inference_mode(), which has no gradients: "
                f"choose a layer behind it, or use occlusion"
            )
        self.is_disabled = not torch.is_grad_enabled()
        self.output = output if output.requires_grad else output.detach().requires_grad_()
        with torch.enable_grad():  # the network may disable gradients before this layer
            self.acts = self.layout.to_map(self.output)
            if self.acts.shape[2:] == (1, 1):
                raise ModelError(
                    f"layer '{self.path}' gives a single cell, {tuple(output.shape)}: "
                    f"choose a layer before the pooling, or give larger images"
                )
            return self.layout.to_output(self.acts.clone(), self.output)

    @property
    def detached(self) -> Tensor:
        """The map (N,C,h,w) without its graph."""
        assert self.acts is not None
        return self.acts.detach()

    def check(self, images: int) -> None:
        """Raise ModelError if there is not one map for each of `images`."""
        if len(self.detached) != images:
            raise ModelError(
                f"layer '{self.path}' gives {len(self.detached)} maps for {images} "
                f"image{'s' * (images > 1)}: choose a layer that gives one for each image"
            )

    def gradient(self, score: Tensor) -> Tensor:
        """Return the gradient of each image's score (N,) at the map, (N,C,h,w)."""
        assert self.acts is not None
        assert self.output is not None
        name = f"layer '{self.path}'"
        if self.is_disabled:
            name += (
                " runs where the network disables gradients, as no_grad() and reentrant "
                "torch.utils.checkpoint do, and"
            )
        found = pooled_gradient(score, self.acts)
        if found is None:
            found = gradient(score, self.acts, name)
        if self.layout is PLAIN or found.any():
            return found
        # The patches' gradient is zero, not absent, where a score reads the class token alone.
        if gradient(score, self.output, self.path).any():
            raise ModelError(
                f"layer '{self.path}' has no path from its patches to the score, which reads the "
                f"class token alone from there on: choose an earlier layer"
            )
        return found


@contextmanager
def tapped(module: nn.Module, layer: str, layout: Layout = PLAIN) -> Iterator[Tap]:
    """Tap `layer` in the one forward pass inside; the tap's `acts` hold its map afterwards.

    In a network whose parameters are trained, `acts` stay part of the graph, so that a loss can be
    put on them. In a borrowed network they are a leaf. Raises ModelError.
    """
    tap = Tap(layer, layout)
    handle = module.get_submodule(layer).register_forward_hook(tap)
    try:
        yield tap
    finally:
        handle.remove()
    if tap.acts is None:
        raise ModelError(f"layer '{layer}' does not run in the forward pass")


@contextmanager
def scaled(
    module: nn.Module, layer: str, factors: Tensor, layout: Layout = PLAIN
) -> Iterator[None]:
    """Multiply the channels of a layer's map (N,C,h,w) by `factors` (C,) in the passes inside."""

    def hook(_layer: nn.Module, _args: object, output: Tensor) -> Tensor:
        return layout.to_output(layout.to_map(output) * factors[:, None, None], output)

    handle = module.get_submodule(layer).register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def gradient(score: Tensor, of: Tensor, name: str, *, differentiable: bool = False) -> Tensor:
    """Return the gradient of each image's score (N,) at `of` (N,...), in its shape.

    The graph is kept. `differentiable` makes the gradient part of the graph, for a loss on an
    explanation (second order). The images of a batch are independent unless a normalisation in
    training mode lies between `of` and the score. Raises ModelError, with `name` for `of`, if the
    score does not depend on `of`.
    """
    (found,) = gradients(score, [of], name, differentiable=differentiable)
    return found


def gradients(
    score: Tensor, of: Sequence[Tensor], name: str, *, differentiable: bool = False
) -> list[Tensor]:
    """Return the gradients of each image's score at several tensors, in their shapes.

    They are as `gradient` returns them. Raises ModelError if the score depends on none of them.
    """
    found: Sequence[Tensor | None] = ()
    if score.requires_grad:
        try:
            found = torch.autograd.grad(
                score.sum(), of, retain_graph=True, create_graph=differentiable, allow_unused=True
            )
        except CheckpointError:
            raise ModelError(
                f"a part of the network between {name} and the score runs again in the backward "
                f"pass (torch.utils.checkpoint): switch checkpointing off"
            ) from None
    if all(one is None for one in found):
        raise ModelError(f"{name} has no path to the score: choose a layer before the head")
    each = zip(found, of, strict=True)
    return [torch.zeros_like(x) if one is None else one for one, x in each]


def cloned(inputs: Iterable[Any]) -> tuple[Any, ...]:
    """Return a model's arguments with each tensor cloned, as a model may change them in place."""
    return tuple(x.clone() if isinstance(x, Tensor) else x for x in inputs)
