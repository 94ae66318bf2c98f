"""Run a network on changed images: does it need a suspect region, and is the region enough?

A shortcut is proved by an intervention, not by a map. In images of the class, the region is
occluded with the image's mean colour. In images of other classes, it is replaced by that of an
image of the class. The control of both is a region of the same size elsewhere.

All images of the class take part, and not only those that raised the suspicion. These have their
hottest point in the region, and a network needs what it looks at, be it an object or a shortcut.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import cv2
import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from camcli.audit.candidates import Candidate, Test
from camcli.audit.places import Mask
from camcli.audit.samples import Numbers, Samples
from camcli.engine.predict import class_and_probability
from camcli.errors import CamcliError, ImageError, one_line
from camcli.evaluation.intervals import MIN_IMAGES, mean_intervals
from camcli.images.geometry import Floats
from camcli.images.store import AnyPath
from camcli.models.model import Model
from camcli.runs.batches import BatchLimit, by_shape, read_image, run_batches, stacked
from camcli.runs.grids import SIDE
from camcli.runs.manifest import Row
from camcli.runs.options import InputOptions

OCCLUSION, TRANSPLANT = "occlusion", "transplant"
IMAGES = 100
"""The most images of a class, and of other classes, that are changed."""
ELSEWHERE = 3
"""The regions elsewhere for each image."""
LEAST_EFFECT = 0.05
"""The least effect on a share of images, beyond that of the control, that counts."""
OUTSIDE_SHARE = 0.15
"""The share of the frame that a region outside the object has."""
Find: TypeAlias = Callable[[Row], AnyPath | None]
"""Returns the original file of a row, None if it was not found."""
Hits: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True)
class _Input:
    """The network's input (3,h,w) for an image, changed or not, and its number in a list."""

    number: int
    input: Tensor


