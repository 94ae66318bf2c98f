"""Normalisation layers that a network has only while it is trained.

Once trained, a convolution followed by batch normalisation equals another convolution with a bias
(Jacob et al. 2018, arXiv:1712.05877, eq. 14). A plain network such as SqueezeNet or VGG can
therefore be trained quickly and saved in its published form. With initial weights, each
normalisation starts as the inverse of its statistics, so that the network computes the same scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias, TypeGuard

import torch
from torch import Tensor, nn

_NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.LocalResponseNorm)


class NormedConv(nn.Conv2d):
    """A convolution without a bias, followed by batch normalisation."""

    norm: nn.BatchNorm2d

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - Conv2d's name
        """Map (N,C,H,W) to (N,D,h,w)."""
        normed: Tensor = self.norm(self._conv_forward(input, self.weight, None))
        return normed


class NormedHead(nn.Conv2d):
    """A 1x1 convolution whose input is normalised to mean 0 and deviation 1 in each channel.

    Published features may have any scale. On unscaled features a new class layer would learn at
    another speed than the other layers.
    """

    norm: nn.BatchNorm2d

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - Conv2d's name
        """Map (N,C,H,W) to (N,K,H,W)."""
        scores: Tensor = self._conv_forward(self.norm(input), self.weight, self.bias)
        return scores


class AnnealedReLU(nn.Module):
    """A leaky ReLU whose negative `slope` falls from 1 to 0 during training.

    SqueezeNet applies a ReLU to its class map. With random weights, some classes would get no
    gradient and training would stall.
    """

    slope = 0.0

    def forward(self, x: Tensor) -> Tensor:
        """Apply the leaky ReLU to a tensor of any shape; a plain ReLU in evaluation mode."""
        return nn.functional.leaky_relu(x, self.slope if self.training else 0.0)


def add_temporary_layers(module: nn.Module, images: Tensor | None = None) -> nn.Module:
    """Add batch normalisation and annealed ReLUs to a network in place. Returns the network.

    Each convolution except one that computes the class scores gets a batch normalisation, unless
    the network has normalisation layers already. ReLUs after the class scores become annealed.
    Existing weights keep their names. `images` (N,3,H,W) are a sample of the training images; give
    them for trained weights. The normalisations are then initialised so that the network computes
    the same scores, and a 1x1 convolution as class layer gets one for its input.
    """
    linear = [part for part in module.modules() if isinstance(part, nn.Conv2d | nn.Linear)]
    if not any(isinstance(part, _NORMS) for part in module.modules()):
        convs = [part for part in linear[:-1] if isinstance(part, nn.Conv2d)]
        inputs, outputs = ({}, {}) if images is None else _statistics(module, linear, images)
        for part in convs:
            _normalise_output(part, outputs.get(part))
        if inputs and _is_foldable(linear[-1]):
            _normalise_input(linear[-1], inputs[linear[-1]])
    parts = list(module.named_modules())
    last = next(i for i, (_, part) in enumerate(parts) if part is linear[-1])
    for path, part in parts[last:]:
        if isinstance(part, nn.ReLU):
            module.set_submodule(path, AnnealedReLU())
    return module


def anneal_relus(module: nn.Module, fraction: float, end: float = 0.3) -> None:
    """Set the slope of the annealed ReLUs at a `fraction` of the run; 0 from fraction `end` on."""
    for part in module.modules():
        if isinstance(part, AnnealedReLU):
            part.slope = max(0.0, 1 - fraction / end)


def fold_temporary_layers(module: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Fold the temporary layers of `module` into its weights `state`.

    Returns weights for the network without temporary layers: `w' = w g / s` and `b' = b - m g / s`
    with the running mean m and deviation s, and g and b the normalisation's scale and shift. For a
    normalised input, `w' = w / s` and `b' = b - sum w' m`.
    """
    state = dict(state)
    for path, part in module.named_modules():
        if not isinstance(part, NormedConv | NormedHead):
            continue
        norm = {key: state.pop(f"{path}.norm.{key}") for key in part.norm.state_dict()}
        mean, scale = norm["running_mean"], torch.rsqrt(norm["running_var"] + part.norm.eps)
        weight, bias = f"{path}.weight", f"{path}.bias"
        if isinstance(part, NormedConv):
            scale = norm["weight"] * scale
            state[weight] = state[weight] * scale[:, None, None, None]
            state[bias] = norm["bias"] - mean * scale
        else:
            state[weight] = state[weight] * scale[:, None, None]
            state[bias] = state[bias] - (state[weight] * mean[:, None, None]).sum((1, 2, 3))
    return state


Statistics: TypeAlias = dict[nn.Module, tuple[Tensor, Tensor]]
"""The mean and variance of each channel (C,) for each layer."""


def _statistics(
    module: nn.Module, layers: Sequence[nn.Module], images: Tensor
) -> tuple[Statistics, Statistics]:
    """Measure the inputs and the outputs of the convolutions among `layers` on some images."""
    inputs: Statistics = {}
    outputs: Statistics = {}

    def measure(layer: nn.Module, args: tuple[Tensor], output: Tensor) -> None:
        for statistics, x in ((inputs, args[0]), (outputs, output)):
            statistics[layer] = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)

    convs = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    hooks = [conv.register_forward_hook(measure) for conv in convs]
    try:
        with torch.no_grad():
            module.eval()(images)
    finally:
        for hook in hooks:
            hook.remove()
    return inputs, outputs


@torch.no_grad()
def _normalise_output(conv: nn.Conv2d, statistics: tuple[Tensor, Tensor] | None) -> None:
    norm = nn.BatchNorm2d(conv.out_channels)
    if statistics is not None:
        mean, variance = statistics
        _set(norm, mean if conv.bias is None else mean - conv.bias, variance)
        norm.weight.copy_((variance + norm.eps).sqrt())
        norm.bias.copy_(mean)
    conv.__class__ = NormedConv
    conv.register_parameter("bias", None)
    conv.norm = norm


@torch.no_grad()
def _normalise_input(conv: nn.Conv2d, statistics: tuple[Tensor, Tensor]) -> None:
    mean, variance = statistics
    norm = nn.BatchNorm2d(conv.in_channels, affine=False)
    _set(norm, mean, variance)
    assert conv.bias is not None
    conv.bias += (conv.weight * mean[:, None, None]).sum((1, 2, 3))
    conv.weight *= (variance + norm.eps).sqrt()[:, None, None]
    conv.__class__ = NormedHead
    conv.norm = norm


def _set(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)


def _is_foldable(layer: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Return whether a normalisation of the input can be folded into this layer."""
    pointwise = (
        isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1) and layer.padding == (0, 0)
    )
    return pointwise and layer.bias is not None
