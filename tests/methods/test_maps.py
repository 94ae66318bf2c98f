"""Each method against a slow re-implementation of its paper in float64."""

from __future__ import annotations

import inspect
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from camcli import explain
from camcli.capture.evidence import Evidence, Observation
from camcli.capture.forward import Pass, Watch
from camcli.capture.hooks import borrowed
from camcli.capture.targets import parse_target
from camcli.capture.windows import Window
from camcli.methods.maps import (
    cam,
    eigencam,
    gradcam,
    gradcam_plusplus,
    gradcam_plusplus_softmax,
    xgradcam,
)
from camcli.methods.registry import EVIDENCE, METHODS, register
from tests.support.networks import DeepHead, GapNet

CLASS = 3


def split(net: GapNet, images: Tensor) -> tuple[Tensor, Tensor]:
    """Activations of the last layer, as a leaf, and the class's scores computed from them."""
    acts = net.last(net.trunk(images)).detach().requires_grad_()
    return acts, net.fc(net.pool(acts).flatten(1))[:, CLASS]


def plain_gradient(net: GapNet, images: Tensor) -> tuple[np.ndarray, np.ndarray]:
    acts, scores = split(net, images)
    (grads,) = torch.autograd.grad(scores.sum(), acts)
    return acts.detach().numpy(), grads.numpy()


