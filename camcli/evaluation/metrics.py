"""The metrics that need no annotations, each a pure function of tensors.

Letters: N images, H W the network's input, R other maps of the same images, S points of a curve.
Y is the class probability on the image, O the class probability on the masked image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from camcli.evaluation.correlation import pearson, spearman
from camcli.evaluation.registry import GRAD_CAM_PP, Alarm, Curve, Matrix, register_metric

if TYPE_CHECKING:
    from torch import Tensor

TIE = 1e-4
"""The relative difference below which two probabilities count as equal. Summation in another order
changes float32 scores by about 1e-5."""

_RISE = "Petsiuk et al. 2018 (RISE), arXiv:1806.07421"
_ROAD = "Rong et al. 2022, arXiv:2202.00449"
_ADCC = "Poppi et al. 2021 (ADCC), arXiv:2104.10252"


@register_metric("average-drop", better="lower", source=GRAD_CAM_PP, percent=True, default=True)
def average_drop(probability: Tensor, masked_probability: Tensor) -> Tensor:
    """Average Drop: the share of the class probability that is lost on the masked image.

    `100 max(0, Y - O) / Y`. A map of ones is perfect: read it beside other metrics.
    (N,), (N,) -> (N,), 0 to 100 percent
    """
    return 100 * (probability - masked_probability).clamp(min=0) / probability


@register_metric("increase", better="higher", source=GRAD_CAM_PP, percent=True, default=True)
def increase(probability: Tensor, masked_probability: Tensor) -> Tensor:
    """Increase in Confidence: how often the class probability is higher on the masked image.

    `100 [Y < O]`, where a relative difference up to TIE counts as equal.
    (N,), (N,) -> (N,), 0 or 100 percent
    """
    risen = 100 * (masked_probability > probability * (1 + TIE)).to(probability)
    return _nan_like(risen, masked_probability)


@register_metric(
    "win",
    better="higher",
    source=GRAD_CAM_PP,
    percent=True,
    trace=Matrix("masked_probability", "other_masked_probabilities"),
)
def win(masked_probability: Tensor, other_masked_probabilities: Tensor) -> Tensor:
    """Win: the share of the other maps whose masked image loses more of the class probability.

    The map with the higher O wins. A relative difference up to TIE is a draw and counts half. The
    paper compares two methods; the matrix of all pairs is reported, too.
    (N,), (R,N) -> (N,), 0 to 100 percent
    """
    own, others = masked_probability, other_masked_probabilities
    won = (own > others * (1 + TIE)).to(own)
    lost = (others > own * (1 + TIE)).to(own)
    return _nan_like(100 * ((1 + won - lost) / 2).mean(0), own + others.sum(0))


@register_metric(
    "insertion",
    better="higher",
    source=_RISE,
    default=True,
    trace=Curve("insertion_curve", "share of pixels inserted", "probability"),
)
def insertion(insertion_curve: Tensor) -> Tensor:
    """Insertion: the area under the class probability as top pixels replace a blurred image.

    By the trapezoid rule, over shares of pixels from 0 to 1. (N,S) -> (N,), 0 to 1
    """
    return _area_under(insertion_curve)


@register_metric(
    "deletion",
    better="lower",
    source=_RISE,
    default=True,
    trace=Curve("deletion_curve", "share of pixels removed", "probability"),
)
def deletion(deletion_curve: Tensor) -> Tensor:
    """Deletion: the area under the class probability as the map's top pixels are removed.

    By the trapezoid rule, over shares of pixels from 0 to 1. (N,S) -> (N,), 0 to 1
    """
    return _area_under(deletion_curve)


@register_metric(
    "road",
    better="lower",
    source=_ROAD,
    trace=Curve("road_morf", "share of highest pixels imputed", "accuracy", "open"),
)
def road(road_morf: Tensor) -> Tensor:
    """ROAD: how often the class stays the prediction after the map's top pixels are imputed.

    Most relevant first; the mean over shares of 10 % to 90 %. Imputing from the neighbours keeps
    the shape of the removed region from the network. The mean over images is the paper's accuracy.
    (N,S) -> (N,), 0 to 1
    """
    return road_morf.mean(1)


@register_metric(
    "road-least",
    better="higher",
    source=_ROAD,
    trace=Curve("road_lerf", "share of lowest pixels imputed", "accuracy", "open"),
)
def road_least(road_lerf: Tensor) -> Tensor:
    """ROAD, least relevant first: the same after the map's lowest pixels are imputed.

    (N,S) -> (N,), 0 to 1
    """
    return road_lerf.mean(1)


@register_metric("grid", better="higher", source="Rao et al. 2022, arXiv:2205.10435")
def grid(grid_map: Tensor, grid_cell: Tensor) -> Tensor:
    """Grid pointing: the share of the map of a 2x2 grid of images that lies on the class's image.

    Positive attribution in the cell divided by that in all four cells; 0 if the total is less than
    1e-7. A constant map has 0.25. (N,2H,2W), (N,) -> (N,), 0 to 1
    """
    height, width = grid_map.shape[1] // 2, grid_map.shape[2] // 2
    halves = grid_map.clamp(min=0).reshape(len(grid_map), 2, height, 2, width)
    cells = halves.sum((2, 4)).flatten(1)
    total = cells.sum(1)
    share = cells.gather(1, grid_cell[:, None])[:, 0] / total.where(total > 0, 1)
    pointed: Tensor = share.where(total >= 1e-7, 0)
    return pointed


@register_metric(
    "occlusion-correlation", better="higher", source="Selvaraju et al. 2017, arXiv:1610.02391"
)
def occlusion_correlation(raw_map: Tensor, occlusion_map: Tensor) -> Tensor:
    """Rank correlation with occlusion: Spearman's correlation with the occlusion map.

    At input size. Equal values share their mean rank; 0 where a map is flat.
    (N,H,W), (N,H,W) -> (N,), -1 to 1
    """
    return spearman(raw_map, occlusion_map)


@register_metric("complexity", better="lower", source=_ADCC, percent=True, compared=False)
def complexity(mask: Tensor) -> Tensor:
    """Complexity: the mean of the map in [0, 1], its L1 norm divided by the number of pixels.

    (N,H,W) -> (N,), 0 to 100 percent
    """
    return 100 * mask.mean((1, 2))


@register_metric("coherency", better="higher", source=_ADCC, percent=True, compared=False)
def coherency(mask: Tensor, mask_of_masked: Tensor) -> Tensor:
    """Coherency: the correlation of the map with the map of the masked image.

    `100 (r + 1) / 2` of Pearson's correlation r, 0 where a map is flat. A map that does not depend
    on the image is perfect. (N,H,W), (N,H,W) -> (N,), 0 to 100 percent
    """
    return (50 * (pearson(mask, mask_of_masked) + 1)).nan_to_num(0.0)


@register_metric(
    "sanity",
    better="lower",
    source="Adebayo et al. 2018, arXiv:1810.03292",
    compared=False,
    trace=Curve(
        "randomized_correlation",
        "step of randomization, from the logits",
        "rank correlation",
        "numbered",
    ),
    # With ImageNet weights Grad-CAM has 0.04 and Guided Backpropagation 0.50.
    alarm=Alarm(
        0.3,
        "fails the sanity check: its maps stay similar when the weights are randomized (rank "
        "correlation {value:.2f})",
    ),
)
def sanity(randomized_correlation: Tensor) -> Tensor:
    """Sanity check: the rank correlation with the map of a network with random weights.

    The mean over the steps of randomization at which there is a map. A map that depends on what the
    network has learnt comes near 0; one that stays near 1 shows the image. The value does not rank
    methods (Binder et al. 2022, arXiv:2211.12486). (N,S) -> (N,), -1 to 1
    """
    return randomized_correlation.nanmean(1)


def _nan_like(values: Tensor, evidence: Tensor) -> Tensor:
    """Return values (N,), NaN where the evidence is not finite, since comparisons drop NaN."""
    return values.where(evidence.isfinite(), float("nan"))


def _area_under(curve: Tensor) -> Tensor:
    """Integrate curves (N,S) over evenly spaced points from 0 to 1 by the trapezoid rule."""
    ends = (curve[:, 0] + curve[:, -1]) / 2
    return (curve.sum(1) - ends) / (curve.shape[1] - 1)
