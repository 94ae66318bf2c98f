"""The evidence that metrics ask for: of a batch of images, and of each map of them.

A Trial's properties have the names in EVIDENCE, and each is taken when it is first asked for. What
all maps of a batch share (its classes, what stands for missing pixels, the occlusion map, the
network that forgets) is the Subject's, and taken once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import torch
from torch import Tensor

from camcli.capture.hooks import borrowed
from camcli.capture.targets import logits
from camcli.capture.windows import Window
from camcli.engine.explain import TargetLike, explain
from camcli.engine.explanation import Explanation
from camcli.evaluation import perturbation, sanity
from camcli.evaluation.annotations import Object
from camcli.evaluation.baselines import CONTROLS
from camcli.evaluation.correlation import pearson, ranks
from camcli.evaluation.grid_pointing import Tile, mosaic
from camcli.evaluation.ground_truth import Scene
from camcli.evaluation.imputation import imputed
from camcli.evaluation.protocol import Protocol
from camcli.models.model import Model
from camcli.render import draw
from camcli.render.boxes import SHARE, SHARES, Map

Changed: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""Makes changed images (M,3,H,W) of images `which` (M,) at `step` (M,)."""

REMOVED = torch.arange(1, 10) / 10
"""What ROAD removes."""


@dataclass(frozen=True)
class Setup:
    """What all of a run's batches have in common: the network, the maps, and how they are tried."""

    model: Model
    methods: tuple[str, ...]
    protocol: Protocol
    target: TargetLike = "pred"
    layer: str | None = None
    batch_size: int = 16

    @property
    def rows(self) -> tuple[str, ...]:
        """The table's rows: the methods and the controls."""
        return *self.methods, *CONTROLS

    @property
    def window(self) -> Window:
        """The square of the occlusion method."""
        return Window(self.protocol.window, self.protocol.stride, self.batch_size)

    def explain(
        self, images: Tensor, methods: Sequence[str], target: TargetLike
    ) -> list[Explanation]:
        """What these methods give for the images, in their order."""
        return explain(
            self.model, images, methods, target=target, layer=self.layer, window=self.window
        )

    def maps(self, found: Sequence[Explanation], numbers: Sequence[int]) -> dict[str, Tensor]:
        """Each row's raw maps (N,h,w), of the explanations of images and for the images' numbers.

        A control is the same for the same number, whatever the image and the network.
        """
        gradients, seed = self.protocol.gradients, self.protocol.seed
        maps = {shown.method: perturbation.flattened(shown.maps, gradients) for shown in found}
        like = found[0].maps
        return maps | {name: control(numbers, seed).to(like) for name, control in CONTROLS.items()}


