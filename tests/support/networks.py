"""Small networks that are explained in milliseconds."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from camcli.methods import METHODS

ZOO = (
    *("resnet18", "resnet50", "vgg16", "alexnet", "squeezenet1_0", "squeezenet1_1"),
    *("densenet121", "googlenet", "mobilenet_v2", "shufflenet_v2_x1_0"),
)
OF_MAPS = {name: method for name, method in METHODS.items() if "attention" not in method.requires}
"""The methods that networks of convolutions have."""
NO_CAM = {"vgg16", "alexnet"}
"""Networks of ZOO without global average pooling before one linear layer."""


class GapNet(nn.Module):
    """Two convolutions, global average pooling and a linear layer, with in-place ReLUs."""

    def __init__(self, classes: int = 5, act: Callable[[], nn.Module] | None = None) -> None:
        super().__init__()
        act = act or (lambda: nn.ReLU(inplace=True))
        self.trunk = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), act())
        self.last = nn.Sequential(nn.Conv2d(6, 4, 3, stride=2), act())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(4, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.pool(self.last(self.trunk(x))).flatten(1))


class DeepHead(GapNet):
    """A GapNet with two linear layers behind a flattened map, for which CAM is not defined."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.fc = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 5))


class Threads(GapNet):
    """A network whose copies record in one set which threads run them.

    The first thread other than the main one waits for a second, so that both have work.
    """

    seen: set[tuple[int, int]] = set()  # noqa: RUF012 - shared by all copies
    second = threading.Event()

    @classmethod
    def record(cls) -> None:
        cls.seen.add((threading.get_ident(), torch.get_num_threads()))
        others = {thread for thread, _ in cls.seen} - {threading.main_thread().ident}
        if len(others) > 1:
            cls.second.set()
        elif others:
            cls.second.wait(20)

    def forward(self, x: Tensor) -> Tensor:
        self.record()
        return super().forward(x)


class LimitedMemory(GapNet):
    """A network that has memory for `most` images at once, and raises `error` for more.

    `sizes` records the batch size of each forward pass.
    """

    def __init__(self, most: int, error: Exception) -> None:
        super().__init__()
        self.most, self.error = most, error
        self.sizes: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.sizes.append(len(x))
        if len(x) > self.most:
            raise self.error
        return super().forward(x)


OUT_OF_MEMORY = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore."),
    RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
)
"""The errors of the allocators of CUDA, MPS and the CPU."""


def with_weights(net: nn.Module) -> nn.Module:
    """Return the network in float64, with random weights that keep activations in range."""
    generator = torch.Generator().manual_seed(3)
    for part in net.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            gain = (2 / part.weight[0].numel()) ** 0.5
            part.weight.data = torch.randn(part.weight.shape, generator=generator) * gain
        if isinstance(part, nn.BatchNorm2d):
            assert part.running_mean is not None
            assert part.running_var is not None
            part.running_mean.normal_(0, 0.1, generator=generator)
            part.running_var.uniform_(0.5, 1.5, generator=generator)
    return net.double().eval()


def save_weights(state: dict[str, Any], file: Path) -> Path:
    """Write a state dict in the format that the ending says; `.old` is a pickle without a zip."""
    if file.suffix == ".safetensors":
        save_file(state, file)
    else:
        torch.save(state, file, _use_new_zipfile_serialization=file.suffix != ".old")
    return file


class RedCorner(nn.Module):
    """Takes an image for class 1 if its top right corner is red: the planted tag decides."""

    def forward(self, x: Tensor) -> Tensor:
        red = (x[:, 0] - x[:, 2])[:, :8, -8:].mean((1, 2))
        return torch.stack([torch.full_like(red, 0.3), red], 1)