def bilinear(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear upsampling with half-pixel centres, written out."""
    h, w = values.shape
    out = np.zeros((height, width))
    for i in range(height):
        for j in range(width):
            y = min(max((i + 0.5) * h / height - 0.5, 0), h - 1)
            x = min(max((j + 0.5) * w / width - 0.5, 0), w - 1)
            y0, x0 = int(y), int(x)
            y1, x1 = min(y0 + 1, h - 1), min(x0 + 1, w - 1)
            top = values[y0, x0] * (1 - x + x0) + values[y0, x1] * (x - x0)
            bottom = values[y1, x0] * (1 - x + x0) + values[y1, x1] * (x - x0)
            out[i, j] = top * (1 - y + y0) + bottom * (y - y0)
    return out


def paper_cam(net: GapNet, images: Tensor) -> np.ndarray:
    acts, weights = split(net, images)[0].detach().numpy(), net.fc.weight.detach().numpy()
    maps = np.zeros((len(acts), *acts.shape[2:]))
    for n in range(acts.shape[0]):
        for k in range(acts.shape[1]):
            maps[n] += weights[CLASS, k] * acts[n, k]
    return maps


def paper_gradcam(net: GapNet, images: Tensor) -> np.ndarray:
    acts, grads = plain_gradient(net, images)
    maps = np.zeros((len(acts), *acts.shape[2:]))
    for n in range(acts.shape[0]):
        for k in range(acts.shape[1]):
            alpha = sum(grads[n, k].flat) / grads[n, k].size
            maps[n] += alpha * acts[n, k]
    return np.maximum(maps, 0)


def paper_gradcam_plusplus(net: GapNet, images: Tensor) -> np.ndarray:
    """Equation 10 with Y = exp(S) and the true derivatives of Y, one pixel at a time."""
    maps = []
    for image in images:
        acts, score = split(net, image[None])
        y = score.exp()
        (first,) = torch.autograd.grad(y, acts, create_graph=True)
        weights = []
        for k in range(acts.shape[1]):
            total, weight = acts[0, k].sum().item(), 0.0
            for i, j in np.ndindex(*acts.shape[2:]):
                d1 = first[0, k, i, j]
                d2 = torch.autograd.grad(d1, acts, create_graph=True)[0][0, k, i, j]
                d3 = torch.autograd.grad(d2, acts, retain_graph=True)[0][0, k, i, j]
                denominator = (2 * d2 + total * d3).item()
                alpha = d2.item() / denominator if denominator else 0.0
                weight += alpha * max(d1.item(), 0)
            weights.append(weight)
        summed = sum(w * a for w, a in zip(weights, acts[0].detach().numpy(), strict=True))
        maps.append(np.maximum(summed, 0) / y.item())  # exp(S), the factor common to all weights
    return np.stack(maps)


def paper_gradcam_plusplus_softmax(net: GapNet, images: Tensor) -> np.ndarray:
    """Equation 10 with Y = softmax(S) and autograd's derivatives of Y, one pixel at a time."""
    maps = []
    for image in images:
        acts = net.last(net.trunk(image[None])).detach().requires_grad_()
        y = net.fc(net.pool(acts).flatten(1)).softmax(1)[0, CLASS]
        (first,) = torch.autograd.grad(y, acts, create_graph=True)
        summed = np.zeros(acts.shape[2:])
        for k in range(acts.shape[1]):
            total, weight = acts[0, k].sum().item(), 0.0
            for i, j in np.ndindex(*acts.shape[2:]):
                d1 = first[0, k, i, j]
                d2 = torch.autograd.grad(d1, acts, create_graph=True)[0][0, k, i, j]
                d3 = torch.autograd.grad(d2, acts, retain_graph=True)[0][0, k, i, j]
                denominator = (2 * d2 + total * d3).item()
                alpha = d2.item() / denominator if denominator else 0.5
                assert 0 <= alpha <= 1, "nothing is cut off"
                weight += alpha * max(d1.item(), 0)
            summed += weight * acts[0, k].detach().numpy()
        maps.append(np.maximum(summed, 0) / y.item())
    return np.stack(maps)


def paper_hirescam(net: GapNet, images: Tensor) -> np.ndarray:
    acts, grads = plain_gradient(net, images)
    maps = np.zeros((len(acts), *acts.shape[2:]))
    for n, k, i, j in np.ndindex(*acts.shape):
        maps[n, i, j] += grads[n, k, i, j] * acts[n, k, i, j]
    return np.maximum(maps, 0)


def paper_layercam(net: GapNet, images: Tensor) -> np.ndarray:
    acts, grads = plain_gradient(net, images)
    maps = np.zeros((len(acts), *acts.shape[2:]))
    for n, k, i, j in np.ndindex(*acts.shape):
        maps[n, i, j] += max(grads[n, k, i, j], 0) * acts[n, k, i, j]
    return np.maximum(maps, 0)


def paper_xgradcam(net: GapNet, images: Tensor) -> np.ndarray:
    acts, grads = plain_gradient(net, images)
    maps = np.zeros((len(acts), *acts.shape[2:]))
    for n in range(acts.shape[0]):
        for k in range(acts.shape[1]):
            total = acts[n, k].sum()
            assert total > 0, "the formula of the paper holds"
            maps[n] += (acts[n, k] / total * grads[n, k]).sum() * acts[n, k]
    return np.maximum(maps, 0)


def principal(maps: np.ndarray) -> np.ndarray:
    """`O V_1` by NumPy's decomposition of each image's (h w, C)."""
    found = []
    for image in maps:
        flat = image.reshape(len(image), -1).T
        direction = np.linalg.svd(flat)[2][0]
        direction = direction * (1 if direction.sum() >= 0 else -1)
        found.append((flat @ direction).reshape(image.shape[1:]))
    return np.stack(found)


def paper_eigencam(net: GapNet, images: Tensor) -> np.ndarray:
    maps = principal(plain_gradient(net, images)[0])
    assert (maps >= 0).all(), "of positive activations the projection is positive by itself"
    return maps


def paper_eigengradcam(net: GapNet, images: Tensor) -> np.ndarray:
    acts, grads = plain_gradient(net, images)
    return np.maximum(principal(acts * grads), 0)


def paper_scorecam(net: GapNet, images: Tensor) -> np.ndarray:
    """Algorithm 1, one channel at a time, black image and all."""
    maps = []
    for image in images:
        acts = split(net, image[None])[0][0].detach().numpy()
        black = net(torch.zeros_like(image)[None])[0, CLASS].item()
        increases = []
        for channel in acts:
            mask = bilinear(channel, *image.shape[1:])
            assert mask.max() > mask.min()
            mask = (mask - mask.min()) / (mask.max() - mask.min())
            score = net((image * torch.from_numpy(mask))[None])[0, CLASS].item()
            increases.append(score - black)
        weights = np.exp(increases) / np.exp(increases).sum()
        maps.append(np.maximum(sum(w * a for w, a in zip(weights, acts, strict=True)), 0))
    return np.stack(maps)


def paper_ablationcam(net: GapNet, images: Tensor) -> np.ndarray:
    """The paper's weights `(S - S_k) / S`, and the map times S, the factor common to all."""
    maps = []
    for image in images:
        acts, score = (x.detach() for x in split(net, image[None]))
        summed = torch.zeros(acts.shape[2:])
        for k in range(acts.shape[1]):
            without = acts.clone()
            without[0, k] = 0
            fallen = net.fc(net.pool(without).flatten(1))[0, CLASS]
            weight = (score - fallen) / score
            summed = summed + weight * acts[0, k] * score
        maps.append(summed.relu().detach().numpy())
    return np.stack(maps)


def paper_guided_backprop(net: GapNet, images: Tensor) -> np.ndarray:
    """Equation of sec. 3.4 layer by layer, the convolutions transposed by hand."""
    first, second = net.trunk[0], net.last[0]
    below = first(images)
    above = second(below.relu())
    _, grads = plain_gradient(net, images)
    signal = torch.from_numpy(grads)
    signal = signal * (above > 0) * (signal > 0)
    signal = transposed(second, signal, below)
    signal = signal * (below > 0) * (signal > 0)
    return transposed(first, signal, images).detach().numpy()


def transposed(conv: torch.nn.Conv2d, signal: Tensor, below: Tensor) -> Tensor:
    out = F.conv_transpose2d(signal, conv.weight, stride=conv.stride)
    return F.pad(out, (0, below.shape[3] - out.shape[3], 0, below.shape[2] - out.shape[2]))


def paper_guided(net: GapNet, images: Tensor) -> np.ndarray:
    coarse = paper_gradcam(net, images)
    fine = np.stack([bilinear(m, *images.shape[2:]) for m in coarse])
    return paper_guided_backprop(net, images) * fine[:, None]


def paper_occlusion(net: GapNet, images: Tensor, window: int, stride: int) -> np.ndarray:
    """A grey square at every position, and for each pixel the mean over those that cover it."""
    height, width = images.shape[2:]
    score = net(images)[:, CLASS].detach().numpy()
    total, count = np.zeros((len(images), height, width)), np.zeros((height, width))
    for top in range(0, height - window + stride, stride):
        for left in range(0, width - window + stride, stride):
            covered = images.clone()
            covered[:, :, top : top + window, left : left + window] = 0
            fall = score - net(covered)[:, CLASS].detach().numpy()
            total[:, top : top + window, left : left + window] += fall[:, None, None]
            count[top : top + window, left : left + window] += 1
    assert count.min() >= 1
    return total / count


ORACLES = {
    "cam": paper_cam,
    "gradcam": paper_gradcam,
    "gradcam++": paper_gradcam_plusplus,
    "gradcam++softmax": paper_gradcam_plusplus_softmax,
    "hirescam": paper_hirescam,
    "layercam": paper_layercam,
    "xgradcam": paper_xgradcam,
    "eigencam": paper_eigencam,
    "eigengradcam": paper_eigengradcam,
    "scorecam": paper_scorecam,
    "ablationcam": paper_ablationcam,
    "guided-backprop": paper_guided_backprop,
    "guided": paper_guided,
    "occlusion": lambda net, images: paper_occlusion(net, images, window=7, stride=3),
}


@pytest.mark.parametrize("name", METHODS)
def test_method_is_its_paper(name: str, gap_net: GapNet, images: Tensor) -> None:
    expected = ORACLES[name](gap_net, images)
    found = explain(gap_net, images, name, CLASS, window=Window(7, 3)).maps.numpy()
    assert found.shape == expected.shape
    assert np.abs(expected).max() > 0, "an oracle of zeros would prove nothing"
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12 * np.abs(expected).max())


