"""Borrowing a model, tapping a layer of it, and gradients at that layer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from camcli.errors import ModelError
from camcli.models.layouts import PLAIN, Layout


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
    """Takes the map of one layer out of a forward pass: `acts` (N,C,h,w), whatever its layout.

    A layer that no graph leads to, as in every pass but a guided one, becomes a leaf.
    """

    def __init__(self, path: str, layout: Layout = PLAIN) -> None:
        self.path = path
        self.layout = layout
        self.output: Tensor | None = None
        self.acts: Tensor | None = None

    def __call__(self, _layer: nn.Module, _args: object, output: object) -> Tensor:
        if self.acts is not None:
            raise ModelError(f"layer '{self.path}' runs more than once: choose one that runs once")
        if not isinstance(output, Tensor) or output.ndim != self.layout.ndim:
            given = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise ModelError(f"layer '{self.path}' gives {given}, not a feature map (N,C,h,w)")
        self.output = output if output.requires_grad else output.detach().requires_grad_()
        with torch.enable_grad():  # a trunk that runs without gradients has one head to reach yet
            self.acts = self.layout.to_map(self.output)
            if self.acts.shape[2:] == (1, 1):
                raise ModelError(
                    f"layer '{self.path}' gives a single place, {tuple(output.shape)}, not a map: "
                    f"choose a layer before the pooling, or give larger images"
                )
            return self.layout.to_output(self.acts.clone(), self.output)

    def gradient(self, score: Tensor) -> Tensor:
        """The gradient of each image's score (N,) at the map (N,C,h,w). Raises ModelError."""
        assert self.acts is not None
        assert self.output is not None
        found = gradient(score, self.acts, f"layer '{self.path}'")
        if self.layout is PLAIN or found.any():
            return found
        # Where a score looks at the class token alone, the patches' gradient is zero, not absent.
        if gradient(score, self.output, self.path).any():
            raise ModelError(
                f"layer '{self.path}' has no path from its patches to the score, which reads the "
                f"class token alone from there on: choose an earlier layer"
            )
        return found


@contextmanager
def tapped(module: nn.Module, layer: str, layout: Layout = PLAIN) -> Iterator[Tap]:
    """A tap on `layer` for one forward pass inside; `acts` (N,C,h,w) hold its map after it.

    Of a network whose parameters are trained `acts` stay part of the graph, so that what is made
    of them can be trained on; of a borrowed one they are a leaf. Raises ModelError.
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
    """The channels of `layer`'s map (N,C,h,w) multiplied by `factors` (C,) in passes inside."""

    def hook(_layer: nn.Module, _args: object, output: Tensor) -> Tensor:
        return layout.to_output(layout.to_map(output) * factors[:, None, None], output)

    handle = module.get_submodule(layer).register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def gradient(score: Tensor, of: Tensor, name: str, *, differentiable: bool = False) -> Tensor:
    """The gradient of each image's score (N,) at `of` (N,...), in its shape; the graph is kept.

    `name` is what a refusal calls `of`. `differentiable` makes the gradient part of the graph, for
    a loss on an explanation (second order). Where a normalisation in training mode lies between
    the two, the images of a batch are not quite independent, and neither are their gradients.
    Raises ModelError.
    """
    found = None
    if score.requires_grad:
        (found,) = torch.autograd.grad(
            score.sum(), of, retain_graph=True, create_graph=differentiable, allow_unused=True
        )
    if found is None:
        raise ModelError(f"{name} has no path to the score: choose a layer before the head")
    return found
