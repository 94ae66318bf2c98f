"""Each method beside a slow implementation of its paper in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from camcli import explain
from camcli.capture.windows import Window
from camcli.methods.maps import cam
from tests.support.networks import OF_MAPS, DeepHead, GapNet
from tests.support.oracles import CLASS, ORACLES, acts_and_grads


@pytest.mark.parametrize("name", OF_MAPS)
def test_methods_agree_with_their_papers(name: str, gap_net: GapNet, images: Tensor) -> None:
    expected = ORACLES[name](gap_net, images)
    found = explain(gap_net, images, name, CLASS, window=Window(7, 3)).maps.numpy()
    assert found.shape == expected.shape
    assert np.abs(expected).max() > 0, "an oracle of zeros would test nothing"
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize(
    "name",
    [m.name for m in OF_MAPS.values() if m.at_layer and "pooled" not in m.needs and not m.image],
)
def test_methods_at_a_layer_need_no_linear_head(
    name: str, deep_head: DeepHead, images: Tensor
) -> None:
    expected = ORACLES[name](deep_head, images)
    found = explain(deep_head, images, name, CLASS, layer="last").maps.numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-15)


def test_cam_is_proportional_to_gradcam_before_the_relu(gap_net: GapNet, images: Tensor) -> None:
    acts, grads = (torch.from_numpy(x) for x in acts_and_grads(gap_net, images))
    summed = (grads.mean((2, 3), keepdim=True) * acts).sum(1)
    found = explain(gap_net, images, "cam", CLASS).maps
    torch.testing.assert_close(found, summed * acts[0, 0].numel(), rtol=1e-12, atol=1e-14)
    assert (found < 0).any(), "CAM is signed"


def test_cam_is_the_output_channel_of_a_convolutional_head() -> None:
    acts, weights, bias = torch.rand(2, 4, 5, 5), torch.randn(2, 4), torch.randn(2)
    head = F.conv2d(acts, weights[:, :, None, None], bias)
    found = cam(acts, weights, bias)
    torch.testing.assert_close(found, torch.stack([head[0, 0], head[1, 1]]))


def test_gradcam_hirescam_and_xgradcam_agree_for_global_average_pooling(
    gap_net: GapNet, images: Tensor
) -> None:
    found = explain(gap_net, images, ["gradcam", "hirescam", "xgradcam"], CLASS)
    for shown in found[1:]:
        torch.testing.assert_close(shown.maps, found[0].maps, rtol=1e-9, atol=1e-15)
