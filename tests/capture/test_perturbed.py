"""Methods that run a network on changed inputs or features share their forward passes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from camcli import Model, explain
from camcli.capture import perturbed
from camcli.capture.windows import Window
from camcli.methods.maps import scorecam
from tests.support.networks import GapNet
from tests.support.oracles import CLASS


@pytest.mark.parametrize(
    ("method", "window", "inputs_per_image"),
    [("occlusion", Window(8, 8, batch_size=5), 4 * 4), ("scorecam", Window(batch_size=5), 4)],
)
def test_all_targets_share_their_forward_passes(
    method: str, window: Window, inputs_per_image: int, gap_net: GapNet, images: Tensor
) -> None:
    sizes: list[int] = []
    gap_net.fc.register_forward_hook(lambda _m, args, _o: sizes.append(len(args[0])))
    model = Model(gap_net, layer="last", head=None)
    explain(model, images)  # surveys the network
    sizes.clear()
    one = explain(model, images, method, window=window)
    passes = len(sizes)
    assert sum(sizes) == len(images) * (1 + inputs_per_image)
    assert max(sizes) == 5
    many = explain(model, images, [method], ["pred", 0, 1], window=window)
    assert len(sizes) == 2 * passes
    assert torch.equal(many[0].maps, one.maps)


def test_equal_masks_share_a_forward_pass(gap_net: GapNet, images: Tensor) -> None:
    """Two channels are constant, and two are equal but for a factor and a constant."""
    for parameter in (gap_net.last[0].weight.data, gap_net.last[0].bias.data):
        parameter[1:3] = 0
        parameter[3] = 2 * parameter[0]
    gap_net.last[0].bias.data[1] = 0.7
    acts = gap_net.last(gap_net.trunk(images)).detach()
    masks = interpolate(acts[:, :1], images.shape[2:], mode="bilinear")
    masks -= masks.amin((2, 3), keepdim=True)
    masks /= masks.amax((2, 3), keepdim=True)
    black, seen = gap_net(0 * images), gap_net(images * masks)
    scores = torch.stack([seen, black, black, seen], 2)[:, CLASS].detach()
    model, sizes = Model(gap_net, layer="last", head=None), list[int]()
    gap_net.fc.register_forward_hook(lambda _m, args, _o: sizes.append(len(args[0])))
    explain(model, images)  # surveys the network
    sizes.clear()
    found = explain(model, images, "scorecam", CLASS).maps
    assert sum(sizes) == len(images) * (1 + 2)
    torch.testing.assert_close(found, scorecam(acts, scores), rtol=1e-9, atol=1e-12)


def test_ablationcam_runs_the_trunk_once_for_several_channels(
    gap_net: GapNet, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[int] = []
    gap_net.trunk.register_forward_hook(lambda *_: runs.append(1))
    model = Model(gap_net, layer="last", head=None)
    explain(model, images)  # surveys the network
    runs.clear()
    expected = explain(model, images, ["ablationcam"], ["pred", 0, 1])
    assert len(runs) == 2
    numbers_of_one_copy = 3 * 4 * 6 * 5
    monkeypatch.setattr(perturbed, "_COPIES", 3 * numbers_of_one_copy)
    found = explain(model, images, ["ablationcam"], ["pred", 0, 1])
    assert len(runs) == 2 + 3, "four channels, three at a time"
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.maps, other.maps, rtol=1e-12, atol=1e-15)


class Branching(GapNet):
    """Adds an earlier map after its last layer, and may branch on values, which vmap refuses."""

    def __init__(self, *, branches: bool) -> None:
        super().__init__()
        self.branches, self.skip = branches, nn.Conv2d(6, 4, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        below = self.trunk(x)
        summed = self.last(below) + self.skip(below)
        if self.branches and bool(summed.sum() > 1e9):
            return self.fc(summed.amax((2, 3)))
        return self.fc(self.pool(summed).flatten(1))


@pytest.mark.parametrize("branches", [False, True])
def test_ablationcam_of_a_network_with_a_skip_connection(branches: bool, images: Tensor) -> None:
    torch.manual_seed(0)
    net = Branching(branches=branches).double()
    found = explain(net, images, "ablationcam", 3, layer="last").maps
    acts, skip = net.last(net.trunk(images)).detach(), net.skip(net.trunk(images)).detach()
    falls = torch.einsum("nkij,k->nk", acts, net.fc.weight[3].detach()) / acts[0, 0].numel()
    expected = torch.einsum("nk,nkij->nij", falls, acts).relu()
    assert skip.any()
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