AT_ANY_LAYER = (
    *(
        "gradcam",
        "gradcam++",
        "gradcam++softmax",
        "hirescam",
        "layercam",
        "xgradcam",
        "eigencam",
        "eigengradcam",
    ),
    *("scorecam", "ablationcam"),
)


@pytest.mark.parametrize("name", AT_ANY_LAYER)
def test_gradient_methods_need_no_linear_head(
    name: str, deep_head: DeepHead, images: Tensor
) -> None:
    expected = ORACLES[name](deep_head, images)
    found = explain(deep_head, images, name, CLASS, layer="last").maps.numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-15)


def test_cam_is_gradcam_times_its_pixels_before_the_relu(gap_net: GapNet, images: Tensor) -> None:
    acts, grads = (torch.from_numpy(x) for x in plain_gradient(gap_net, images))
    summed = (grads.mean((2, 3), keepdim=True) * acts).sum(1)
    found = explain(gap_net, images, "cam", CLASS).maps
    torch.testing.assert_close(found, summed * acts[0, 0].numel(), rtol=1e-12, atol=1e-14)
    assert (found < 0).any(), "CAM is signed"


def test_cam_adds_the_bias_of_a_convolutional_head() -> None:
    acts, weights, bias = torch.rand(2, 4, 5, 5), torch.randn(2, 4), torch.randn(2)
    head = F.conv2d(acts, weights[:, :, None, None], bias)
    found = cam(acts, weights, bias)
    torch.testing.assert_close(found, torch.stack([head[0, 0], head[1, 1]]))


