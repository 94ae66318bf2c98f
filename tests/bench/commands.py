"""Sections that measure whole commands."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from torch import Tensor

from camcli import load
from camcli.models.model import Model
from tests.bench.clock import Measurement, against, camcli, command, peak_memory
from tests.bench.workload import SAMPLES, Workload, batches_of, forward_of, make_photos, weights_of


def files(work: Workload) -> Iterator[Measurement]:
    """Compare the command on JPEG files with the forward pass on the same preprocessed images."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        photos = make_photos(folder / "in", work)
        for name in work.of("resnet50", "squeezenet1_0"):
            model = load(name, "none", device=work.device)
            batches = batches_of(model, photos, work.batch)
            arguments = camcli(
                *("explain", folder / "in", "--model", name, "--weights", "none", "--overwrite"),
                *("--output", folder / "out", "--device", work.device, "--quiet"),
                *("--format", work.format),
            )

            def forward(model: Model = model, batches: list[Tensor] = batches) -> None:
                for batch in batches:
                    forward_of(model.module, batch)()

            goals = {"resnet50": 1.15, "squeezenet1_0": 1.45 if work.format == "jpg" else 1.6}
            goal = f"<= {goals[name]}" if name in goals else ""
            contenders = {"forward": forward, "camcli explain": command(*arguments)}
            place = "files", f"{name}, {len(photos)} photos, {work.format}"
            rounds = min(3, work.repeats)
            yield from against("forward", contenders, rounds, place, {"camcli explain": goal})


def startup(work: Workload) -> Iterator[Measurement]:
    """Compare the start of commands with the import of the library that they need."""
    python = partial(command, sys.executable, "-c")
    with tempfile.TemporaryDirectory() as out:
        explained = camcli("explain", next(SAMPLES.glob("*.jpg")), "--output", out)
        for base, name, arguments, goal in (
            ("import torch", "camcli --help", camcli("--help"), "<= 0.12"),
            ("import torchvision.models", "one image with mini", explained, "<= 0.6"),
        ):
            contenders = {base: python(base), name: command(*arguments)}
            yield from against(base, contenders, work.repeats, ("start-up", ""), {name: goal})


def speedups(work: Workload) -> Iterator[Measurement]:
    """Compare commands without the speedups of camcli/speed.py with the same commands with them."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        make_photos(folder / "in", work)
        one = ("explain", next(SAMPLES.glob("*.jpg")), "--output", folder / "one")
        many = ("explain", folder / "in", "--output", folder / "many", "--overwrite")
        network = ("--model", "mobilenet_v2", "--weights", "none", "--device", work.device)
        for case, arguments in {
            "camcli --help": camcli("--help"),
            "one image with mini": camcli(*one),
            "photos with mobilenet_v2": camcli(*many, *network),
        }.items():
            without = command("env", "CAMCLI_NO_SPEEDUPS=1", *arguments)
            contenders = {"with": command(*arguments), "without": without}
            yield from against("with", contenders, work.repeats, ("speedups", case))


def memory(work: Workload) -> Iterator[Measurement]:
    """Compare the peak memory of a run on many images with that of a run on a few.

    The first row is the peak of the imports alone: no run can be below it.
    """
    imports = peak_memory([sys.executable, "-c", "import torch, torchvision, cv2"]) / 2**20
    yield Measurement("memory", "", "import torch, torchvision, cv2", imports, 1, "", "MiB")
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for name in work.of("squeezenet1_0"):
            peaks = {}
            for count in (work.few, work.most):
                make_photos(folder / "in", work, count)
                network = ("--model", name, "--weights", weights_of(name))
                out, device = ("--output", folder / "out"), ("--device", work.device)
                arguments = camcli("explain", folder / "in", *network, *out, *device, "--quiet")
                peaks[count] = peak_memory(arguments)
                shutil.rmtree(folder / "in")
                shutil.rmtree(folder / "out")
            for count, peak in peaks.items():
                goal = "<= 1.03" if count == work.most else ""
                row = peak / 2**20, peak / peaks[work.few]
                yield Measurement("memory", f"{name}, {count} photos", "peak", *row, goal, "MiB")
