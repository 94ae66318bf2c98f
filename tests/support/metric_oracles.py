"""The metrics as slow loops in float64, written from their papers."""

from __future__ import annotations

import copy
from collections.abc import Callable

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import camcli
from camcli.evaluation.baselines import BASELINES
from camcli.evaluation.evidence import BatchEvidence
from camcli.images.geometry import Centres
from camcli.images.preprocess import Preset
from camcli.render.enlarge import enlarge

Array = NDArray[np.float64]
MEAN, STD = (np.array(values)[:, None, None] for values in (Preset.mean, Preset.std))


class SlowEvidence:
    """The evidence of one map of one image of a batch, by loops."""

    def __init__(self, batch: BatchEvidence, row: str, i: int) -> None:
        self.batch, self.row, self.i = batch, row, i
        self.protocol = batch.runner.protocol
        self.net = batch.runner.model.module
        self.image: Array = batch.images[i].numpy()
        self.height, self.width = self.image.shape[1:]
        self.label = int(self.probabilities(self.image).argmax())
        self.raw = self.explained(self.image, self.net)
        # By torch, unlike `mask`: the order of two pixels may depend on the last digit.
        raw = torch.from_numpy(self.raw)[None, None]
        self.centres = batch.centres.get(row)
        self.map = enlarge(raw[0], self.image.shape[1:], self.centres)[0].numpy()
        self.pixels = sorted(np.ndindex(*self.map.shape), key=lambda p: (-self.map[p], p))
        self.mask = masking(self.raw, *self.map.shape, self.centres)
        pixels = self.image * STD + MEAN
        self.masked_image: Array = (pixels * self.mask - MEAN) / STD
        self.probability = self.probabilities(self.image)[self.label]
        self.masked_probability = self.probabilities(self.masked_image)[self.label]

    def probabilities(self, image: Array) -> Array:
        with torch.no_grad():
            scores = self.net(torch.from_numpy(image)[None])[0].numpy()
        raised = np.exp(scores - scores.max())
        return np.asarray(raised / raised.sum())

    def explained(self, image: Array, net: nn.Module, method: str | None = None) -> Array:
        row = method or self.row
        if row in BASELINES:
            number = self.batch.numbers[self.i]
            return BASELINES[row]([number], self.protocol.seed)[0].double().numpy()
        images, window = torch.from_numpy(image)[None], self.batch.runner.window
        (found,) = camcli.explain(net, images, [row], self.label, window=window)
        values = (found.maps if found.drawn is None else found.drawn)[0].numpy()
        return np.abs(values).sum(0) if values.ndim == 3 else values

    def replaced(self, before: Array, after: Array, k: int, *, lowest: bool = False) -> Array:
        """Replace the k highest (or lowest) pixels of the map in `before` by those of `after`."""
        found = before.copy()
        for y, x in self.pixels[::-1][:k] if lowest else self.pixels[:k]:
            found[:, y, x] = after[:, y, x]
        return found

    def area(self, before: Array, after: Array) -> float:
        steps = self.protocol.curve_steps
        counts = [round(i / steps * self.map.size) for i in range(steps + 1)]
        images = [self.replaced(before, after, k) for k in counts]
        heights = [self.probabilities(image)[self.label] for image in images]
        pairs = zip(heights[1:], heights[:-1], strict=True)
        return float(sum((a + b) / 2 for a, b in pairs) / steps)

    def accuracy(self, *, lowest: bool) -> float:
        noise = torch.randn(self.image.shape, generator=torch.Generator().manual_seed(0)).numpy()
        zeros, ones = np.zeros((1, *self.map.shape)), np.ones((1, *self.map.shape))
        right = []
        for share in range(10, 100, 10):
            k = round(share / 100 * self.map.size)
            hole = self.replaced(zeros, ones, k, lowest=lowest)[0] > 0
            filled = imputed(self.image, hole) + self.protocol.road_noise * noise * hole
            right.append(int(self.probabilities(filled).argmax()) == self.label)
        return float(np.mean(right))


def bilinear(values: Array, height: int, width: int, centres: Centres | None = None) -> Array:
    """Enlarge a map (h,w) to (H,W), one pixel at a time; without centres in equal parts."""
    h, w = values.shape
    x_0, y_0, dx, dy, *_ = centres or (width / w / 2, height / h / 2, width / w, height / h)

    def at(i: int, start: float, step: float, old: int) -> tuple[int, int, float]:
        place = min(max((i + 0.5 - start) / step, 0), old - 1)
        return int(place), min(int(place) + 1, old - 1), place - int(place)

    found = np.empty((height, width))
    for y, x in np.ndindex(height, width):
        y0, y1, v = at(y, y_0, dy, h)
        x0, x1, u = at(x, x_0, dx, w)
        above = values[y0, x0] * (1 - u) + values[y0, x1] * u
        below = values[y1, x0] * (1 - u) + values[y1, x1] * u
        found[y, x] = above * (1 - v) + below * v
    return found