@dataclass
class Laboratory:
    """A network and the originals of samples. `find` returns the file of a row."""

    samples: Samples
    model: Model
    inputs: InputOptions
    find: Find
    seed: int = 0
    _images: dict[int, Tensor | None] = field(default_factory=dict)

    def tests(self, candidate: Candidate) -> list[Test]:
        """Return the tests of a candidate. Raises CamcliError if too few originals are found."""
        generator = np.random.default_rng(self.seed)
        own = self._drawn(self.samples.by_class[candidate.label], generator)
        regions = [self._region(candidate, number) for number in own]
        controls = [[elsewhere(region, generator) for _ in range(ELSEWHERE)] for region in regions]
        found = [self._occlusion(candidate, own, regions, controls)]
        if len(self.samples.classes) > 1:
            every = np.flatnonzero(self.samples.labels != candidate.label)
            pairs = self._pairs(own, self._drawn(every, generator))
            if len(pairs) >= MIN_IMAGES:  # images of other shapes take no region of these
                found.append(self._transplant(candidate, own, pairs, regions, controls))
        return found

    def _occlusion(
        self,
        candidate: Candidate,
        own: Sequence[int],
        regions: Sequence[Mask],
        controls: Sequence[Sequence[Mask]],
    ) -> Test:
        """Occlude the region in images of the class."""
        right, hidden, *elsewhere = (
            self._are_of_class(candidate, images)
            for images in (
                [self._image(number) for number in own],
                self._occluded(own, regions),
                *(self._occluded(own, drawn) for drawn in zip(*controls, strict=True)),
            )
        )
        control = np.mean(elsewhere, axis=0)
        says = (
            f"accuracy {right.mean():.0%} becomes {hidden.mean():.0%} with the region occluded, "
            f"{control.mean():.0%} with as much elsewhere"
        )
        drops = right - hidden.astype(float), right - control
        return _test(OCCLUSION, says, *drops, self.seed)

    def _transplant(
        self,
        candidate: Candidate,
        own: Sequence[int],
        pairs: Sequence[tuple[int, int]],
        regions: Sequence[Mask],
        controls: Sequence[Sequence[Mask]],
    ) -> Test:
        """Replace the region in images of other classes by that of an image of the class."""
        before, taken, *elsewhere = (
            self._are_of_class(candidate, images)
            for images in (
                [self._image(number) for number, _ in pairs],
                self._replaced(own, pairs, regions),
                *(self._replaced(own, pairs, drawn) for drawn in zip(*controls, strict=True)),
            )
        )
        name = self.samples.classes[candidate.label]
        control = np.mean(elsewhere, axis=0)
        says = (
            f"{before.mean():.0%} of other images are taken for {name}, {taken.mean():.0%} with "
            f"the region of its images, {control.mean():.0%} with as much elsewhere of them"
        )
        gains = taken - before.astype(float), control - before
        return _test(TRANSPLANT, says, *gains, self.seed)

    def _pairs(self, own: Sequence[int], others: Sequence[int]) -> list[tuple[int, int]]:
        """Return images of other classes, each with the place of one of the class in `own`.

        Pairs of two shapes are left out.
        """
        pairs = [(number, i % len(own)) for i, number in enumerate(others)]
        return [
            (number, i)
            for number, i in pairs
            if self._image(number).shape == self._image(own[i]).shape
        ]

    def _region(self, candidate: Candidate, number: int) -> Mask:
        """Return the suspect region of an image: the candidate's, or the heat off its objects.

        The candidate's region is grown by a cell of the map, which tells a place no better.
        """
        if candidate.region is not None:
            return grown(candidate.region, self.samples.cell)
        assert self.samples.covered is not None
        heat = np.where(self.samples.covered[number] > 0, -1.0, self.samples.heat[number])
        return np.asarray(heat >= max(0.0, np.quantile(heat, 1 - OUTSIDE_SHARE)))

    def _occluded(self, numbers: Sequence[int], masks: Sequence[Mask]) -> list[Tensor]:
        images = map(self._image, numbers)
        return [
            torch.where(_enlarged(mask, image), image.mean((1, 2), keepdim=True), image)
            for image, mask in zip(images, masks, strict=True)
        ]

    def _replaced(
        self, own: Sequence[int], pairs: Iterable[tuple[int, int]], masks: Sequence[Mask]
    ) -> list[Tensor]:
        return [
            torch.where(_enlarged(masks[i], image), self._image(own[i]), image)
            for image, i in ((self._image(number), i) for number, i in pairs)
        ]

    def _are_of_class(self, candidate: Candidate, images: Sequence[Tensor]) -> Hits:
        """Return whether the network takes each image for one of the class. Raises CamcliError."""
        found = np.zeros(len(images), bool)
        limit, indices = BatchLimit[_Input](self.inputs.batch_size), self.samples.indices
        for batch, classes in run_batches(
            by_shape([*map(_Input, range(len(images)), images)]),
            limit,
            lambda batch: class_and_probability(self.model, stacked(batch, self.model))[0].tolist(),
        ):
            if isinstance(classes, Exception):
                raise CamcliError(
                    f"{self.model.name} failed on changed images: {one_line(classes)}"
                )
            for item, index in zip(batch, classes, strict=True):
                found[item.number] = index in indices[candidate.label]
        return found

    def _drawn(self, numbers: Numbers, generator: Generator) -> list[int]:
        """Return samples drawn at random whose originals exist. Raises CamcliError."""
        found: list[int] = []
        for number in generator.permutation(numbers).tolist():
            if len(found) == IMAGES:
                break
            if self._read(number) is not None:
                found.append(number)
        if len(found) < min(MIN_IMAGES, len(numbers)):
            raise CamcliError(
                f"originals found of {len(found)} images of a class, expected {MIN_IMAGES} or "
                f"more: name their folder with --images"
            )
        return found

    def _image(self, number: int) -> Tensor:
        found = self._read(number)
        assert found is not None  # only readable samples are drawn
        return found

    def _read(self, number: int) -> Tensor | None:
        """Return the network's input for a sample; None if its original cannot be read."""
        if number not in self._images:
            (row,) = self.samples.rows([number])
            self._images[number] = None
            if file := self.find(row):
                with contextlib.suppress(ImageError):  # the draw goes on with the next
                    _, self._images[number], _ = read_image(file, self.model, self.inputs)
        return self._images[number]


def elsewhere(region: Mask, generator: Generator) -> Mask:
    """Return a region of the same size elsewhere: blobs drawn at random.

    It is smaller where there is no room.
    """
    smooth = cv2.GaussianBlur(generator.normal(size=(SIDE, SIDE)), (0, 0), SIDE / 10)
    free = np.where(region, -np.inf, smooth)
    count = min(int(region.sum()), int((~region).sum()))
    return np.asarray(free >= np.sort(free, axis=None)[-count])


def grown(region: Mask, cells: int) -> Mask:
    """Return a region with all cells around it at most `cells` away.

    It stays as it is if it would be more than half of the frame, and leave no room for its control.
    """
    kernel = np.ones((2 * cells + 1, 2 * cells + 1), np.uint8)
    found = cv2.dilate(region.astype(np.uint8), kernel).astype(bool)
    return found if found.mean() <= 0.5 else region


def _enlarged(mask: Mask, image: Tensor) -> Tensor:
    """Return a mask (side,side) in the pixels of an image (3,h,w), as (h,w)."""
    rows, columns = (
        torch.arange(length) * SIDE // length for length in (image.shape[1], image.shape[2])
    )
    return torch.from_numpy(mask)[rows][:, columns]


def _test(name: str, says: str, values: Floats, controls: Floats, seed: int) -> Test:
    """Return the test of effects on images (n,) beside those of the controls (n,)."""
    ((low, high),) = mean_intervals((values - controls)[None], seed).tolist()
    value, control = float(values.mean()), float(controls.mean())
    enough = len(values) >= MIN_IMAGES and value - control >= LEAST_EFFECT
    return Test(name, says, value, control, low, high, len(values), bool(enough and low > 0))
