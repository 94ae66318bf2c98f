"""Grad-CAM++ and its softmax form where alpha is small, negative, undefined or at a pole."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from camcli import Model, explain
from camcli.methods.maps import gradcam_plusplus, gradcam_plusplus_softmax
from camcli.models.head import Head
from tests.support.networks import DeepHead, GapNet, with_weights
from tests.support.oracles import CLASS


@pytest.mark.parametrize("scale", [1.0, 0.08, 0.02, 0.006, 1e-6, 1e-12])
def test_channels_with_small_gradients_keep_their_weights(scale: float) -> None:
    """In a GAP network `w_k = ReLU(w) / (2 + w F_k)` up to a common factor, also for small w."""
    weights = torch.tensor([1.0, 0.5, -0.3, 0.8]) * scale
    # Each channel is active at a pixel of its own, so that the map shows its weight there.
    acts = torch.zeros(1, 4, 7, 7)
    acts[0, range(4), range(4), range(4)] = 2.0
    grads = (weights / 49)[None, :, None, None].expand_as(acts)
    found = gradcam_plusplus(acts, grads)[0].diagonal()[:4].double()
    mean = 2.0 / 49
    expected = [2.0 * max(w, 0) / (2 + w * mean) for w in weights.double().tolist()]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_negative_activations_give_finite_maps() -> None:
    """For a negative sum of A, `2 + g sum A` would be zero at some g, here at 2/11."""
    acts = torch.full((1, 1, 4, 4), -1.0)
    acts[0, 0, 0, 0] = 4.0
    total = float(acts.sum())
    assert total < 0
    for gradient in (-2 / total, -2.0000001 / total, -20 / total):
        grads = torch.full_like(acts, gradient)
        found = gradcam_plusplus(acts, grads)
        # alpha is 1/2, as for a sum of zero.
        torch.testing.assert_close(found, (acts[:, 0] * 16 * gradient / 2).relu())
        assert found.isfinite().all()


@pytest.mark.parametrize(
    ("total", "cube", "alpha"),
    [
        *((1.0, -9.0, 1.0), (1.0, -8.0, 1.0), (1.0, -7.0, 0.0), (1.0, -16.0, 1 / 8)),
        *((0.0, -7.0, 0.5), (-3.0, -7.0, 0.5), (0.5, -10.0, 0.5), (0.5, -9.0, 1 / 1.5)),
    ],
)
def test_softmax_alpha_is_clamped(total: float, cube: float, alpha: float) -> None:
    """D = 2, <D^2> = 3 and <D^3> give Y'' = 1, Y''' = -10 - <D^3>, alpha = 1 / (2 + total Y''')."""
    acts = torch.full((1, 1, 2, 2), total / 4)
    acts[0, 0, 0, 0] += 1
    acts[0, 0, 1, 1] -= 1
    evidence = [torch.full_like(acts, value) for value in (2.0, 3.0, cube)]
    found = gradcam_plusplus_softmax(acts, *evidence)
    torch.testing.assert_close(found, (4 * alpha * 2.0 * acts[:, 0]).relu())
    assert found.any() == (alpha > 0)


def test_softmax_alpha_is_one_half_where_both_derivatives_are_zero() -> None:
    acts = torch.ones(1, 1, 2, 2)
    one, root = torch.ones_like(acts), torch.full_like(acts, 1.0)
    found = gradcam_plusplus_softmax(acts, root, one, -2 * one)
    torch.testing.assert_close(found, torch.full((1, 2, 2), 4 * 0.5))


def test_softmax_maps_of_a_class_with_probability_near_one(gap_net: GapNet, images: Tensor) -> None:
    """1 - Y is far below the resolution of float32, yet the float32 map must not be noise."""
    with torch.no_grad():
        gap_net.fc.bias[CLASS] += 25
    exact = explain(gap_net, images, "gradcam++softmax", CLASS)
    assert exact.probabilities is not None
    assert 1e-15 < float(1 - exact.probabilities.max()) < 1e-9
    found = explain(gap_net.float(), images.float(), "gradcam++softmax", CLASS).maps.double()
    scale = exact.maps.amax((1, 2), keepdim=True)
    assert (scale > 0).all()
    torch.testing.assert_close(found / scale, exact.maps / scale, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("has_head", [True, False])
def test_targets_share_the_backward_passes_of_the_classes(
    has_head: bool, gap_net: GapNet, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Model(gap_net, layer="last", head=Head(gap_net.fc) if has_head else None)
    explain(model, images)  # finds where the layer's cells lie
    passes, grad = [], torch.autograd.grad
    monkeypatch.setattr(
        torch.autograd, "grad", lambda *a, **k: (passes.append(1), grad(*a, **k))[1]
    )
    explain(model, images, ["gradcam++softmax"], [0, 1, 2])
    assert len(passes) == (4 if has_head else 5), "a mean, the classes at once, and the targets"


class ClassMaps(GapNet):
    """A network whose scores are means of class maps, behind a ReLU or not, as SqueezeNet's."""

    def __init__(self, *, inner: bool, outer: bool) -> None:
        super().__init__(act=nn.Tanh)
        self.fc, self.inner, self.outer = nn.Conv2d(4, 5, 1), inner, outer

    def forward(self, x: Tensor) -> Tensor:
        acts = self.last(self.trunk(x))
        maps = self.fc(acts.relu() if self.inner else acts)
        return (maps.relu() if self.outer else maps).mean((2, 3))


class Scaled(ClassMaps):
    """A network whose scores are those of ClassMaps, and whose gradients are not."""

    def forward(self, x: Tensor) -> Tensor:
        scores = super().forward(x)
        return scores.detach() + 2 * (scores - scores.detach())


@pytest.mark.parametrize("kind", [ClassMaps, Scaled])
@pytest.mark.parametrize("inner", [False, True])
@pytest.mark.parametrize("outer", [False, True])
@pytest.mark.parametrize("sure", [0.0, 30.0])
def test_moments_by_a_head_are_the_sums_over_all_classes(
    kind: type[ClassMaps], inner: bool, outer: bool, sure: float, images: Tensor
) -> None:
    net = with_weights(kind(inner=inner, outer=outer))
    net.get_parameter("fc.bias").data[2] += sure
    scores = net(images).detach()
    found, expected = (
        explain(Model(net, layer="last", head=head), images, "gradcam++softmax", CLASS).maps
        for head in (Head(net.fc, rectified=inner), None)
    )
    assert expected.any()
    assert bool((scores.softmax(1).amax(1) > 1 - 1e-9).all()) == bool(sure)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12 * float(expected.max()))


def test_moments_of_a_network_that_refuses_vectorised_passes(
    deep_head: DeepHead, images: Tensor
) -> None:
    expected = explain(deep_head, images, "gradcam++softmax", CLASS, layer="last").maps

    def branch(gradient: Tensor) -> None:
        assert gradient.sum() < 1e9  # which vmap refuses

    def watch(_module: nn.Module, _given: object, output: Tensor) -> None:
        if output.requires_grad:
            output.register_hook(branch)

    deep_head.pool.register_forward_hook(watch)
    found = explain(deep_head, images, "gradcam++softmax", CLASS, layer="last").maps
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-15)


def test_zero_gradients_give_a_map_of_zeros() -> None:
    acts = torch.rand(2, 3, 4, 4)
    assert not gradcam_plusplus(acts, torch.zeros_like(acts)).any()