def masking(raw: Array, height: int, width: int, centres: Centres | None) -> Array:
    """Upsample a map, then take the positive part and divide by the maximum."""
    positive = np.maximum(bilinear(raw, height, width, centres), 0)
    return np.asarray(positive / (positive.max() or 1))


def blurred(image: Array) -> Array:
    """Blur by RISE's kernel: 11 x 11, sigma 5, zero padding; its code blurs a point to get it."""
    point = np.zeros((11, 11))
    point[5, 5] = 1
    kernel = cv2.GaussianBlur(point, (41, 41), 5, borderType=cv2.BORDER_REFLECT)
    padded = np.pad(image, ((0, 0), (5, 5), (5, 5)))
    height, width = image.shape[1:]
    parts = [
        weight * padded[:, i : i + height, j : j + width]
        for (i, j), weight in np.ndenumerate(kernel)
    ]
    return np.asarray(sum(parts))


def imputed(image: Array, hole: NDArray[np.bool_]) -> Array:
    """Solve ROAD's equations for the pixels of a hole as one dense system."""
    places = {tuple(p): i for i, p in enumerate(np.argwhere(hole))}
    a, b = np.zeros((len(places), len(places))), np.zeros((len(places), len(image)))
    for (y, x), i in places.items():
        for dy, dx in np.ndindex(3, 3):
            near = y + dy - 1, x + dx - 1
            weight = {0: 0, 1: 1 / 6, 2: 1 / 12}[abs(dy - 1) + abs(dx - 1)]
            if not (0 <= near[0] < hole.shape[0] and 0 <= near[1] < hole.shape[1]):
                continue
            a[i, i] += weight
            if near in places:
                a[i, places[near]] -= weight
            else:
                b[i] += weight * image[:, near[0], near[1]]
    found = image.copy()
    for p, value in zip(places, np.linalg.solve(a, b), strict=True):
        found[:, p[0], p[1]] = value
    return found


def ranks_by_counting(values: Array) -> Array:
    flat = values.ravel()
    below = np.array([(flat < v).sum() for v in flat])
    return np.asarray(below + (np.array([(flat == v).sum() for v in flat]) - 1) / 2)


def rank_correlation(a: Array, b: Array) -> float:
    return float(np.corrcoef(ranks_by_counting(a), ranks_by_counting(b))[0, 1])


def slow_sanity(slow: SlowEvidence) -> float:
    net = copy.deepcopy(slow.net)
    generator, found = torch.Generator().manual_seed(slow.protocol.seed), []
    for layer in (net.fc, net.last[0], net.trunk[0]):
        for p in (layer.weight, layer.bias):
            noise = torch.randn(p.shape, generator=generator).double()
            mean = p.mean().item() if p.ndim == 1 else 0
            p.data = noise * p.detach().numpy().std() + mean
        new = slow.explained(slow.image, net)
        if new.std() > 0 and slow.raw.std() > 0:
            found.append(rank_correlation(slow.raw, new))
    return float(np.mean(found)) if found else float("nan")


def slow_coherency(slow: SlowEvidence) -> float:
    raw = slow.explained(slow.masked_image, slow.net)
    other = masking(raw, slow.height, slow.width, slow.centres)
    flat = slow.mask.std() == 0 or other.std() == 0
    return 0 if flat else 50 * (np.corrcoef(slow.mask.ravel(), other.ravel())[0, 1] + 1)


def slow_win(slow: SlowEvidence) -> float:
    rows = [row for row in slow.batch.by_row if row != slow.row]
    own = slow.masked_probability
    others = [SlowEvidence(slow.batch, row, slow.i).masked_probability for row in rows]
    draws = [max(own, other) <= 1.0001 * min(own, other) for other in others]
    pairs = zip(others, draws, strict=True)
    return 100 * float(np.mean([0.5 if draw else own > other for other, draw in pairs]))


ORACLES: dict[str, Callable[[SlowEvidence], float]] = {
    "average-drop": lambda slow: (
        100 * max(0, slow.probability - slow.masked_probability) / slow.probability
    ),
    "increase": lambda slow: 100 * (slow.probability < slow.masked_probability),
    "win": slow_win,
    "insertion": lambda slow: slow.area(blurred(slow.image), slow.image),
    "deletion": lambda slow: slow.area(slow.image, 0 * slow.image),
    "road": lambda slow: slow.accuracy(lowest=False),
    "road-least": lambda slow: slow.accuracy(lowest=True),
    "occlusion-correlation": lambda slow: rank_correlation(
        slow.map, slow.explained(slow.image, slow.net, "occlusion")
    ),
    "complexity": lambda slow: 100 * float(np.abs(slow.mask).sum()) / slow.mask.size,
    "coherency": slow_coherency,
    "sanity": slow_sanity,
}
"""The metrics on images. Those on grids and on annotations have their own tests."""
