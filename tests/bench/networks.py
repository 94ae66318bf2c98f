"""Sections that compare explanations with forward passes of the same network."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from camcli import explain, load
from camcli.capture.hooks import borrowed, tapped
from camcli.capture.windows import Window
from camcli.engine.explain import Explanation
from camcli.evaluation.run import run_study
from camcli.evaluation.study import Study
from camcli.images.source import Source
from camcli.models.fold_batchnorm import fold_batchnorm
from camcli.models.model import Model
from camcli.models.precision import PRECISIONS
from camcli.runs.options import InputOptions
from camcli.runs.parallel import models_for, run_windows
from tests.bench.clock import Contender, Measurement, against
from tests.bench.workload import (
    Workload,
    batches_of,
    forward_of,
    make_photos,
    plain_and_folded,
    weights_of,
)

CHEAP = ("gradcam", "gradcam++", "hirescam", "layercam")
"""Methods that cost one backward pass of the head in addition to the forward pass."""


def engine(work: Workload) -> Iterator[Measurement]:
    """Compare methods, as the command runs them, with the forward pass of the plain network."""
    for name in work.of("resnet50", "densenet121", "mobilenet_v2", "vgg16", "squeezenet1_0"):
        plain, model = plain_and_folded(name, work)
        images = work.input()
        contenders = {
            "forward": forward_of(plain, images),
            "folded forward": forward_of(model.module, images),
            "folded forward, as the command divides it": _divided(model, images),
        }
        for method in (*CHEAP, "guided-backprop"):
            contenders[method] = partial(explain, model, images, method)
        # Nothing is recorded for a Sequential: its layer is found in a trace, once.
        contenders["gradcam, bare module"] = partial(explain, nn.Sequential(plain), images)
        targets = ["pred", "top2"]
        contenders["gradcam, 2 targets"] = partial(explain, model, images, "gradcam", targets)
        with borrowed(model.module):
            with tapped(model.module, str(model.layer)) as tap:
                scores = model.module(images)
            best = scores.amax(1).sum()
        assert tap.acts is not None
        contenders["head backward"] = partial(
            torch.autograd.grad, best, tap.acts, retain_graph=True
        )
        most = {"vgg16": "<= 1.15", "squeezenet1_0": "<= 1.12"}.get(name, "<= 1.05")
        cheap = (*CHEAP, "gradcam, bare module")
        goals = {**dict.fromkeys(cheap, most), "guided-backprop": "<= 2.5"}
        yield from against("forward", contenders, work.repeats, ("engine", name), goals)


def _divided(model: Model, images: Tensor) -> Contender:
    """Return the forward pass of a batch by the workers of `camcli explain`."""

    def forward(module: nn.Module, part: Sequence[Tensor]) -> None:
        forward_of(module, part)()

    workers = [partial(forward, one.module) for one in models_for(model, len(images))]
    return lambda: [*run_windows(workers, [images])]


def precision(work: Workload) -> Iterator[Measurement]:
    """Compare Grad-CAM in half precision with fp32: its time, and the correlation of its maps."""
    for name in work.of("mini", "resnet50"):
        explained: dict[str, Callable[[], Explanation]] = {}
        for each in PRECISIONS:
            model = fold_batchnorm(load(name, weights_of(name), precision=each, device=work.device))
            photos = islice(cycle(sorted(work.photos.glob("*.jp*g"))), min(work.batch, work.images))
            (images,) = batches_of(model, [*photos], work.batch)
            explained[each] = partial(explain, model, images.to(model.dtype), "gradcam")
        case = f"{name}, {len(images)} photos"
        goals = {"bf16": "<= 0.6"}  # on a processor with instructions for it
        yield from against("fp32", explained, work.repeats, ("precision", case), goals)
        maps = {each: run().maps.flatten(1) for each, run in explained.items()}
        full = maps.pop("fp32")
        for each, half in maps.items():
            pairs = zip(full, half, strict=True)
            least = min(float(torch.corrcoef(torch.stack(pair))[0, 1]) for pair in pairs)
            what = f"{each}, least correlation"
            yield Measurement("precision", case, what, least, least, ">= 0.99", "with fp32")


def occlusion(work: Workload) -> Iterator[Measurement]:
    """Compare occlusion of one image with the forward passes of all its covered copies."""
    window = Window(32, 16)
    for name in work.of("vgg16", "resnet50"):
        plain, model = plain_and_folded(name, work)
        image = work.input(1)
        rows, columns = (len(covered) for covered in window.covering(*image.shape[2:]))
        covered = image.expand(rows * columns, -1, -1, -1)

        def naive(plain: nn.Module = plain, covered: Tensor = covered) -> None:
            for batch in covered.split(window.batch_size):
                forward_of(plain, batch.contiguous(memory_format=torch.channels_last))()

        contenders = {
            "every window": naive,
            "occlusion": partial(explain, model, image, "occlusion", window=window),
        }
        goal = {"vgg16": "<= 0.4", "resnet50": "<= 0.75"}.get(name, "")
        place, rounds = ("occlusion", f"{name}, {len(covered)} windows"), min(3, work.repeats)
        yield from against("every window", contenders, rounds, place, {"occlusion": goal})


def perturbation(work: Workload) -> Iterator[Measurement]:
    """Compare Score-CAM with a forward pass per channel, and Grad-CAM++ of a softmax with one."""
    for name in work.of("mini"):
        model = fold_batchnorm(load(name, weights_of(name), device=work.device))
        (image,) = batches_of(model, sorted(work.photos.glob("*.jp*g"))[:1], 1)
        with borrowed(model.module), tapped(model.module, str(model.layer)) as tap:
            model.module(image)
        passes = -(-tap.detached.shape[1] // work.batch)
        images = image.repeat(work.batch, 1, 1, 1).contiguous(memory_format=torch.channels_last)

        def every(model: Any = model, images: Tensor = images, passes: int = passes) -> None:
            for _ in range(passes):
                forward_of(model.module, images)()

        window = Window(batch_size=work.batch)
        for method, base, forwards, goal in (
            ("scorecam", f"{passes * work.batch} masked images", every, "<= 1.02"),
            ("gradcam++softmax", "forward", forward_of(model.module, image), ""),
        ):
            run = partial(explain, model, image, method, window=window)
            rounds, place = min(3, work.repeats), ("perturbation", f"{name}, one photo")
            contenders = {base: forwards, method: run}
            yield from against(base, contenders, rounds, place, {method: goal})


def evaluate(work: Workload) -> Iterator[Measurement]:
    """Compare insertion and deletion, as the command measures them, with bare forward passes.

    There are as many as it takes: one to explain an image, and one for each step of the two curves
    of each map.
    """
    with tempfile.TemporaryDirectory() as made:
        photos = make_photos(Path(made) / "in", work, min(2 * work.batch, work.images))
        sources = [Source(photo, Path(photo.name)) for photo in photos]
        for name in work.of("squeezenet1_0"):
            plain, model = plain_and_folded(name, work)
            metrics, inputs = ("insertion", "deletion"), InputOptions(batch_size=work.batch)
            study = Study(sources, model, ("gradcam",), metrics, inputs=inputs)
            batches = batches_of(model, photos, work.batch)
            passes = 1 + 2 * (study.protocol.curve_steps + 1) * len(study.rows)

            def forwards(
                plain: nn.Module = plain, batches: Any = batches, passes: int = passes
            ) -> None:
                for batch in batches:
                    for _ in range(passes):
                        forward_of(plain, batch)()

            contenders = {
                "forward passes": forwards,
                "insertion and deletion": lambda study=study: [*run_study(study)],
            }
            place = "evaluate", f"{name}, {len(photos)} photos, {passes} passes each"
            goals = {"insertion and deletion": "<= 1.02"}
            yield from against("forward passes", contenders, min(2, work.repeats), place, goals)
