"""Aids that a network published without normalisation is trained with, and saved without.

A convolution followed by batch normalisation is, once trained, another convolution with a bias
(Jacob et al. 2018, arXiv:1712.05877, eq. 14). So a plain network like SqueezeNet or VGG can be
trained quickly and still be written in its published form. Weights to start from are unfolded the
same way: each normalisation starts as what undoes it, so that the network computes what it did.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeGuard

import torch
from torch import Tensor, nn

_NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.LocalResponseNorm)


class NormedConv(nn.Conv2d):
    """A convolution whose output is batch-normalised; its own bias is left to the normalisation."""

    norm: nn.BatchNorm2d

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name that Conv2d gives it
        """(N,C,H,W) -> (N,D,h,w)"""
        normed: Tensor = self.norm(self._conv_forward(input, self.weight, None))
        return normed


class NormedHead(nn.Conv2d):
    """A 1x1 convolution that reads each channel of its input with mean 0 and deviation 1.

    Published features may be of any size, and a new class layer that read them as they are would
    learn at another pace than the rest.
    """

    norm: nn.BatchNorm2d

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name that Conv2d gives it
        """(N,C,H,W) -> (N,K,H,W)"""
        scores: Tensor = self._conv_forward(self.norm(input), self.weight, self.bias)
        return scores


class LateReLU(nn.Module):
    """A ReLU that lets negative values through at first: `slope` falls from 1 to 0 in training.

    SqueezeNet rectifies its class map. From random weights that leaves classes without a gradient,
    and training stalls.
    """

    slope = 0.0

    def forward(self, x: Tensor) -> Tensor:
        """Any shape; in evaluation a plain ReLU."""
        return nn.functional.leaky_relu(x, self.slope if self.training else 0.0)


def with_aids(module: nn.Module, images: Tensor | None = None) -> nn.Module:
    """The network as it is trained, in place: normalised, and with late ReLUs behind its scores.

    A batch normalisation goes behind each convolution but one that gives the class scores, unless
    the network has normalisation layers of its own. The names of its weights stay. With `images`
    (N,3,H,W), some of what it will see, its weights count as trained: the normalisations are set
    such that it computes what it did, and a class layer that is a convolution gets one for its
    input.
    """
    linear = [part for part in module.modules() if isinstance(part, nn.Conv2d | nn.Linear)]
    if not any(isinstance(part, _NORMS) for part in module.modules()):
        convs = [part for part in linear[:-1] if isinstance(part, nn.Conv2d)]
        given, made = ({}, {}) if images is None else _statistics(module, linear, images)
        for part in convs:
            _normalise(part, made.get(part))
        if given and _is_pointwise(linear[-1]):
            _normalise_input(linear[-1], given[linear[-1]])
    parts = list(module.named_modules())
    last = next(i for i, (_, part) in enumerate(parts) if part is linear[-1])
    for path, part in parts[last:]:
        if isinstance(part, nn.ReLU):
            module.set_submodule(path, LateReLU())
    return module


Statistics = dict[nn.Module, tuple[Tensor, Tensor]]
"""Mean and variance of each channel (C,), by part."""


def _statistics(
    module: nn.Module, parts: Sequence[nn.Module], images: Tensor
) -> tuple[Statistics, Statistics]:
    """What some images put into each convolution, and what comes out."""
    given: Statistics = {}
    made: Statistics = {}

    def keep(part: nn.Module, args: tuple[Tensor], output: Tensor) -> None:
        for into, x in ((given, args[0]), (made, output)):
            into[part] = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)

    hooks = [part.register_forward_hook(keep) for part in parts if isinstance(part, nn.Conv2d)]
    try:
        with torch.no_grad():
            module.eval()(images)
    finally:
        for hook in hooks:
            hook.remove()
    return given, made


@torch.no_grad()
def _normalise(conv: nn.Conv2d, seen: tuple[Tensor, Tensor] | None) -> None:
    norm = nn.BatchNorm2d(conv.out_channels)
    if seen is not None:
        mean, variance = seen
        _set(norm, mean if conv.bias is None else mean - conv.bias, variance)
        norm.weight.copy_((variance + norm.eps).sqrt())
        norm.bias.copy_(mean)
    conv.__class__ = NormedConv
    conv.register_parameter("bias", None)
    conv.norm = norm


@torch.no_grad()
def _normalise_input(conv: nn.Conv2d, seen: tuple[Tensor, Tensor]) -> None:
    norm = nn.BatchNorm2d(conv.in_channels, affine=False)
    _set(norm, *seen)
    assert conv.bias is not None
    conv.bias += (conv.weight * seen[0][:, None, None]).sum((1, 2, 3))
    conv.weight *= (seen[1] + norm.eps).sqrt()[:, None, None]
    conv.__class__ = NormedHead
    conv.norm = norm


def _set(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)


def _is_pointwise(part: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether a part is a convolution into which a shift of its input can be folded."""
    pointwise = (
        isinstance(part, nn.Conv2d) and part.kernel_size == (1, 1) and part.padding == (0, 0)
    )
    return pointwise and part.bias is not None


def rectify(module: nn.Module, fraction: float, by: float = 0.3) -> None:
    """Set the late ReLUs for a fraction of the whole run; they are plain ones from `by` on."""
    for part in module.modules():
        if isinstance(part, LateReLU):
            part.slope = max(0.0, 1 - fraction / by)


def folded(module: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights `state` of a network from `with_aids`, for the same network in its own form.

    `w' = w g / s`, `b' = b - m g / s` with the running mean m and deviation s, and g, b the
    normalisation's scale and shift; for a normalised input `w' = w / s`, `b' = b - sum w' m`.
    """
    state = dict(state)
    for path, part in module.named_modules():
        if not isinstance(part, NormedConv | NormedHead):
            continue
        own = {key: state.pop(f"{path}.norm.{key}") for key in part.norm.state_dict()}
        mean, scale = own["running_mean"], torch.rsqrt(own["running_var"] + part.norm.eps)
        weight = f"{path}.weight"
        if isinstance(part, NormedConv):
            scale = own["weight"] * scale
            state[weight] = state[weight] * scale[:, None, None, None]
            state[f"{path}.bias"] = own["bias"] - mean * scale
        else:
            state[weight] = state[weight] * scale[:, None, None]
            shift = (state[weight] * mean[:, None, None]).sum((1, 2, 3))
            state[f"{path}.bias"] = state[f"{path}.bias"] - shift
    return state