class Subject:
    """A batch of images (N,3,H,W), with their numbers in the run, and the maps to try on them.

    `trials` has a Trial for each row. `scenes` are the images' annotations, where there are any.
    They are explained when a metric asks for it: of those on grids, none does.
    """

    def __init__(
        self, setup: Setup, images: Tensor, numbers: Sequence[int], scenes: Sequence[Scene] = ()
    ) -> None:
        self.setup = setup
        self.images = images
        self.numbers = numbers
        self.scenes = scenes
        self.trials = {name: Trial(self, name) for name in setup.rows}
        self._fills: dict[str, Tensor] = {}

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images."""
        return self.images.shape[2], self.images.shape[3]

    @cached_property
    def maps(self) -> dict[str, Tensor]:
        """Each row's raw maps (N,h,w)."""
        return self.setup.maps(self._found, self.numbers)

    @property
    def classes(self) -> Tensor:
        """The classes that are followed (N,)."""
        assert self._found[0].classes is not None  # the target is a class, never a function
        return self._found[0].classes

    @property
    def probability(self) -> Tensor:
        """Their probabilities on the whole images (N,)."""
        assert self._found[0].probabilities is not None
        return self._found[0].probabilities

    @cached_property
    def _found(self) -> list[Explanation]:
        return self.setup.explain(self.images, self.setup.methods, self.setup.target)

    @property
    def empty(self) -> Tensor:
        """Where a row's map (M,N) shows nothing, as it is nowhere above zero."""
        return torch.stack([maps.amax((1, 2)) <= 0 for maps in self.maps.values()])

    @cached_property
    def occlusion(self) -> Tensor:
        """The occlusion maps (N,H,W)."""
        if "occlusion" in self.setup.methods:
            return self.maps["occlusion"]
        (found,) = self.setup.explain(self.images, ["occlusion"], self.classes)
        return found.maps

    @cached_property
    def unlearnt(self) -> dict[str, Tensor]:
        """Each row's rank correlations with the maps of a network that forgets (N,S).

        NaN where either is flat: behind a ReLU random weights may leave a class no score at all.
        """
        module, protocol = self.setup.model.module, self.setup.protocol
        methods, steps = self.setup.methods, []
        whole = {name: ranks(maps) for name, maps in self.maps.items()}
        classes = self.classes  # of the network that still knows
        with sanity.forgetting(module, protocol.stages, protocol.seed) as stages:
            for _ in stages:
                found = self.setup.explain(self.images, methods, classes)
                steps.append(self.setup.maps(found, self.numbers))
        return {
            name: torch.stack([pearson(first, ranks(maps[name])) for maps in steps], dim=1)
            for name, first in whole.items()
        }

    @property
    def objects(self) -> list[tuple[Object, ...]]:
        """The objects of each image's class, N of them."""
        pairs = zip(self.scenes, self.classes.tolist(), strict=True)
        return [scene.objects[label] for scene, label in pairs]

    def fill(self, name: str) -> Tensor:
        """What stands for missing pixels (N,3,H,W); `name` is one of FILLS."""
        if name not in self._fills:
            self._fills[name] = perturbation.fill(self.images, self.setup.model.preset, name)
        return self._fills[name]

    def probabilities(self, steps: int, changed: Changed) -> Tensor:
        """The class's probability on each image at each step of a change (N,S)."""
        found = self._outputs(steps, changed).softmax(2)
        return found.gather(2, self.classes[:, None, None].expand(-1, steps, 1))[:, :, 0]

    def stays_best(self, steps: int, changed: Changed) -> Tensor:
        """1 where the class is the best one at a step of a change, else 0, (N,S).

        NaN where there are no scores to compare.
        """
        scores = self._outputs(steps, changed)
        best = (scores.argmax(2) == self.classes[:, None]).to(scores)
        return best.where(scores.isfinite().all(2), float("nan"))

    def _outputs(self, steps: int, changed: Changed) -> Tensor:
        """The class scores of each image at each step (N,S,K), in batches across images."""
        device = self.images.device
        queue = torch.cartesian_prod(
            torch.arange(len(self.images), device=device), torch.arange(steps, device=device)
        )
        module = self.setup.model.module
        found = []
        with borrowed(module), torch.inference_mode():
            for which, step in (c.unbind(1) for c in torch.split(queue, self.setup.batch_size)):
                images = changed(which, step).contiguous(memory_format=torch.channels_last)
                found.append(logits(module(images)))
        return torch.cat(found).view(len(self.images), steps, -1)