@pytest.mark.parametrize("scale", [1.0, 0.08, 0.02, 0.006, 1e-6, 1e-12])
def test_gradcam_plusplus_keeps_the_weight_of_faint_channels(scale: float) -> None:
    """In a GAP network `w_k = ReLU(w) / (2 + w F_k)` up to a common factor, however small w is."""
    weights = torch.tensor([1.0, 0.5, -0.3, 0.8]) * scale
    # Each channel lights up alone, so that the map's values are its weights.
    acts = torch.zeros(1, 4, 7, 7)
    acts[0, range(4), range(4), range(4)] = 2.0
    grads = (weights / 49)[None, :, None, None].expand_as(acts)
    found = gradcam_plusplus(acts, grads)[0].diagonal()[:4].double()
    mean = 2.0 / 49
    expected = [2.0 * max(w, 0) / (2 + w * mean) for w in weights.double().tolist()]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_gradcam_plusplus_on_negative_activations_is_finite() -> None:
    """Where the sum of A is negative, `2 + g sum A` would meet zero: here at g = 1/8 exactly."""
    acts = torch.full((1, 1, 4, 4), -1.0)
    acts[0, 0, 0, 0] = 4.0
    total = float(acts.sum())
    assert total < 0
    for gradient in (-2 / total, -2.0000001 / total, -20 / total):
        grads = torch.full_like(acts, gradient)
        found = gradcam_plusplus(acts, grads)
        # alpha stays at 1/2, as for a sum of zero.
        torch.testing.assert_close(found, (acts[:, 0] * 16 * gradient / 2).relu())
        assert found.isfinite().all()


@pytest.mark.parametrize(
    ("total", "cube", "alpha"),
    [
        *((1.0, -9.0, 1.0), (1.0, -8.0, 1.0), (1.0, -7.0, 0.0), (1.0, -16.0, 1 / 8)),
        *((0.0, -7.0, 0.5), (-3.0, -7.0, 0.5), (0.5, -10.0, 0.5), (0.5, -9.0, 1 / 1.5)),
    ],
)
def test_softmax_alpha_beyond_its_range(total: float, cube: float, alpha: float) -> None:
    """D = 2, <D^2> = 3 and <D^3> make Y'' = 1, Y''' = -10 - <D^3>, alpha = 1 / (2 + total Y''')."""
    acts = torch.full((1, 1, 2, 2), total / 4)
    acts[0, 0, 0, 0] += 1
    acts[0, 0, 1, 1] -= 1
    evidence = [torch.full_like(acts, value) for value in (2.0, 3.0, cube)]
    found = gradcam_plusplus_softmax(acts, *evidence)
    torch.testing.assert_close(found, (4 * alpha * 2.0 * acts[:, 0]).relu())
    assert found.any() == (alpha > 0)


def test_softmax_alpha_without_second_and_third_derivative() -> None:
    acts = torch.ones(1, 1, 2, 2)
    one, root = torch.ones_like(acts), torch.full_like(acts, 1.0)
    found = gradcam_plusplus_softmax(acts, root, one, -2 * one)
    torch.testing.assert_close(found, torch.full((1, 2, 2), 4 * 0.5))


