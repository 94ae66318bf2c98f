"""The evidence that metrics ask for, of a batch of images and of each method's maps of them.

Evidence is computed when it is first asked for. What all maps of a batch share (classes,
replacements for missing pixels, the occlusion map, the randomized network) is computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from camcli.capture.hooks import borrowed
from camcli.capture.readers import reader_of
from camcli.engine.explanation import Explanation
from camcli.evaluation import perturbation
from camcli.evaluation.baselines import BASELINES
from camcli.evaluation.correlation import pearson, ranks
from camcli.evaluation.ground_truth import Annotation
from camcli.evaluation.imputation import impute
from camcli.evaluation.objects import Object
from camcli.evaluation.randomization import cascading_randomization
from camcli.evaluation.study import MethodRunner
from camcli.images.geometry import Centres, MapArray
from camcli.render import draw
from camcli.render.boxes import BOX_THRESHOLD, BOX_THRESHOLDS
from camcli.render.enlarge import enlarge
from camcli.speed import cached_property

Perturb: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""Returns the perturbed images (M,3,H,W) for image indices (M,) and steps (M,)."""

ROAD_SHARES = torch.arange(1, 10) / 10
"""The shares of pixels that ROAD imputes."""


class BatchEvidence:
    """A batch of images (N,3,H,W) with their numbers in the run, and the evidence they share.

    `by_row` has a MapEvidence for each method and baseline. `annotations` are those of the images,
    if there are any. The images are explained when a metric first needs it.
    """

    def __init__(
        self,
        runner: MethodRunner,
        images: Tensor,
        numbers: Sequence[int],
        annotations: Sequence[Annotation] = (),
    ) -> None:
        self.runner = runner
        self.images = images
        self.numbers = numbers
        self.annotations = annotations
        rows = (*runner.methods, *BASELINES)
        self.by_row = {row: MapEvidence(self, row) for row in rows}
        self._fills: dict[str, Tensor] = {}

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the images."""
        return self.images.shape[2], self.images.shape[3]

    @cached_property
    def maps(self) -> dict[str, Tensor]:
        """The raw maps (N,h,w) of each method and baseline."""
        return self.runner.maps(self._explanations, self.numbers)

    @property
    def centres(self) -> dict[str, Centres | None]:
        """The centres of each method's cells in input pixels, where they are known."""
        return {one.method: one.centres for one in self._explanations}

    @property
    def classes(self) -> Tensor:
        """The explained classes (N,)."""
        assert self._explanations[0].classes is not None  # the target is no function
        return self._explanations[0].classes

    @property
    def probability(self) -> Tensor | None:
        """The probabilities of the explained classes (N,); None for values of a regression."""
        return self._explanations[0].probabilities

    @cached_property
    def _explanations(self) -> list[Explanation]:
        runner = self.runner
        return runner.explain(self.images, runner.methods, runner.target)

    @property
    def empty(self) -> Tensor:
        """Whether a map has no positive value, (M,N) for M methods and baselines."""
        return torch.stack([maps.amax((1, 2)) <= 0 for maps in self.maps.values()])

    @cached_property
    def occlusion_map(self) -> Tensor:
        """The occlusion maps (N,H,W)."""
        if "occlusion" in self.runner.methods:
            return self.maps["occlusion"]
        (explanation,) = self.runner.explain(self.images, ["occlusion"], self.classes)
        return explanation.maps

    @cached_property
    def randomized_correlation(self) -> dict[str, Tensor]:
        """Each row's rank correlations with the maps of a network that is randomized (N,S).

        NaN where either map is flat: behind a ReLU, random weights may leave a class no score.
        """
        runner, protocol = self.runner, self.runner.protocol
        original = {row: ranks(maps) for row, maps in self.maps.items()}
        classes = self.classes  # those of the trained network
        found = []
        with cascading_randomization(
            runner.model.module, protocol.sanity_steps, protocol.seed
        ) as steps:
            for _ in steps:
                explanations = runner.explain(self.images, runner.methods, classes)
                found.append(runner.maps(explanations, self.numbers))
        return {
            row: torch.stack([pearson(trained, ranks(maps[row])) for maps in found], dim=1)
            for row, trained in original.items()
        }

    @property
    def objects(self) -> list[tuple[Object, ...]]:
        """The objects of each image's class, N tuples."""
        pairs = zip(self.annotations, self.classes.tolist(), strict=True)
        return [annotation.objects[label] for annotation, label in pairs]

    def fill(self, name: str) -> Tensor:
        """Return the replacement for missing pixels (N,3,H,W); `name` is one of FILLS."""
        if name not in self._fills:
            preset = self.runner.model.preset
            self._fills[name] = perturbation.fill(self.images, preset, name)
        return self._fills[name]

    def probabilities(self, steps: int, perturb: Perturb) -> Tensor:
        """Return the class probability for each image and step of a perturbation, (N,S)."""
        shares = self._read(steps, perturb, "probabilities")
        return shares.gather(2, self.classes[:, None, None].expand(-1, steps, 1))[:, :, 0]

    def is_predicted(self, steps: int, perturb: Perturb) -> Tensor:
        """Return 1 where the class is the prediction at a step of a perturbation, else 0, (N,S).

        NaN where a score is not finite.
        """
        scores = self._read(steps, perturb, "ranking")
        best = (scores.argmax(2) == self.classes[:, None]).to(scores)
        return best.where(scores.isfinite().all(2), float("nan"))

    def _read(self, steps: int, perturb: Perturb, part: str) -> Tensor:
        """Return a part (N,S,K) of the readings of all perturbed images, in batches across images.

        `part` is `probabilities` or `ranking`.
        """
        queue = torch.cartesian_prod(torch.arange(len(self.images)), torch.arange(steps))
        module, reader = self.runner.model.module, reader_of(self.runner.model)
        found = []
        with borrowed(module), torch.inference_mode():
            for index, step in (c.unbind(1) for c in torch.split(queue, self.runner.batch_size)):
                images = perturb(index, step).contiguous(memory_format=torch.channels_last)
                found.append(getattr(reader.read(module, images), part))
                self.runner.passed(len(index))
        return torch.cat(found).view(len(self.images), steps, -1)


