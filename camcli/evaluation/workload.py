"""The number of inputs that the network runs for each image of an evaluation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from camcli.capture.hooks import borrowed, tapped
from camcli.engine.survey import layouts_at
from camcli.evaluation.baselines import BASELINES
from camcli.evaluation.evidence import ROAD_SHARES
from camcli.evaluation.registry import Metric
from camcli.evaluation.study import MethodRunner
from camcli.methods.registry import METHODS
from camcli.models.exclusive import exclusive


def inputs_per_image(runner: MethodRunner, images: Tensor, metrics: Iterable[Metric]) -> float:
    """Return for how many inputs the network runs per image (N,3,H,W), as `runner` counts them.

    The target layer has to be known if a method needs one. Four images share those of their grid.
    """
    methods, protocol = runner.methods, runner.protocol
    needs = set[str]().union(*(metric.needs for metric in metrics))
    explained = _inputs(runner, images, methods)
    rows, steps = len(methods) + len(BASELINES), protocol.curve_steps + 1
    counts = {
        "masked_probability": rows,
        "mask_of_masked": explained,
        "insertion_curve": rows * steps,
        "deletion_curve": rows * steps,
        "road_morf": rows * len(ROAD_SHARES),
        "road_lerf": rows * len(ROAD_SHARES),
        "randomized_correlation": explained * protocol.sanity_steps,
    }
    found: float = sum(counts.get(name, 0) for name in needs)
    if "occlusion_map" in needs and "occlusion" not in methods:
        found += _inputs(runner, images, ["occlusion"])
    if needs - _OF_GRIDS:
        found += explained
    if needs & _OF_GRIDS:
        sides = 2 if protocol.grid_image_size == "full" else 1
        found += _inputs(runner, images, methods, sides) / 4
    return found


_OF_GRIDS = {"grid_map", "grid_cell"}


def _inputs(runner: MethodRunner, images: Tensor, methods: Sequence[str], sides: int = 1) -> int:
    """Return for how many inputs the network runs to explain an image by these methods.

    `sides` times the size of `images` is its size.
    """
    needs = [METHODS[method].needs for method in methods]
    found = len(needs)
    if any("occluded" in of for of in needs):
        rows, columns = runner.window.covering(*(sides * side for side in images.shape[2:]))
        found += len(rows) * len(columns)
    if any("masked" in of for of in needs):
        found += _channels(runner, images[:1])
    return found


def _channels(runner: MethodRunner, image: Tensor) -> int:
    """Return the number of channels at the target layer."""
    module, path = runner.model.module, runner.layer or runner.model.layer
    assert path is not None
    with exclusive(module), borrowed(module), torch.no_grad():
        layout = layouts_at(module, [path], (image,))[path]
        with tapped(module, path, layout) as tap:
            module(image)
    return tap.detached.shape[1]
