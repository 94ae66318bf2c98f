"""The section that compares camcli with other libraries."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib import import_module
from typing import Any

import torch
import torchvision.models as zoo
from torch import Tensor

from camcli import explain, load
from camcli.models.fold_batchnorm import fold_batchnorm
from tests.bench.clock import Contender, Measurement, against
from tests.bench.workload import Workload, forward_of


def peers(work: Workload) -> Iterator[Measurement]:
    """Compare Grad-CAM of resnet50 with that of other libraries, used as they document it."""
    module = zoo.resnet50().eval().to(work.device)
    ours = fold_batchnorm(load("resnet50", "none", device=work.device))
    goals_of = {work.batch: (">= 3.3", ">= 1.25", ">= 1.9"), 1: (">= 3.5", ">= 1.25", ">= 2.2")}
    for batch, goals in goals_of.items():
        images = work.input(batch)
        contenders: dict[str, Contender] = {
            "camcli": partial(explain, ours, images, "gradcam"),
            "plain forward": forward_of(module, images.contiguous()),
        }
        for name, maker in PEERS.items():
            try:
                contenders[name] = maker(module, images.contiguous())
            except ImportError:
                sys.stderr.write(f"{name} is not installed and is left out\n")
        place = "peers", f"resnet50, batch {batch}"
        every = dict(zip(PEERS, goals, strict=True))
        yield from against("camcli", contenders, work.repeats, place, every)


def _pytorch_grad_cam(module: Any, images: Tensor) -> Contender:
    made = import_module("pytorch_grad_cam").GradCAM(module, [module.layer4])
    return partial(made, images, None)  # the best class


def _torchcam(module: Any, images: Tensor) -> Contender:
    made = import_module("torchcam.methods").GradCAM(module, "layer4")

    def run() -> None:
        scores = module(images)
        made(scores.argmax(1).tolist(), scores)

    return run


def _captum(module: Any, images: Tensor) -> Contender:
    made = import_module("captum.attr").LayerGradCam(module, module.layer4)

    def run() -> None:
        with torch.no_grad():
            best = module(images).argmax(1)
        made.attribute(images, target=best)

    return run


PEERS: Mapping[str, Callable[[Any, Tensor], Contender]] = {
    "pytorch-grad-cam": _pytorch_grad_cam,
    "torchcam": _torchcam,
    "captum": _captum,
}
