"""torchvision's networks as linear filters, which show where a cell of a map looks."""

from __future__ import annotations

from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from camcli.models.families import resolve_path

LAYERS = {
    "resnet18": "layer4",
    "squeezenet1_0": "features",
    "vgg11": "features.-2",
    "densenet121": "features",
    "convnext_tiny": "features",
    "swin_t": "permute",
    "vit_b_16": "encoder.layers.-1.ln_1",
}
"""Networks, and the layer of each whose map is drawn."""

_PASSED_ON = (nn.ReLU, nn.GELU, nn.BatchNorm2d, nn.LayerNorm, nn.Dropout)
_SILENT = ("self_attention.out_proj", "attn.proj", "mlp.3")
"""The last linear maps of attention and of MLPs, which mix tokens or do not move them."""


class Probe(nn.Module):
    """A network whose output (N,1) is the mean of one layer, so that Grad-CAM is that layer's mean.

    Kernels are means. With `sharp`, those of stride 1 pass on their middle, which does not blur.
    """

    def __init__(self, name: str, *, sharp: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = torchvision.models.get_model(name, weights=None).eval()
        for path, part in list(self.net.named_modules()):
            _make_linear(self.net, path, part, sharp=sharp)
        self.path = f"net.{resolve_path(self.net, LAYERS[name])}"

    def _note(self, _part: nn.Module, _args: Any, output: Tensor) -> None:
        self.noted = output

    def forward(self, x: Tensor) -> Tensor:
        # The hook of this pass runs after camcli's, and so sees what the network goes on with.
        with self.get_submodule(self.path).register_forward_hook(self._note):
            self.net(x)
        return self.noted.flatten(1).mean(1, keepdim=True)


def _make_linear(net: nn.Module, path: str, part: nn.Module, *, sharp: bool) -> None:
    owner, _, name = path.rpartition(".")
    if isinstance(part, _PASSED_ON):
        setattr(net.get_submodule(owner), name, nn.Identity())
    elif isinstance(part, nn.MaxPool2d):
        mean = nn.AvgPool2d(part.kernel_size, part.stride, part.padding, part.ceil_mode)
        setattr(net.get_submodule(owner), name, mean)
    for parameter, value in part.named_parameters(recurse=False):
        value.requires_grad_(False)
        value.zero_()
        if parameter == "layer_scale":
            value.fill_(1)
    if isinstance(part, nn.Linear) and not path.endswith(_SILENT):
        part.weight.fill_(1 / part.in_features)
    if isinstance(part, nn.Conv2d):
        _fill(part, sharp=sharp and part.stride == (1, 1))


def _fill(conv: nn.Conv2d, *, sharp: bool) -> None:
    height, width = conv.kernel_size
    channels = conv.weight.shape[1]
    if sharp:
        conv.weight[:, :, height // 2, width // 2] = 1 / channels
    else:
        conv.weight.fill_(1 / (channels * height * width))