class MapEvidence:
    """The evidence of one method's or baseline's maps of a batch.

    The public properties are named as in METRIC_EVIDENCE. Those of an annotation have a value for
    each of the N images.
    """

    def __init__(self, batch: BatchEvidence, row: str) -> None:
        self.batch = batch
        self.row = row

    @cached_property
    def raw_map(self) -> Tensor:
        return self._enlarged(self.batch.maps[self.row])

    @cached_property
    def mask(self) -> Tensor:
        return self._mask(self.batch.maps[self.row])

    @property
    def probability(self) -> Tensor | None:
        return self.batch.probability

    @cached_property
    def masked_probability(self) -> Tensor:
        return self.batch.probabilities(1, lambda index, _: self._masked_images[index])[:, 0]

    @property
    def other_masked_probabilities(self) -> Tensor:
        others = (one for one in self.batch.by_row.values() if one is not self)
        return torch.stack([one.masked_probability for one in others])

    @cached_property
    def mask_of_masked(self) -> Tensor:
        if self.row in BASELINES:
            return self.mask
        batch = self.batch
        explanations = batch.runner.explain(self._masked_images, [self.row], batch.classes)
        return self._mask(batch.runner.maps(explanations, batch.numbers)[self.row])

    @cached_property
    def deletion_curve(self) -> Tensor:
        fill = self.batch.fill(self.batch.runner.protocol.deletion_fill)
        return self._replacing(self.batch.images, fill)

    @cached_property
    def insertion_curve(self) -> Tensor:
        fill = self.batch.fill(self.batch.runner.protocol.insertion_fill)
        return self._replacing(fill, self.batch.images)

    @cached_property
    def road_morf(self) -> Tensor:
        return self._imputing(self._order)

    @cached_property
    def road_lerf(self) -> Tensor:
        return self._imputing(self.raw_map[0].numel() - 1 - self._order)

    @property
    def occlusion_map(self) -> Tensor:
        return self.batch.occlusion_map

    @property
    def randomized_correlation(self) -> Tensor:
        return self.batch.randomized_correlation[self.row]

    @property
    def photo_map(self) -> Iterator[MapArray]:
        # One at a time: a batch of maps of large photos may not fit into memory.
        maps = self.batch.maps[self.row].float().cpu().numpy()
        centres, size = self.batch.centres.get(self.row), self.batch.shape[::-1]
        for values, annotation in zip(maps, self.batch.annotations, strict=True):
            crop = annotation.crop.placed(centres, size)
            yield draw.place_map(values, crop, annotation.shape)

    @property
    def objects(self) -> list[tuple[Object, ...]]:
        return self.batch.objects

    @property
    def box_threshold(self) -> list[float]:
        return [BOX_THRESHOLDS.get(self.row, BOX_THRESHOLD)] * len(self.batch.images)

    @cached_property
    def _masked_images(self) -> Tensor:
        hidden = self.batch.fill(self.batch.runner.protocol.masking)
        return perturbation.blend(self.batch.images, self.mask, hidden)

    @cached_property
    def _ranked(self) -> Tensor:
        return perturbation.ranked(self.raw_map)

    @cached_property
    def _order(self) -> Tensor:
        return perturbation.pixel_order(self.raw_map)

    def _mask(self, raw: Tensor) -> Tensor:
        protocol = self.batch.runner.protocol
        if protocol.normalize_order == "before-upsampling":
            return self._enlarged(perturbation.normalize(raw, protocol.normalize))
        return perturbation.normalize(self._enlarged(raw), protocol.normalize)

    def _enlarged(self, maps: Tensor) -> Tensor:
        return enlarge(maps, self.batch.shape, self.batch.centres.get(self.row))

    def _replacing(self, before: Tensor, after: Tensor) -> Tensor:
        """Return the class probability as the pixels of `before` become those of `after` (N,S)."""
        steps = self.batch.runner.protocol.curve_steps
        counts = perturbation.pixel_counts(torch.arange(steps + 1) / steps, self.raw_map)
        perturb = perturbation.replacing(before, after, self._ranked, counts)
        return self.batch.probabilities(steps + 1, perturb)

    def _imputing(self, order: Tensor) -> Tensor:
        """Return whether the class is predicted without the first pixels of `order` (N,S)."""
        images, protocol = self.batch.images, self.batch.runner.protocol
        counts = perturbation.pixel_counts(ROAD_SHARES, self.raw_map)
        generator = torch.Generator().manual_seed(protocol.seed)
        noise = torch.randn(images.shape[1:], generator=generator).to(images)

        def perturb(index: Tensor, step: Tensor) -> Tensor:
            missing = order[index] < counts[step, None, None]
            return impute(images[index], missing) + protocol.road_noise * noise * missing[:, None]

        return self.batch.is_predicted(len(ROAD_SHARES), perturb)
