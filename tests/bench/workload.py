"""The amount of work of a benchmark, and its networks and photos."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import cv2
import torch
from torch import Tensor, nn

from camcli import load
from camcli.images.decode import decode
from camcli.images.preprocess import preprocess
from camcli.models.fold_batchnorm import fold_batchnorm
from camcli.models.model import Model
from tests.bench.clock import Contender

SAMPLES = Path(__file__).parents[2] / "sample_images"


@dataclass(frozen=True)
class Workload:
    """The amount of work of a benchmark. QUICK is the least that shows that it runs."""

    batch: int = 16
    pixels: int = 224
    repeats: int = 9
    images: int = 500
    many: int = 2000
    few: int = 500
    most: int = 5000
    models: tuple[str, ...] = ()
    device: str = "cpu"
    photos: Path = SAMPLES
    format: str = "png"

    def input(self, batch: int | None = None) -> Tensor:
        """Return random images (N,3,S,S) in the memory format that the pipeline uses."""
        images = torch.randn(batch or self.batch, 3, self.pixels, self.pixels, device=self.device)
        return images.contiguous(memory_format=torch.channels_last)

    def of(self, *models: str) -> tuple[str, ...]:
        """Return the models to measure: those of --model, or else a section's own."""
        return self.models or models


QUICK = Workload(
    batch=2, pixels=64, repeats=1, images=3, many=6, few=2, most=6, models=("squeezenet1_0",)
)


def forward_of(module: Any, images: Tensor) -> Contender:
    """Return a contender that runs only the forward pass."""

    def run() -> None:
        with torch.inference_mode():
            module(images)

    return run


def plain_and_folded(name: str, work: Workload) -> tuple[nn.Module, Model]:
    """Return a network as published, and as the command runs it, with folded normalisations."""
    model = load(name, "none", device=work.device)
    return model.module, fold_batchnorm(model)


def weights_of(name: str) -> str:
    """Return the bundled weights of a network, or random ones: neither needs a download."""
    return "DEFAULT" if name == "mini" else "none"


def make_photos(folder: Path, work: Workload, count: int = 0) -> list[Path]:
    """Write photos of at most 500 pixels a side, repeating those of the given folder."""
    folder.mkdir(parents=True)
    given = sorted(file for file in work.photos.iterdir() if file.suffix == ".jpg")
    encoded = []
    for file in given[: count or work.images]:
        pixels = decode(file)
        scale = min(1.0, 500 / max(pixels.shape[:2]))
        small = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        encoded.append(cv2.imencode(".jpg", small[:, :, ::-1])[1].tobytes())
    files = []
    for number, data in enumerate(islice(cycle(encoded), count or work.images)):
        files.append(folder / f"{number:05}.jpg")
        files[-1].write_bytes(data)
    return files


def batches_of(model: Model, photos: list[Path], count: int) -> list[Tensor]:
    """Return preprocessed photos in batches of `count` images (N,3,H,W)."""
    tensors = [preprocess(decode(photo), model.preset)[0] for photo in photos]
    return [
        torch.stack(tensors[start : start + count]).to(
            model.device, memory_format=torch.channels_last
        )
        for start in range(0, len(tensors), count)
    ]
