"""Score-CAM, Ablation-CAM and occlusion: masks, constants and windows."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from camcli import explain
from camcli.capture.evidence import Observation
from camcli.capture.forward import Pass, Watch
from camcli.capture.hooks import borrowed
from camcli.capture.target_parser import parse_target
from camcli.capture.windows import Window
from tests.support.networks import GapNet
from tests.support.oracles import CLASS


def test_scorecam_masks_with_a_constant_channel(gap_net: GapNet, images: Tensor) -> None:
    """A constant channel masks the whole image, so the score is that of a black image."""
    nn.init.zeros_(gap_net.last[0].weight[1])
    nn.init.constant_(gap_net.last[0].bias, 0.3)
    with borrowed(gap_net):
        run = Pass(Watch(gap_net, ("last",)), (images,))
        observation = Observation(run, [parse_target(CLASS)])
        (shown,) = observation.evidence(observation.scored[0], at_layers=True)
        masked = shown["masked"]
    black = gap_net(torch.zeros_like(images))[:, CLASS].detach()
    torch.testing.assert_close(masked[:, 1], black)
    assert not torch.isclose(masked[:, 0], black).any()


def test_ablationcam_is_independent_of_a_constant_in_the_score(
    gap_net: GapNet, images: Tensor
) -> None:
    expected = explain(gap_net, images, "ablationcam", CLASS)
    for constant in (-100.0, -float(expected.scores[0])):
        with torch.no_grad():
            gap_net.fc.bias += constant
        found = explain(gap_net, images, "ablationcam", CLASS).maps
        torch.testing.assert_close(found, expected.maps, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("height", "width"), [(30, 26), (7, 7), (33, 8)])
@pytest.mark.parametrize(("size", "stride"), [(7, 7), (7, 1), (5, 3)])
def test_occlusion_windows_cover_every_pixel(
    height: int, width: int, size: int, stride: int
) -> None:
    rows, columns = Window(size, stride).covering(height, width)
    assert rows.shape[1] == height
    assert columns.shape[1] == width
    assert rows.any(0).all()
    assert columns.any(0).all()