def test_softmax_form_where_the_network_is_sure(gap_net: GapNet, images: Tensor) -> None:
    """1 - Y is far below float32's step; where the class is all but certain the map must not be
    noise. There Y'' and Y''' are those of the others' share, and alpha is near 1/2.
    """
    with torch.no_grad():
        gap_net.fc.bias[CLASS] += 25
    exact = explain(gap_net, images, "gradcam++softmax", CLASS)
    assert exact.probabilities is not None
    assert 1e-15 < float(1 - exact.probabilities.max()) < 1e-9
    found = explain(gap_net.float(), images.float(), "gradcam++softmax", CLASS).maps.double()
    scale = exact.maps.amax((1, 2), keepdim=True)
    assert (scale > 0).all()
    torch.testing.assert_close(found / scale, exact.maps / scale, rtol=1e-3, atol=1e-3)


def test_all_targets_of_the_softmax_form_share_their_classes(
    gap_net: GapNet, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes, grad = [], torch.autograd.grad
    monkeypatch.setattr(
        torch.autograd, "grad", lambda *a, **k: (passes.append(1), grad(*a, **k))[1]
    )
    explain(gap_net, images, ["gradcam++softmax"], [0, 1, 2])
    assert len(passes) == 5 + 3, "one for each class, and one for each target"


def test_gradcam_plusplus_of_zero_gradients_is_zero() -> None:
    acts = torch.rand(2, 3, 4, 4)
    assert not gradcam_plusplus(acts, torch.zeros_like(acts)).any()


def test_gradcam_hirescam_and_xgradcam_agree_before_pooling(
    gap_net: GapNet, images: Tensor
) -> None:
    found = explain(gap_net, images, ["gradcam", "hirescam", "xgradcam"], CLASS)
    for shown in found[1:]:
        torch.testing.assert_close(shown.maps, found[0].maps, rtol=1e-9, atol=1e-15)


def test_xgradcam_of_negative_activations() -> None:
    """One sign in a channel: the paper's formula. Both: a mean of g still, without a pole."""
    grads = torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    acts = -torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    paper = (grads * acts).sum() / acts.sum()
    torch.testing.assert_close(xgradcam(acts, grads), (paper * acts[:, 0]).relu())
    torch.testing.assert_close(xgradcam(acts, -grads), (-paper * acts[:, 0]).relu())
    acts = torch.tensor([[3.0, -1.0], [-1.0, -1.0]])[None, None]
    assert acts.sum() == 0
    grads = torch.tensor([[5.0, 1.0], [2.0, 3.0]])[None, None]
    mean = (3 * 5 + 1 + 2 + 3) / 6
    torch.testing.assert_close(xgradcam(acts, grads), (mean * acts[:, 0]).relu())


def test_xgradcam_of_an_empty_channel() -> None:
    acts = torch.stack([torch.zeros(3, 3), torch.ones(3, 3)])[None]
    torch.testing.assert_close(xgradcam(acts, torch.ones_like(acts)), torch.ones(1, 3, 3))
    assert not xgradcam(torch.zeros_like(acts), torch.ones_like(acts)).any()


def test_scorecam_of_a_flat_channel(gap_net: GapNet, images: Tensor) -> None:
    """A channel without contrast masks everything: the score is that of the black image."""
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


def test_ablationcam_of_a_negative_score(gap_net: GapNet, images: Tensor) -> None:
    """A constant added to the scores changes no weight, be it one that turns their sign."""
    expected = explain(gap_net, images, "ablationcam", CLASS)
    for constant in (-100.0, -float(expected.scores[0])):
        with torch.no_grad():
            gap_net.fc.bias += constant
        found = explain(gap_net, images, "ablationcam", CLASS).maps
        torch.testing.assert_close(found, expected.maps, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shape", [(2, 5, 3, 4), (2, 20, 3, 3), (1, 1, 4, 4), (3, 4, 2, 2)])
def test_the_principal_direction_is_numpys(shape: tuple[int, ...]) -> None:
    """With more channels than places and with fewer, for values of both signs."""
    acts = torch.randn(shape, generator=torch.Generator().manual_seed(3)).double()
    np.testing.assert_allclose(
        eigencam(acts), principal(acts.numpy()).clip(min=0), rtol=1e-9, atol=1e-12
    )


def test_the_principal_direction_of_sparse_maps() -> None:
    """LAPACK's eigenvectors of such Gram matrices do not converge in float32."""
    random = torch.Generator().manual_seed(5)
    maps = torch.randn(8, 512, 13, 13, generator=random)
    maps *= torch.rand(8, 1, 13, 13, generator=random) < 0.1
    maps *= 10 ** (-12 * torch.rand(8, 1, 13, 13, generator=random))
    found = eigencam(maps).double()
    expected = torch.from_numpy(principal(maps.double().numpy())).relu()
    assert expected.any()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.max()))


