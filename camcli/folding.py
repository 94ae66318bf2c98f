"""Aids that a network published without normalisation is trained with, and saved without.

A convolution followed by batch normalisation is, once trained, another convolution with a bias
(Jacob et al. 2018, arXiv:1712.05877, eq. 14). So a plain network like SqueezeNet or VGG can be
trained quickly and still be written in its published form.
"""

from __future__ import annotations

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


class LateReLU(nn.Module):
    """A ReLU that lets negative values through at first: `slope` falls from 1 to 0 in training.

    SqueezeNet rectifies its class map. From random weights that leaves classes without a gradient,
    and training stalls.
    """

    slope = 0.0

    def forward(self, x: Tensor) -> Tensor:
        """Any shape; in evaluation a plain ReLU."""
        return nn.functional.leaky_relu(x, self.slope if self.training else 0.0)


def with_aids(module: nn.Module) -> nn.Module:
    """The network as it is trained, in place: normalised, and with late ReLUs behind its scores.

    A batch normalisation goes behind each convolution but one that gives the class scores, unless
    the network has normalisation layers of its own. The names of its weights stay.
    """
    linear = [part for part in module.modules() if isinstance(part, nn.Conv2d | nn.Linear)]
    if not any(isinstance(part, _NORMS) for part in module.modules()):
        for part in linear[:-1]:
            if isinstance(part, nn.Conv2d):
                part.__class__ = NormedConv
                part.register_parameter("bias", None)
                part.norm = nn.BatchNorm2d(part.out_channels)
    parts = list(module.named_modules())
    last = next(i for i, (_, part) in enumerate(parts) if part is linear[-1])
    for path, part in parts[last:]:
        if isinstance(part, nn.ReLU):
            module.set_submodule(path, LateReLU())
    return module


def rectify(module: nn.Module, fraction: float, by: float = 0.3) -> None:
    """Set the late ReLUs for a fraction of the whole run; they are plain ones from `by` on."""
    for part in module.modules():
        if isinstance(part, LateReLU):
            part.slope = max(0.0, 1 - fraction / by)


def folded(module: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights `state` of a network from `with_aids`, for the same network in its own form.

    `w' = w g / s`, `b' = b - m g / s` with the running mean m and deviation s, and g, b the
    normalisation's scale and shift.
    """
    state = dict(state)
    for path, part in module.named_modules():
        if not isinstance(part, NormedConv):
            continue
        own = {key: state.pop(f"{path}.norm.{key}") for key in part.norm.state_dict()}
        scale = own["weight"] * torch.rsqrt(own["running_var"] + part.norm.eps)
        state[f"{path}.weight"] = state[f"{path}.weight"] * scale[:, None, None, None]
        state[f"{path}.bias"] = own["bias"] - own["running_mean"] * scale
    return state
