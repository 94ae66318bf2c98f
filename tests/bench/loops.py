"""Explain photos by the loop that users of other libraries write: Grad-CAM, files to overlays.

`python loops.py LIBRARY BATCH DEVICE IN OUT` writes an overlay of each file of IN into OUT, with
resnet50 of random weights. It prints the seconds that it took without the imports. It is a script
of its own, which imports nothing of camcli, so that its start counts as that of a command.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torchvision.transforms.v2.functional as transforms
from PIL import Image
from torch import Tensor
from torchvision.models import ResNet50_Weights, resnet50

PRESET: Any = ResNet50_Weights.DEFAULT.transforms()

Job = tuple[Path, Image.Image]
"""The path of the overlay to write, and the photo."""


def main(library: str, batch: int, device: str, source: Path, out: Path) -> float:
    """Write the overlays, and return the seconds without the imports."""
    for module in IMPORTS[library]:
        import_module(module)
    began = time.perf_counter()
    out.mkdir(exist_ok=True)
    explain = LOOPS[library](resnet50().eval().to(device), device)
    files = sorted(source.iterdir())
    for start in range(0, len(files), batch):
        chunk = files[start : start + batch]
        explain([(out / f"{file.stem}.png", Image.open(file).convert("RGB")) for file in chunk])
    return time.perf_counter() - began


def _pytorch_grad_cam(network: Any, device: str) -> Callable[[Sequence[Job]], None]:
    grad_cam = import_module("pytorch_grad_cam").GradCAM(network, [network.layer4[-1]])
    image = import_module("pytorch_grad_cam.utils.image")

    def explain(jobs: Sequence[Job]) -> None:
        crops = [np.asarray(_crop(photo), np.float32) / 255 for _, photo in jobs]
        inputs = [image.preprocess_image(crop, PRESET.mean, PRESET.std) for crop in crops]
        maps = grad_cam(input_tensor=torch.cat(inputs).to(device), targets=None)
        for (path, _), crop, found in zip(jobs, crops, maps, strict=True):
            overlay = image.show_cam_on_image(crop, found, use_rgb=True)
            cv2.imwrite(str(path), cv2.cvtColor(overlay, cv2.COLOR_RGB2BGR))

    return explain


def _torchcam(network: Any, device: str) -> Callable[[Sequence[Job]], None]:
    extractor = import_module("torchcam.methods").GradCAM(network, "layer4")
    overlay_mask = import_module("torchcam.utils").overlay_mask

    def explain(jobs: Sequence[Job]) -> None:
        scores = network(_inputs(jobs, device))
        (maps,) = extractor(scores.argmax(1).tolist(), scores)
        for (path, photo), found in zip(jobs, maps, strict=True):
            mask = transforms.to_pil_image(found, mode="F")
            overlay_mask(photo, mask, alpha=0.5).save(path)

    return explain


def _captum(network: Any, device: str) -> Callable[[Sequence[Job]], None]:
    attr = import_module("captum.attr")
    layer_grad_cam = attr.LayerGradCam(network, network.layer4)
    show = partial(
        attr.visualization.visualize_image_attr, method="blended_heat_map", use_pyplot=False
    )

    def explain(jobs: Sequence[Job]) -> None:
        inputs = _inputs(jobs, device)
        with torch.no_grad():
            best = network(inputs).argmax(1)
        maps = layer_grad_cam.attribute(inputs, target=best)
        maps = attr.LayerAttribution.interpolate(maps, inputs.shape[2:]).detach().cpu()
        for (path, photo), found in zip(jobs, maps, strict=True):
            figure, _ = show(found.permute(1, 2, 0).numpy(), np.asarray(_crop(photo)), sign="all")
            figure.savefig(path)

    return explain


def _crop(photo: Image.Image) -> Image.Image:
    """Return the part of the photo that the network sees, in its size."""
    (edge,), (size,) = PRESET.resize_size, PRESET.crop_size
    resized: Image.Image = transforms.resize(photo, [edge], PRESET.interpolation)
    cropped: Image.Image = transforms.center_crop(resized, [size])
    return cropped


def _inputs(jobs: Iterable[Job], device: str) -> Tensor:
    return torch.stack([PRESET(photo) for _, photo in jobs]).to(device)


IMPORTS: Mapping[str, Sequence[str]] = {
    "pytorch-grad-cam": ("pytorch_grad_cam", "pytorch_grad_cam.utils.image"),
    "torchcam": ("torchcam.methods", "torchcam.utils"),
    "captum": ("captum.attr",),
}
LOOPS: Mapping[str, Callable[[Any, str], Callable[[Sequence[Job]], None]]] = {
    "pytorch-grad-cam": _pytorch_grad_cam,
    "torchcam": _torchcam,
    "captum": _captum,
}

if __name__ == "__main__":
    named, size, where, given, made = sys.argv[1:]
    sys.stdout.write(f"{main(named, int(size), where, Path(given), Path(made))}\n")
