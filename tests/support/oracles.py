"""Slow float64 implementations of the methods, written from their papers.

Each takes a network with the parts of GapNet and images (N,3,H,W), and returns the maps of CLASS
on the last layer, (N,h,w) or (N,3,H,W).
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.support.networks import GapNet

CLASS = 3


def split(net: GapNet, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the activations of the last layer as a leaf, and the scores computed from them."""
    acts = net.last(net.trunk(images)).detach().requires_grad_()
    return acts, net.fc(net.pool(acts).flatten(1))[:, CLASS]


def acts_and_grads(net: GapNet, images: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return the activations of the last layer and the gradient of the score, each (N,C,h,w)."""
    acts, scores = split(net, images)
    (grads,) = torch.autograd.grad(scores.sum(), acts)
    return acts.detach().numpy(), grads.numpy()


def bilinear(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """Upsample a map bilinearly with half-pixel centres, one pixel at a time."""
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
    acts, grads = acts_and_grads(net, images)
    maps = np.zeros((len(acts), *acts.shape[2:]))
    for n in range(acts.shape[0]):
        for k in range(acts.shape[1]):
            alpha = sum(grads[n, k].flat) / grads[n, k].size
            maps[n] += alpha * acts[n, k]
    return np.maximum(maps, 0)


def paper_gradcam_plusplus(net: GapNet, images: Tensor) -> np.ndarray:
    """Evaluate equation 10 for Y = exp(S); exp(S) is a factor of all weights and is left out."""
    maps = []
    for image in images:
        acts, score = split(net, image[None])
        y = score.exp()
        maps.append(equation_10(y, acts, alphas(y, acts, undefined=0.0)) / y.item())
    return np.stack(maps)


def paper_gradcam_plusplus_softmax(net: GapNet, images: Tensor) -> np.ndarray:
    """Evaluate equation 10 for Y = softmax(S), divided by Y."""
    maps = []
    for image in images:
        acts = net.last(net.trunk(image[None])).detach().requires_grad_()
        y = net.fc(net.pool(acts).flatten(1)).softmax(1)[0, CLASS]
        found = alphas(y, acts, undefined=0.5)
        assert ((found >= 0) & (found <= 1)).all(), "the clamp has no effect"
        maps.append(equation_10(y, acts, found) / y.item())
    return np.stack(maps)


def alphas(y: Tensor, acts: Tensor, undefined: float) -> np.ndarray:
    """Return Grad-CAM++'s alpha (K,h,w), with derivatives by autograd, one pixel at a time."""
    (first,) = torch.autograd.grad(y, acts, create_graph=True)
    found = np.zeros(acts.shape[1:])
    for k, i, j in np.ndindex(found.shape):
        d1 = first[0, k, i, j]
        d2 = torch.autograd.grad(d1, acts, create_graph=True)[0][0, k, i, j]
        d3 = torch.autograd.grad(d2, acts, retain_graph=True)[0][0, k, i, j]
        denominator = (2 * d2 + acts[0, k].sum() * d3).item()
        found[k, i, j] = d2.item() / denominator if denominator else undefined
    return found


def equation_10(y: Tensor, acts: Tensor, alpha: np.ndarray) -> np.ndarray:
    """Return Grad-CAM++'s map (h,w): activations weighted by alpha and the positive gradients."""
    (first,) = torch.autograd.grad(y, acts, retain_graph=True)
    summed = np.zeros(acts.shape[2:])
    for k, values in enumerate(acts[0].detach().numpy()):
        weight = sum((alpha[k] * np.maximum(first[0, k].detach().numpy(), 0)).flat)
        summed += weight * values
    return np.maximum(summed, 0)


def paper_hirescam(net: GapNet, images: Tensor) -> np.ndarray:
    acts, grads = acts_and_grads(net, images)
    maps = np.zeros((len(acts), *acts.shape[2:]))
    for n, k, i, j in np.ndindex(*acts.shape):
        maps[n, i, j] += grads[n, k, i, j] * acts[n, k, i, j]
    return np.maximum(maps, 0)


def paper_layercam(net: GapNet, images: Tensor) -> np.ndarray:
    acts, grads = acts_and_grads(net, images)
    maps = np.zeros((len(acts), *acts.shape[2:]))
    for n, k, i, j in np.ndindex(*acts.shape):
        maps[n, i, j] += max(grads[n, k, i, j], 0) * acts[n, k, i, j]
    return np.maximum(maps, 0)


def paper_xgradcam(net: GapNet, images: Tensor) -> np.ndarray:
    acts, grads = acts_and_grads(net, images)
    maps = np.zeros((len(acts), *acts.shape[2:]))
    for n in range(acts.shape[0]):
        for k in range(acts.shape[1]):
            total = acts[n, k].sum()
            assert total > 0, "the paper's formula is defined"
            maps[n] += (acts[n, k] / total * grads[n, k]).sum() * acts[n, k]
    return np.maximum(maps, 0)


def principal(maps: np.ndarray) -> np.ndarray:
    """Return `O V_1` for maps (N,C,h,w), by NumPy's decomposition of each matrix (h w, C).

    The sign is that for which the projection does not sum to less than zero.
    """
    found = []
    for image in maps:
        flat = image.reshape(len(image), -1).T
        projected = flat @ np.linalg.svd(flat)[2][0]
        projected = projected * (1 if projected.sum() >= 0 else -1)
        found.append(projected.reshape(image.shape[1:]))
    return np.stack(found)


def paper_eigencam(net: GapNet, images: Tensor) -> np.ndarray:
    maps = principal(acts_and_grads(net, images)[0])
    assert (maps >= 0).all(), "the projection of positive activations is positive without a ReLU"
    return maps


def paper_eigengradcam(net: GapNet, images: Tensor) -> np.ndarray:
    """Give the projection the sign of the total of `g A`, as HiResCAM has before its ReLU."""
    acts, grads = acts_and_grads(net, images)
    total = (acts * grads).sum((1, 2, 3), keepdims=True)[:, 0]
    return np.maximum(principal(acts * grads) * np.where(total >= 0, 1, -1), 0)


def paper_scorecam(net: GapNet, images: Tensor) -> np.ndarray:
    """Evaluate algorithm 1 one channel at a time, including the black image."""
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
    """Use the paper's weights `(S - S_k) / S` and multiply the map by S."""
    maps = []
    for image in images:
        acts, score = (x.detach() for x in split(net, image[None]))
        summed = torch.zeros(acts.shape[2:])
        for k in range(acts.shape[1]):
            without = acts.clone()
            without[0, k] = 0
            ablated = net.fc(net.pool(without).flatten(1))[0, CLASS]
            weight = (score - ablated) / score
            summed = summed + weight * acts[0, k] * score
        maps.append(summed.relu().detach().numpy())
    return np.stack(maps)


def paper_guided_backprop(net: GapNet, images: Tensor) -> np.ndarray:
    """Apply the rule of sec. 3.4 layer by layer, with transposed convolutions."""
    first, second = net.trunk[0], net.last[0]
    below = first(images)
    above = second(below.relu())
    signal = torch.from_numpy(acts_and_grads(net, images)[1])
    signal = signal * (above > 0) * (signal > 0)
    signal = transposed(second, signal, below)
    signal = signal * (below > 0) * (signal > 0)
    return transposed(first, signal, images).detach().numpy()


def transposed(conv: torch.nn.Conv2d, signal: Tensor, below: Tensor) -> Tensor:
    """Propagate a gradient through a convolution to its input `below`."""
    out = F.conv_transpose2d(signal, conv.weight, stride=conv.stride)
    return F.pad(out, (0, below.shape[3] - out.shape[3], 0, below.shape[2] - out.shape[2]))


def paper_guided(net: GapNet, images: Tensor) -> np.ndarray:
    coarse = paper_gradcam(net, images)
    fine = np.stack([bilinear(m, *images.shape[2:]) for m in coarse])
    return paper_guided_backprop(net, images) * fine[:, None]


def paper_occlusion(net: GapNet, images: Tensor, window: int = 7, stride: int = 3) -> np.ndarray:
    """Cover every position with a grey square and average the drop in score at each pixel."""
    height, width = images.shape[2:]
    score = net(images)[:, CLASS].detach().numpy()
    total, count = np.zeros((len(images), height, width)), np.zeros((height, width))
    for top in range(0, height - window + stride, stride):
        for left in range(0, width - window + stride, stride):
            covered = images.clone()
            covered[:, :, top : top + window, left : left + window] = 0
            drop = score - net(covered)[:, CLASS].detach().numpy()
            total[:, top : top + window, left : left + window] += drop[:, None, None]
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
    "occlusion": paper_occlusion,
}
"""The oracle of each method: the maps of CLASS on the last layer of a GapNet."""