class Trial:
    """One row's maps of a subject; each property is what EVIDENCE says of its name."""

    def __init__(self, subject: Subject, name: str) -> None:
        self.subject = subject
        self.name = name

    @cached_property
    def map(self) -> Tensor:
        """(N,H,W)"""
        return perturbation.upsampled(self.subject.maps[self.name], self.subject.size)

    @cached_property
    def seen(self) -> Tensor:
        """(N,H,W)"""
        return self._seen(self.subject.maps[self.name])

    @property
    def probability(self) -> Tensor:
        """(N,)"""
        return self.subject.probability

    @cached_property
    def kept(self) -> Tensor:
        """(N,)"""
        return self.subject.probabilities(1, lambda which, _: self._product[which])[:, 0]

    @property
    def rivals(self) -> Tensor:
        """(R,N)"""
        others = (trial for trial in self.subject.trials.values() if trial is not self)
        return torch.stack([trial.kept for trial in others])

    @cached_property
    def deleted(self) -> Tensor:
        """(N,S)"""
        fill = self.subject.fill(self.subject.setup.protocol.deletion_fill)
        return self._replaced(self.subject.images, fill)

    @cached_property
    def inserted(self) -> Tensor:
        """(N,S)"""
        fill = self.subject.fill(self.subject.setup.protocol.insertion_fill)
        return self._replaced(fill, self.subject.images)

    @cached_property
    def imputed(self) -> Tensor:
        """(N,S)"""
        return self._imputed(self._places)

    @cached_property
    def spared(self) -> Tensor:
        """(N,S)"""
        return self._imputed(self.map[0].numel() - 1 - self._places)

    @property
    def occlusion(self) -> Tensor:
        """(N,H,W)"""
        return self.subject.occlusion

    @cached_property
    def again(self) -> Tensor:
        """(N,H,W)"""
        subject = self.subject
        if self.name in CONTROLS:
            return self.seen
        found = subject.setup.explain(self._product, [self.name], subject.classes)
        return self._seen(subject.setup.maps(found, subject.numbers)[self.name])

    @property
    def unlearnt(self) -> Tensor:
        """(N,S)"""
        return self.subject.unlearnt[self.name]

    @property
    def placed(self) -> Iterator[Map]:
        """N maps (H,W), each when its turn comes: a batch of large photos is more than memory."""
        maps = self.subject.maps[self.name].float().cpu().numpy()
        for values, scene in zip(maps, self.subject.scenes, strict=True):
            yield draw.placed(values, scene.crop, scene.size)

    @property
    def objects(self) -> list[tuple[Object, ...]]:
        """N of them"""
        return self.subject.objects

    @property
    def share(self) -> float:
        """A number"""
        return SHARES.get(self.name, SHARE)

    @cached_property
    def _product(self) -> Tensor:
        """The images multiplied by `seen` (N,3,H,W)."""
        protocol = self.subject.setup.protocol
        hidden = self.subject.fill("black" if protocol.product == "raw" else "mean")
        return perturbation.blended(self.subject.images, self.seen, hidden)

    @cached_property
    def _places(self) -> Tensor:
        return perturbation.places(self.map)

    def _seen(self, raw: Tensor) -> Tensor:
        scaled = perturbation.scaled(raw, self.subject.setup.protocol.scale)
        return perturbation.upsampled(scaled, self.subject.size)

    def _replaced(self, before: Tensor, after: Tensor) -> Tensor:
        """The class's probability as the map's pixels of one become those of the other (N,S)."""
        steps = self.subject.setup.protocol.steps
        counts = perturbation.counts(torch.arange(steps + 1) / steps, self.map)

        def changed(which: Tensor, step: Tensor) -> Tensor:
            replaced = self._places[which] < counts[step, None, None]
            return torch.where(replaced[:, None], after[which], before[which])

        return self.subject.probabilities(steps + 1, changed)

    def _imputed(self, places: Tensor) -> Tensor:
        """Whether the class stays the best without the first of `places` (N,H,W), (N,S)."""
        subject = self.subject
        counts = perturbation.counts(REMOVED, self.map)
        generator = torch.Generator().manual_seed(subject.setup.protocol.seed)
        noise = torch.randn(subject.images.shape[1:], generator=generator).to(subject.images)

        def changed(which: Tensor, step: Tensor) -> Tensor:
            missing = places[which] < counts[step, None, None]
            filled = imputed(subject.images[which], missing)
            return filled + subject.setup.protocol.noise * noise * missing[:, None]

        return subject.stays_best(len(REMOVED), changed)


@dataclass(frozen=True)
class MosaicTrial:
    """One row's maps of grids of images; each field is what EVIDENCE says of its name."""

    mosaic: Tensor
    cell: Tensor


def mosaic_trials(setup: Setup, grids: Sequence[Sequence[Tile]]) -> dict[str, MosaicTrial]:
    """Each row's maps of these grids, for the first image of each, then for the second, ..."""
    images = mosaic(grids, setup.protocol.cells)
    cells = list(zip(*grids, strict=True))
    targets = [torch.tensor([tile.label for tile in cell]) for cell in cells]
    found = explain(
        setup.model, images, setup.methods, target=targets, layer=setup.layer, window=setup.window
    )
    maps = [
        setup.maps(found[i :: len(cells)], [tile.number for tile in cell])
        for i, cell in enumerate(cells)
    ]
    size = images.shape[2], images.shape[3]
    where = torch.arange(len(cells), device=images.device).repeat_interleave(len(grids))
    return {
        name: MosaicTrial(
            torch.cat([perturbation.upsampled(of_cell[name], size) for of_cell in maps]), where
        )
        for name in setup.rows
    }
