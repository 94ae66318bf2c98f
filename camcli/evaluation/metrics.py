"""The metrics, each a pure function of tensors, and METRICS, their one registry.

As with the methods, a parameter's name says what a metric needs and EVIDENCE what may be asked for:
a run takes only the evidence that some metric names. A new metric is one function here and one
oracle test. Those that hold maps against annotations ask for `objects`; they are the measures of
`camcli.localisation`, map by map, since photos differ in size.

torch is imported only for types, so that the command line can list the metrics at once.

Letters: N images, H W the network's input, R other maps of the same images, S steps of a curve.
Y is the class's probability on the image. A value is a float for each image, (N,); it is NaN where
the metric is not defined for an image.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from camcli.evaluation import localisation
from camcli.evaluation.correlation import pearson, spearman
from camcli.images.geometry import MapArray

if TYPE_CHECKING:
    from torch import Tensor

    from camcli.evaluation.annotations import Object

EVIDENCE = MappingProxyType(
    {
        "seen": "the map in [0, 1] at the input's size (N,H,W)",
        "map": "the raw map at the input's size, signed where the method is (N,H,W)",
        "probability": "Y, the class's probability on the image (N,)",
        "kept": "its probability on the image multiplied by `seen` (N,)",
        "rivals": "`kept` of all other maps in the table (R,N)",
        "deleted": "its probability as pixels are removed, the map's highest first (N,S)",
        "inserted": "its probability as pixels are put into a blurred image, likewise (N,S)",
        "imputed": "1 where the class stays the best as the map's highest pixels are imputed (N,S)",
        "spared": "the same as its lowest pixels are imputed (N,S)",
        "occlusion": "the occlusion map (N,H,W)",
        "again": "`seen` for the image multiplied by `seen`, for the same class (N,H,W)",
        "unlearnt": "rank correlation of the map with that of the network whose layers are random "
        "from the last one down, further at each step; NaN where there is no map (N,S)",
        "mosaic": "the raw map of a 2x2 grid of images for the class of one of them (N,2H,2W)",
        "cell": "where in the grid that image is: 0 1 above, 2 3 below (N,)",
        "placed": "the map's positive part in [0, 1] in the photo itself, zero where the network "
        "did not look: N maps (H,W), each of its photo's size",
        "objects": "the annotated objects of the class in each photo, at least one: N sequences",
        "share": "of its maximum, above which the map is said to cover something, a number",
    }
)

ON_MOSAICS = frozenset({"mosaic", "cell"})
"""The evidence that is taken on grids of images and not on the images themselves."""

TIE = 1e-4
"""The share of a probability by which another may be off and count as equal: what is summed in
another order leaves float32 scores that differ by some 1e-5."""

Better = Literal["higher", "lower"]


@dataclass(frozen=True)
class Metric:
    """A registered metric.

    `needs` are the names in EVIDENCE that it asks for. `trace` is one of them that is kept for each
    image beside the value, to be drawn as a curve or compared between methods. `controlled` says
    that a control cannot be perfect by its nature, so that not to beat it is a fault.
    """

    name: str
    function: Callable[..., Tensor]
    better: Better
    source: str
    needs: frozenset[str]
    trace: str | None
    percent: bool
    controlled: bool

    @property
    def summary(self) -> str:
        """The first sentence of the function's docstring."""
        return (inspect.getdoc(self.function) or "").split("\n", 1)[0]

    @property
    def on_truth(self) -> bool:
        """Whether it holds maps against annotations."""
        return "objects" in self.needs

    @property
    def on_mosaics(self) -> bool:
        """Whether it is taken on grids of images."""
        return bool(self.needs & ON_MOSAICS)

    @property
    def unlearns(self) -> bool:
        """Whether it makes the network's weights random for a while."""
        return "unlearnt" in self.needs


_metrics: dict[str, Metric] = {}
METRICS = MappingProxyType(_metrics)
DEFAULT = ("average-drop", "increase", "insertion", "deletion")
"""What is measured unless something else is asked for. The first two are never shown alone: a map
of ones is perfect by them."""


