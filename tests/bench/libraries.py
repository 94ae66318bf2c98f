"""The sections that compare camcli with other libraries."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torchvision.models as zoo
from torch import Tensor

from camcli import explain, load
from camcli.models.fold_batchnorm import fold_batchnorm
from tests.bench import loops
from tests.bench.clock import Contender, Measurement, against, camcli, command, in_turns, ratio
from tests.bench.workload import Workload, forward_of, make_photos


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


def peers_files(work: Workload) -> Iterator[Measurement]:
    """Compare the command on JPEG files with the loops that users of other libraries write.

    The start of a process, its imports and the network are part of its time. A second row of each
    loop leaves its imports out.
    """
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        photos = make_photos(folder / "in", work, min(48, work.images))
        explain = camcli(
            *("explain", folder / "in", "--model", "resnet50", "--weights", "none", "--quiet"),
            *("--output", folder / "out", "--overwrite", "--device", work.device),
        )
        contenders: dict[str, Contender] = {"camcli explain": command(*explain)}
        bare: dict[str, list[float]] = {}
        for name, batch in _loops(work):
            what = f"{name}, batch {batch}"
            script = (sys.executable, loops.__file__, name, str(batch), work.device)
            arguments = [*script, str(folder / "in"), str(folder / what)]
            contenders[what] = partial(_timed_within, arguments, bare.setdefault(what, []))
        rounds = min(2, work.repeats)
        seconds = in_turns(contenders, rounds)
        seconds |= {f"{name}, without imports": taken[-rounds:] for name, taken in bare.items()}
        place, base = ("peers-files", f"resnet50, {len(photos)} photos"), seconds["camcli explain"]
        for what, taken in seconds.items():
            speed = len(photos) / statistics.median(taken)
            yield Measurement(*place, what, speed, ratio(taken, base), "", "images/s")


def _loops(work: Workload) -> Iterator[tuple[str, int]]:
    """Yield the installed libraries, each with a number of images at a time."""
    for name, (package, *_) in loops.IMPORTS.items():
        if find_spec(package.partition(".")[0]) is None:
            sys.stderr.write(f"{name} is not installed and is left out\n")
            continue
        yield name, 1
        if name == "pytorch-grad-cam":
            yield name, work.batch


def _timed_within(arguments: list[str], bare: list[float]) -> None:
    """Run a process and append the seconds that it prints."""
    bare.append(float(subprocess.run(arguments, check=True, capture_output=True).stdout))


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
