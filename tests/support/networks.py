"""Small networks that are explained in milliseconds."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

ZOO = (
    *("resnet18", "resnet50", "vgg16", "alexnet", "squeezenet1_0", "squeezenet1_1"),
    *("densenet121", "googlenet", "mobilenet_v2", "shufflenet_v2_x1_0"),
)


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
