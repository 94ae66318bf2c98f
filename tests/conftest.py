"""Small networks and images that many tests share, and the real ones where they are at hand."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result
from PIL import Image
from torch import Tensor, nn

from camcli import cli

ROOT = Path(__file__).parent.parent
SAMPLES = ROOT / "sample_images"
SHARED = Path(os.environ.get("CAMCLI_SHARED", ROOT.parent / "shared"))

ZOO = (
    *("resnet18", "resnet50", "vgg16", "alexnet", "squeezenet1_0", "squeezenet1_1"),
    *("densenet121", "googlenet", "mobilenet_v2", "shufflenet_v2_x1_0"),
)


# For networks this small, waking a second thread costs more than it brings.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # of commands that tests start: the same bytes as in here
# A shell's background job ignores interrupts, and so would all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


class GapNet(nn.Module):
    """Two convolutions, global average pooling, one linear layer; every ReLU in place."""

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
    """The same with two linear layers behind a flattened map: CAM is not defined here."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.fc = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 5))


@pytest.fixture
def gap_net() -> GapNet:
    torch.manual_seed(0)
    return GapNet().double()


@pytest.fixture
def deep_head() -> DeepHead:
    torch.manual_seed(1)
    return DeepHead().double()


@pytest.fixture
def images() -> Tensor:
    return torch.randn(3, 3, 30, 26, generator=torch.Generator().manual_seed(2)).double()


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A small landscape photo-like JPEG."""
    return make_photo(tmp_path / "photo.jpg")


def make_photo(path: Path, width: int = 90, height: int = 60, **save: Any) -> Path:
    y, x = np.mgrid[:height, :width]
    rgb = np.stack([255 * x / width, 255 * y / height, 128 + 100 * np.sin(x / 5)], axis=-1)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rgb.astype(np.uint8)).save(path, **save)
    return path


@pytest.fixture
def run(capfdbinary: pytest.CaptureFixture[bytes]) -> Callable[..., Result]:
    """Run a command line in this process: exit code, stdout and stderr."""

    def call(*arguments: object) -> Result:
        capfdbinary.readouterr()
        with pytest.raises(SystemExit) as stopped:
            cli.main([str(argument) for argument in arguments])
        out, err = capfdbinary.readouterr()
        return Result(None, out, err, out + err, None, int(stopped.value.code), None)  # type: ignore

    return call


def manifest(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]


@pytest.fixture
def real() -> list[str]:
    """Arguments for a network with real weights."""
    weights = SHARED / "weights" / "squeezenet1_0-imagenet.pth"
    if not weights.exists():
        pytest.skip(f"needs real weights: {weights.name} is not in {SHARED.name}/weights")
    return ["--model", "squeezenet1_0", "--weights", str(weights)]
