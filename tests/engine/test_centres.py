"""Centres: heat lies where its cause is, for networks, image shapes, fits and orientations."""

from __future__ import annotations

import itertools
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from camcli.capture.hooks import borrowed
from camcli.engine import survey
from camcli.engine.survey import centres_at, layouts_at
from camcli.images.preprocess import FITS
from tests.support.dots import SHAPES, STORED, centre_of, offsets
from tests.support.linear_networks import LAYERS, Probe
from tests.support.networks import GapNet

SLOW = ("vgg11", "convnext_tiny", "swin_t", "vit_b_16")
NETWORKS = [pytest.param(name, marks=[pytest.mark.zoo] * (name in SLOW)) for name in LAYERS]


@cache
def probe(name: str, *, sharp: bool) -> Probe:
    return Probe(name, sharp=sharp)


@pytest.mark.parametrize("name", NETWORKS)
def test_centres_are_those_of_the_gradient(name: str) -> None:
    """A cell's centre is the centre of gravity of what it sees (Araujo et al. 2019)."""
    net, side = probe(name, sharp=False), 224 if name == "vit_b_16" else 512
    images = torch.ones(1, 3, side, side, requires_grad=True)
    with borrowed(net):
        centres = centres_at(net, [net.path], (images,))[net.path]
        layout = layouts_at(net, [net.path], (images,))[net.path]
        net(images)
        maps = layout.to_map(net.noted).mean(1)[0]
        i, j = len(maps) // 2, maps.shape[1] // 2 - 1
        (seen,) = torch.autograd.grad(maps[i, j], images)
    x, y = centre_of(seen[0].sum(0).numpy())
    assert centres is not None
    assert abs(centres.x + j * centres.dx - x) < 0.1 * centres.dx
    assert abs(centres.y + i * centres.dy - y) < 0.1 * centres.dy


@pytest.mark.parametrize("name", NETWORKS)
def test_heat_lies_where_its_cause_is(name: str, tmp_path: Path) -> None:
    """A soft dot anywhere in a photo has its heat on it, to a tenth of a cell."""
    net, file = probe(name, sharp=True), tmp_path / "dot.png"
    cases = zip(SHAPES, itertools.cycle(FITS), itertools.cycle(STORED), strict=False)
    for number, (shape, fit, orientation) in enumerate(cases):
        if name == "vit_b_16" and fit == "full":
            continue  # it takes one size only
        parts, centres = offsets(net, shape, fit, orientation, file, number)
        assert np.abs(centres).max() < 0.1, (shape, fit, orientation)
        if name == "resnet18" and fit == "preset":
            assert parts == pytest.approx([0.48, 0.48], abs=0.03), "15.5 pixels of 32"


def test_a_network_is_traced_once_for_images_of_all_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    traced = []

    def lines_at(module: nn.Module, paths: list[str], inputs: tuple[torch.Tensor]) -> object:
        traced.append(inputs[0].shape[2:])
        return real(module, paths, inputs)

    real = survey.lines_at
    monkeypatch.setattr(survey, "lines_at", lines_at)
    net, sizes = GapNet(), [(30, 26), (41, 50)]
    resizing = nn.Sequential(nn.Upsample((40, 40)), net.trunk, net.last)
    for module, path in ((net, "last"), (resizing, "2")):
        found = [centres_at(module, [path], (torch.rand(1, 3, *size),)) for size in sizes * 2]
        assert found[:2] == found[2:]
    assert traced == [sizes[0], *sizes]


def test_a_layer_that_runs_twice_has_no_centres() -> None:
    part = nn.Conv2d(3, 3, 3, stride=2)
    net = nn.Sequential(part, part)
    assert centres_at(net, ["0"], (torch.rand(1, 3, 30, 26),)) == {"0": None}
