"""Maps of several layers fused into one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from camcli import explain
from camcli.capture.windows import Window
from camcli.errors import MethodError
from camcli.methods.fusion import fuse
from tests.support.metric_oracles import bilinear
from tests.support.networks import GapNet


@pytest.mark.parametrize("how", ["mean", "product"])
def test_fused_maps(how: str, gap_net: GapNet, images: Tensor) -> None:
    methods, layers = ["occlusion", "layercam"], ["trunk", "last"]
    occlusion, one = explain(gap_net, images, methods, 1, layers, window=Window(8, 8), fuse=how)
    assert occlusion.layer is None
    assert one.layer == f"{how}(trunk, last)"
    scaled = []
    for shown in explain(gap_net, images, "layercam", 1, layer=layers):
        maps = [bilinear(values.numpy(), 30, 26, shown.centres) for values in shown.maps]
        large = torch.from_numpy(np.stack(maps))
        assert (large.amax((1, 2)) > 0).all()
        scaled.append(torch.stack([each / each.max() for each in large]))
    expected = (scaled[0] + scaled[1]) / 2 if how == "mean" else scaled[0] * scaled[1]
    torch.testing.assert_close(one.maps, expected)
    assert one.maps.min() >= 0
    assert one.maps.max() <= 1


def test_only_positive_values_are_fused() -> None:
    one, other = torch.tensor([[[2.0, -4.0]]]), torch.tensor([[[-1.0, -3.0]]])
    assert fuse([one, other], "mean").tolist() == [[[0.5, 0.0]]]
    assert fuse([one, one], "product").tolist() == [[[1.0, 0.0]]]


def test_empty_maps_fuse_to_an_empty_map(gap_net: GapNet, images: Tensor) -> None:
    nn.init.zeros_(gap_net.fc.weight)
    for how in ("mean", "product"):
        found = explain(gap_net, images, "gradcam", 1, layer=["trunk", "last"], fuse=how)
        assert not found[0].maps.any()


def test_invalid_fusions(gap_net: GapNet, images: Tensor) -> None:
    for names, layers, how, message in (
        (["gradcam"], ["last"], "mean", "fusion 'mean' needs two layers or more, got 1"),
        (["gradcam"], ["last", None], "meen", "unknown fusion 'meen': did you mean 'mean'"),
        (["guided"], ["last", None], "mean", "'guided' gives images, and only maps can be fused"),
        (["cam"], ["trunk", None], "mean", "reads the layer before the pooling, 'last', not"),
    ):
        with pytest.raises(MethodError, match=message):
            explain(gap_net, images, names, 1, layers, fuse=how)
    with pytest.raises(ValueError, match="no layer given"):
        explain(gap_net, images, layer=[])