def register(
    name: str,
    *,
    better: Better,
    source: str,
    trace: str | None = None,
    percent: bool = False,
    controlled: bool = True,
) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Add a function to METRICS under `name`; its parameter names must be in EVIDENCE."""

    def add(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        needs = frozenset(inspect.signature(function).parameters)
        if name in _metrics:
            raise ValueError(f"metric {name!r} is registered twice")
        if unheard := needs - EVIDENCE.keys():
            raise ValueError(
                f"metric {name!r} asks for {sorted(unheard)}; there is {list(EVIDENCE)}"
            )
        if needs & ON_MOSAICS and needs - ON_MOSAICS:
            raise ValueError(f"metric {name!r} asks for images and for grids of them")
        if trace is not None and trace not in needs:
            raise ValueError(f"metric {name!r} keeps {trace!r}, which it does not need")
        _metrics[name] = Metric(name, function, better, source, needs, trace, percent, controlled)
        return function

    return add


@register(
    "average-drop",
    better="lower",
    source="Chattopadhay et al. 2018, arXiv:1710.11063",
    percent=True,
)
def average_drop(probability: Tensor, kept: Tensor) -> Tensor:
    """Average Drop: how much of the class's probability is lost without what the map hides.

    `100 max(0, Y - O) / Y`, O the probability on the image multiplied by its map.
    (N,), (N,) -> (N,), 0 to 100 percent
    """
    return 100 * (probability - kept).clamp(min=0) / probability


@register(
    "increase",
    better="higher",
    source="Chattopadhay et al. 2018, arXiv:1710.11063",
    percent=True,
)
def increase(probability: Tensor, kept: Tensor) -> Tensor:
    """Increase in Confidence: how often the network is surer without what the map hides.

    `100 [Y < O]`, by more than a share `TIE` of Y. (N,), (N,) -> (N,), 0 or 100 percent
    """
    return _known(100 * (kept > probability * (1 + TIE)).to(probability), kept)


@register(
    "win",
    better="higher",
    source="Chattopadhay et al. 2018, arXiv:1710.11063",
    trace="kept",
    percent=True,
)
def win(kept: Tensor, rivals: Tensor) -> Tensor:
    """Win: how many of the table's other maps lose more of the class's probability.

    The smaller fall of two is the higher probability that is left; of equal ones, which differ by
    a share `TIE` at most, each has half. The paper compares two methods; the matrix of every two is
    given as well. (N,), (R,N) -> (N,), 0 to 100 percent
    """
    won = (kept > rivals * (1 + TIE)).to(kept)
    lost = (rivals > kept * (1 + TIE)).to(kept)
    return _known(100 * ((1 + won - lost) / 2).mean(0), kept + rivals.sum(0))


@register(
    "insertion",
    better="higher",
    source="Petsiuk et al. 2018 (RISE), arXiv:1806.07421",
    trace="inserted",
)
def insertion(inserted: Tensor) -> Tensor:
    """Insertion: the area under the class's probability as a blurred image is filled in.

    By the trapezoid rule, over shares of pixels from 0 to 1. (N,S) -> (N,), 0 to 1
    """
    return _area(inserted)


@register(
    "deletion",
    better="lower",
    source="Petsiuk et al. 2018 (RISE), arXiv:1806.07421",
    trace="deleted",
)
def deletion(deleted: Tensor) -> Tensor:
    """Deletion: the area under the class's probability as the map's pixels are removed.

    By the trapezoid rule, over shares of pixels from 0 to 1. (N,S) -> (N,), 0 to 1
    """
    return _area(deleted)


@register("road", better="lower", source="Rong et al. 2022, arXiv:2202.00449", trace="imputed")
def road(imputed: Tensor) -> Tensor:
    """ROAD: how often the class stays the best without the map's highest pixels.

    The mean over removed shares of 10 % to 90 %; what is removed is imputed from its neighbours, so
    that its shape tells nothing. Over the images it is the paper's accuracy. (N,S) -> (N,), 0 to 1
    """
    return imputed.mean(1)


@register(
    "road-least",
    better="higher",
    source="Rong et al. 2022, arXiv:2202.00449",
    trace="spared",
)
def road_least(spared: Tensor) -> Tensor:
    """ROAD, least relevant first: how often the class stays the best without the lowest pixels.

    As `road` otherwise. (N,S) -> (N,), 0 to 1
    """
    return spared.mean(1)


@register("grid", better="higher", source="Rao et al. 2022, arXiv:2205.10435")
def grid(mosaic: Tensor, cell: Tensor) -> Tensor:
    """Grid pointing: how much of a map for one image of a 2x2 grid lies on that image.

    Positive attribution in the cell by that in all four, 0 where there is less than 1e-7. A map
    that tells nothing has 0.25. (N,2H,2W), (N,) -> (N,), 0 to 1
    """
    height, width = mosaic.shape[1] // 2, mosaic.shape[2] // 2
    halves = mosaic.clamp(min=0).reshape(len(mosaic), 2, height, 2, width)
    cells = halves.sum((2, 4)).flatten(1)
    total = cells.sum(1)
    share = cells.gather(1, cell[:, None])[:, 0] / total.where(total > 0, 1)
    pointed: Tensor = share.where(total >= 1e-7, 0)
    return pointed


@register(
    "occlusion-correlation",
    better="higher",
    source="Selvaraju et al. 2017, arXiv:1610.02391",
)
def occlusion_correlation(map: Tensor, occlusion: Tensor) -> Tensor:  # noqa: A002 - evidence
    """Rank correlation with occlusion: does the map order pixels as hiding them does?

    Spearman's, at the input's size; equal values share their mean rank. 0 where a map is flat.
    (N,H,W), (N,H,W) -> (N,), -1 to 1
    """
    return spearman(map, occlusion)


@register(
    "complexity",
    better="lower",
    source="Poppi et al. 2021 (ADCC), arXiv:2104.10252",
    percent=True,
    controlled=False,
)
def complexity(seen: Tensor) -> Tensor:
    """Complexity: how much of the image the map lets through, its L1 norm by the pixels.

    (N,H,W) -> (N,), 0 to 100 percent
    """
    return 100 * seen.mean((1, 2))


@register(
    "coherency",
    better="higher",
    source="Poppi et al. 2021 (ADCC), arXiv:2104.10252",
    percent=True,
    controlled=False,
)
def coherency(seen: Tensor, again: Tensor) -> Tensor:
    """Coherency: is the map the same when the image is multiplied by it?

    Pearson's correlation r of the two as `100 (r + 1) / 2`, and 0 where one is flat. A map that
    does not look at the image is perfect. (N,H,W), (N,H,W) -> (N,), 0 to 100 percent
    """
    correlation = pearson(seen, again)
    return (50 * (correlation + 1)).nan_to_num(0.0)


@register(
    "sanity",
    better="lower",
    source="Adebayo et al. 2018, arXiv:1810.03292",
    trace="unlearnt",
    controlled=False,
)
def sanity(unlearnt: Tensor) -> Tensor:
    """Sanity check: how much of the map stays when the network forgets what it learnt.

    Spearman's rank correlation, its mean over the steps of randomisation at which there is a map;
    one that follows the network comes near 0. No ranking of methods (Binder et al. 2022,
    arXiv:2211.12486): one that stays near 1 shows the image and not the network.
    (N,S) -> (N,), -1 to 1
    """
    return unlearnt.nanmean(1)


@register("pointing", better="higher", source="Zhang et al. 2018, arXiv:1608.00507")
def pointing(placed: Iterable[MapArray], objects: Iterable[Sequence[Object]]) -> Tensor:
    """Pointing game: is the map's maximum on an object of the class?

    Or at most 15 pixels beside one; of several highest pixels it is the share that hits. The paper
    has the mean over classes of this mean over images. -> (N,), 0 to 1
    """
    return _each(localisation.pointing, placed, objects)


@register("energy", better="higher", source="Wang et al. 2020 (Score-CAM), arXiv:1910.01279")
def energy(placed: Iterable[MapArray], objects: Iterable[Sequence[Object]]) -> Tensor:
    """Energy pointing: how much of the map's sum is in the boxes of the class?

    A constant map has the boxes' share of the image. -> (N,), 0 to 1
    """
    return _each(localisation.energy, placed, objects)


@register("loc-0", better="higher", source="Chattopadhay et al. 2018, arXiv:1710.11063")
def loc_0(placed: Iterable[MapArray], objects: Iterable[Sequence[Object]]) -> Tensor:
    """Loc(0): the map's area in the boxes, by that of the boxes and of the map outside of them.

    The area is where the map is above delta, here 0. -> (N,), 0 to 1
    """
    return _each(localisation.loc, placed, objects, 0.0)


@register("loc-0.25", better="higher", source="Chattopadhay et al. 2018, arXiv:1710.11063")
def loc_25(placed: Iterable[MapArray], objects: Iterable[Sequence[Object]]) -> Tensor:
    """Loc(0.25): the same of the area where the map is above a quarter of its maximum.

    -> (N,), 0 to 1
    """
    return _each(localisation.loc, placed, objects, 0.25)


@register("loc-0.5", better="higher", source="Chattopadhay et al. 2018, arXiv:1710.11063")
def loc_50(placed: Iterable[MapArray], objects: Iterable[Sequence[Object]]) -> Tensor:
    """Loc(0.5): the same of the area where the map is above half of its maximum.

    -> (N,), 0 to 1
    """
    return _each(localisation.loc, placed, objects, 0.5)


@register("iou", better="higher", source="Selvaraju et al. 2017, arXiv:1610.02391")
def iou(placed: Iterable[MapArray], objects: Iterable[Sequence[Object]], share: float) -> Tensor:
    """IoU: how well does the map's box fit that of an object of the class?

    The box around the largest region above a share of the map's maximum, and the object that it
    fits best. -> (N,), 0 to 1
    """
    return _each(localisation.best_iou, placed, objects, share)


@register("localised", better="higher", source="Russakovsky et al. 2015, arXiv:1409.0575")
def localised(
    placed: Iterable[MapArray], objects: Iterable[Sequence[Object]], share: float
) -> Tensor:
    """Localisation: is the IoU above 0.5, as ILSVRC asks?

    Of the images that have an object of the class; ILSVRC's top-1 also counts the others, as not
    localised. -> (N,), 0 or 1
    """
    return _each(localisation.localised, placed, objects, share)


@register(
    "covered",
    better="higher",
    source="after Chattopadhay et al. 2018, arXiv:1710.11063",
    controlled=False,
)
def covered(
    placed: Iterable[MapArray], objects: Iterable[Sequence[Object]], share: float
) -> Tensor:
    """Covered: how many of the objects of the class does the map cover?

    Half of each or more is above a share of the map's maximum. A constant map covers all of them:
    read it beside Loc. -> (N,), 0 to 1
    """

    def part(values: MapArray, found: Sequence[Object], share: float) -> float:
        return localisation.covered(values, found, share) / len(found)

    return _each(part, placed, objects, share)


ON_TRUTH = tuple(name for name, metric in METRICS.items() if metric.on_truth)
"""What is measured where there are annotations, unless something else is asked for: `covered` is
never alone, since a constant map is perfect by it."""


def _each(
    measure: Callable[..., float],
    placed: Iterable[MapArray],
    objects: Iterable[Sequence[Object]],
    *options: float,
) -> Tensor:
    """A measure of one map and the objects in its photo, for each of them, (N,)."""
    import torch  # here, so that the command line can list the metrics at once

    pairs = zip(placed, objects, strict=True)
    found = [measure(values, of_class, *options) for values, of_class in pairs]
    return torch.tensor(found, dtype=torch.float64)


def _known(values: Tensor, evidence: Tensor) -> Tensor:
    """Values (N,), NaN where what they are made from is: comparisons would take that for a no."""
    return values.where(evidence.isfinite(), float("nan"))


def _area(curve: Tensor) -> Tensor:
    """The mean height of a curve (N,S) through evenly spaced points, by the trapezoid rule."""
    ends = (curve[:, 0] + curve[:, -1]) / 2
    return (curve.sum(1) - ends) / (curve.shape[1] - 1)