def test_principal_directions_that_are_close_or_missing() -> None:
    """A tie gives one of the directions; an image that is not finite spoils no other."""
    equal = torch.eye(2).view(1, 2, 1, 2)
    torch.testing.assert_close(eigencam(equal).norm(), torch.tensor(1.0))
    maps = torch.rand(3, 4, 3, 3, generator=torch.Generator().manual_seed(6))
    expected = eigencam(maps[:1])
    maps[1], maps[2] = torch.nan, 0
    found = eigencam(maps)
    torch.testing.assert_close(found[:1], expected)
    assert found[1].isnan().all()
    assert not found[2].any()


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1.0, 1e12, 1e30])
def test_the_principal_direction_is_free_of_scale(scale: float) -> None:
    acts = torch.rand(2, 6, 4, 4, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(eigencam(acts * scale) / scale, eigencam(acts))
    assert not eigencam(acts * 0).any()
    assert eigencam(acts.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize(("height", "width"), [(30, 26), (7, 7), (33, 8)])
@pytest.mark.parametrize(("size", "stride"), [(7, 7), (7, 1), (5, 3)])
def test_every_pixel_is_occluded(height: int, width: int, size: int, stride: int) -> None:
    rows, columns = Window(size, stride).covering(height, width)
    assert rows.shape[1] == height
    assert columns.shape[1] == width
    assert rows.any(0).all()
    assert columns.any(0).all()


def test_methods_do_not_touch_their_arguments() -> None:
    arguments = {name: torch.randn(2, 3, 4, 4) for name in ("acts", "grads", "guided", "pooled")}
    arguments |= {"weights": torch.randn(2, 3), "bias": torch.randn(2), "score": torch.randn(2)}
    moments = ("log_grads", "mean_square", "mean_cube")
    arguments |= {name: torch.randn(2, 3, 4, 4) for name in moments}
    arguments |= {"masked": torch.randn(2, 3), "ablated": torch.randn(2, 3)}
    arguments |= {"occluded": torch.randn(2, 2, 3)}
    arguments |= {"rows": torch.ones(2, 4), "columns": torch.ones(3, 5)}
    before = {name: value.clone() for name, value in arguments.items()}
    for method in METHODS.values():
        method.function(**{name: arguments[name] for name in method.needs})
    for name, value in arguments.items():
        assert torch.equal(value, before[name]), name


def test_registry() -> None:
    assert set(ORACLES) == set(METHODS), "every method has its oracle"
    with pytest.raises(ValueError, match="registered twice"):
        register("gradcam", source="")(gradcam)
    with pytest.raises(ValueError, match=r"asks for \['activations'\]"):
        register("new", source="")(lambda activations: activations)
    with pytest.raises(ValueError, match="needs acts and grads only"):
        register("new", source="", trainable=True)(lambda acts: acts)
    assert "new" not in METHODS
    assert {name for name in METHODS if METHODS[name].trainable} == {"gradcam", "gradcam++"}
    for name in EVIDENCE:
        assert EVIDENCE[name].take or hasattr(Evidence, name), f"capture provides {name}"
    for method in METHODS.values():
        assert re.search(r"arXiv:|doi:", method.source)
        assert method.summary.endswith(".")
        assert "->" in (inspect.getdoc(method.function) or ""), f"{method.name} gives its shapes"
