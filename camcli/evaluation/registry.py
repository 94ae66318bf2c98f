"""The registry of metrics and the kinds of evidence that a metric may ask for.

A metric is one function. The names of its parameters say which evidence it needs, and a run takes
no other evidence. How a metric is drawn, marked and exported are fields of its row in METRICS, so
that no other file names a metric.

This module does not import torch, so that the command line lists the metrics without delay.

Letters: N images, H W the network's input, R other maps of the same images, S points of a curve.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, TypeVar

from camcli.speed import cached_property

GRAD_CAM_PP = "Chattopadhay et al. 2018, arXiv:1710.11063"
"""The paper that metrics of several files are from."""
EvidencePlace: TypeAlias = Literal["image", "grid", "annotation"]
"""A batch of images, grids of images, or one annotated photo, of which evidence is taken."""


@dataclass(frozen=True)
class MetricEvidence:
    """A row of METRIC_EVIDENCE: something that a metric may ask for by naming a parameter after it.

    `shape` is that of a batch, or of a single photo for evidence of an annotation. `options` are
    the fields of Protocol that decide it. `randomizes` is True if taking it replaces the network's
    weights for a while. `of_class` is True if it is a probability or a rank of the class, which the
    values of a regression do not have. `package` is one that the extra `evaluate` installs.
    """

    name: str
    shape: str
    meaning: str
    options: tuple[str, ...] = ()
    place: EvidencePlace = "image"
    randomizes: bool = False
    of_class: bool = False
    package: str | None = None


_NORMALIZE = ("normalize", "normalize_order")
_MASKING = ("masking", *_NORMALIZE)
_INSERTION, _DELETION = ("insertion_fill", "curve_steps"), ("deletion_fill", "curve_steps")
_GRID = ("min_confidence", "grid_image_size")

_of_class = partial(MetricEvidence, of_class=True)
_imputed = partial(_of_class, options=("road_noise",), package="scipy")

_KINDS = (
    MetricEvidence("mask", "N H W", "the map in [0, 1] at input size", _NORMALIZE),
    MetricEvidence("raw_map", "N H W", "the unscaled map at input size, possibly signed"),
    _of_class("probability", "N", "Y, the class probability on the image"),
    _of_class("masked_probability", "N", "O, the same on the image times `mask`", _MASKING),
    _of_class("other_masked_probabilities", "R N", "the same of each other map", _MASKING),
    MetricEvidence("mask_of_masked", "N H W", "`mask` for the image times `mask`", _MASKING),
    _of_class("insertion_curve", "N S", "Y while top pixels replace the fill", _INSERTION),
    _of_class("deletion_curve", "N S", "Y while the fill replaces top pixels", _DELETION),
    _imputed("road_morf", "N S", "1 while the class is predicted, top pixels first"),
    _imputed("road_lerf", "N S", "1 while the class is predicted, top pixels last"),
    MetricEvidence("occlusion_map", "N H W", "the occlusion map", ("window", "stride")),
    MetricEvidence(
        "randomized_correlation",
        "N S",
        "rank correlation with the map of the network at each step of weight randomization",
        ("sanity_steps",),
        randomizes=True,
    ),
    _of_class("grid_map", "N 2H 2W", "raw map of a 2x2 grid for one image", _GRID, "grid"),
    MetricEvidence("grid_cell", "N", "cell of that image: 0 1 above, 2 3 below", _GRID, "grid"),
    MetricEvidence("photo_map", "H W", "the map in [0, 1] at photo size", place="annotation"),
    MetricEvidence("objects", "", "the objects of the class, at least one", place="annotation"),
    MetricEvidence("box_threshold", "", "least share of the maximum in a box", place="annotation"),
)
METRIC_EVIDENCE = MappingProxyType({kind.name: kind for kind in _KINDS})
"""Evidence by name. Evidence of an annotation is taken for one photo at a time, since photos differ
in size; all other evidence for a batch."""


@dataclass(frozen=True)
class Curve:
    """A trace (N,S) whose mean over the images is drawn as a curve.

    `x` and `y` label the axes. The S points are spaced evenly from 0 to 1 (`closed`), evenly
    between 0 and 1 without the ends (`open`), or are at 1 to S (`numbered`).
    """

    evidence: str
    x: str
    y: str
    points: Literal["closed", "open", "numbered"] = "closed"


@dataclass(frozen=True)
class Matrix:
    """A trace (N,) from which the metric is computed for every pair of maps.

    The metric's function takes one map's `evidence` and the `others` (R,N) of all other maps. Each
    entry of the matrix is its mean with a single other map.
    """

    evidence: str
    others: str


@dataclass(frozen=True)
class Alarm:
    """A remark on every method whose mean is above a limit; `{value}` is the mean."""

    above: float
    message: str


@dataclass(frozen=True)
class Metric:
    """A row of METRICS.

    `function` returns a value for each image, (N,), NaN where the metric is not defined. For
    evidence of an annotation it returns the value of one image. The first line of its docstring
    describes the metric in tables. `percent` is True if values are percentages. A `default` metric
    is measured if the user names none, one of annotations only if there are some. `compared` is
    False if a baseline may be perfect by construction. `trace` is evidence that is kept for each
    image beside the value. `class_mean` adds the mean over classes of the means over images. `top1`
    adds the mean that counts images without an object of their class as 0, and is its key in
    metrics.json.
    """

    name: str
    function: Callable[..., Any]
    better: Literal["higher", "lower"]
    source: str
    percent: bool = False
    default: bool = False
    compared: bool = True
    trace: Curve | Matrix | None = None
    class_mean: bool = False
    top1: str | None = None
    alarm: Alarm | None = None

    def __post_init__(self) -> None:
        if unknown := self.needs - METRIC_EVIDENCE.keys():
            raise ValueError(
                f"metric {self.name!r} needs {sorted(unknown)}: expected names in "
                f"{list(METRIC_EVIDENCE)}"
            )
        if len(places := {METRIC_EVIDENCE[name].place for name in self.needs}) != 1:
            raise ValueError(
                f"metric {self.name!r} needs evidence of {sorted(places)}: expected one place"
            )
        if self.trace and self.place != "image":
            raise ValueError(f"metric {self.name!r} has a trace: expected evidence of images")
        if isinstance(self.trace, Curve) and self.trace.evidence not in self.needs:
            raise ValueError(
                f"metric {self.name!r} keeps {self.trace.evidence!r}, which it does not need"
            )
        if isinstance(self.trace, Matrix):
            expected = {self.trace.evidence, self.trace.others}
            if self.needs != expected:
                raise ValueError(
                    f"metric {self.name!r} has a matrix: expected the parameters {sorted(expected)}"
                )

    @cached_property
    def needs(self) -> frozenset[str]:
        """The names of the parameters, apart from those that have a default and no evidence."""
        parameters = inspect.signature(self.function).parameters.values()
        return frozenset(
            one.name
            for one in parameters
            if one.default is one.empty or one.name in METRIC_EVIDENCE
        )

    @property
    def place(self) -> EvidencePlace:
        """The place of its evidence."""
        return METRIC_EVIDENCE[min(self.needs)].place

    @property
    def has_matrix(self) -> bool:
        """Whether it is computed for every pair of maps."""
        return isinstance(self.trace, Matrix)

    @property
    def randomizes(self) -> bool:
        """Whether it replaces the network's weights for a while."""
        return any(METRIC_EVIDENCE[name].randomizes for name in self.needs)

    @property
    def needs_class(self) -> bool:
        """Whether it measures a probability or a rank of the class."""
        return any(METRIC_EVIDENCE[name].of_class for name in self.needs)

    @property
    def packages(self) -> set[str]:
        """The packages of the extra `evaluate` that it needs."""
        kinds = (METRIC_EVIDENCE[name] for name in self.needs)
        return {kind.package for kind in kinds if kind.package}

    @property
    def summary(self) -> str:
        """The first line of the function's docstring."""
        return (inspect.getdoc(self.function) or "").split("\n", 1)[0]


_metrics: dict[str, Metric] = {}
METRICS = MappingProxyType(_metrics)
"""Every registered metric by name."""

Function = TypeVar("Function", bound=Callable[..., Any])


def register_metric(name: str, **fields: Any) -> Callable[[Function], Function]:
    """Register the decorated function as a metric; `fields` are those of Metric.

    Raises ValueError if the name is taken or the fields do not fit the function.
    """

    def add(function: Function) -> Function:
        if name in _metrics:
            raise ValueError(f"metric {name!r} is registered twice")
        _metrics[name] = Metric(name, function, **fields)
        return function

    return add


def default_metrics(*, annotated: bool) -> tuple[str, ...]:
    """Return the metrics that are measured if the user names none."""
    return tuple(
        name
        for name, metric in METRICS.items()
        if metric.default and (metric.place == "annotation") == annotated
    )
