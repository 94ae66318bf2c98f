"""The methods, each a pure function of tensors, and METHODS, their one registry.

A parameter's name says what the method needs, and EVIDENCE says what may be asked for. Everything
else follows from that: a method which does not ask for `grads` never starts a backward pass, and
nothing else lists the methods. A new method is one function here and one oracle test.

torch is imported only for types, so that the command line can list the methods at once.

Letters: N images, C channels of the layer, h w its map, H W the network's input, r c window
positions. A is the layer's activations, S the pre-softmax score of the target, g = dS/dA.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor
from camcli.methods.registry import register


@register("cam", source="Zhou et al. 2016, arXiv:1512.04150, eq. 2", signed=True)
def cam(pooled: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
    """CAM, Class Activation Mapping: the pooled map weighted by the class's own weights.

    `M_c(x,y) = sum_k w_k^c f_k(x,y)`, signed. Behind a convolutional head that is the class's
    output channel, bias and all, before any ReLU. (N,C,h,w), (N,C), (N,) -> (N,h,w)
    """
    return (pooled * weights[:, :, None, None]).sum(1) + bias[:, None, None]


@register("gradcam", source="Selvaraju et al. 2017, arXiv:1610.02391, eq. 1-2", trainable=True)
def gradcam(acts: Tensor, grads: Tensor) -> Tensor:
    """Grad-CAM: activations weighted by their mean gradient, positive part.

    `ReLU(sum_k a_k A_k)` with `a_k = (1/Z) sum_ij g_ij`. (N,C,h,w), (N,C,h,w) -> (N,h,w) >= 0
    """
    weights = grads.mean((2, 3), keepdim=True)
    return (weights * acts).sum(1).relu()


@register(
    "gradcam++",
    source="Chattopadhay et al. 2018, arXiv:1710.11063, eq. 5, 10-11, 19",
    trainable=True,
)
def gradcam_plusplus(acts: Tensor, grads: Tensor) -> Tensor:
    """Grad-CAM++: every pixel's positive gradient is weighted by its own alpha.

    `ReLU(sum_k w_k A_k)`, `w_k = sum_ij alpha_ij ReLU(g_ij)`, and for Y = exp(S) and a piecewise
    linear network `alpha = g^2 / (2 g^2 + sum_ab A_ab g^3)`, which for g != 0 is
    `1 / (2 + g sum_ab A_ab)`: written so, nothing is divided by a small number, and channels with
    tiny gradients keep their weight. The factor exp(S) > 0, common to all weights, is left out: it
    overflows, and any scaling of the map cancels it. (N,C,h,w), (N,C,h,w) -> (N,h,w) >= 0

    The paper assumes A >= 0, which puts alpha into (0, 1/2] wherever g > 0. Where a layer's sum is
    negative we take it as zero, so alpha stays at most 1/2 and never meets its pole.
    """
    total = acts.sum((2, 3), keepdim=True).relu()
    positive = grads.relu()
    weights = (positive / (2 + positive * total)).sum((2, 3), keepdim=True)
    return (weights * acts).sum(1).relu()


@register(
    "gradcam++softmax", source="Chattopadhay et al. 2018, arXiv:1710.11063, eq. 10, of a softmax"
)
def gradcam_plusplus_softmax(
    acts: Tensor, log_grads: Tensor, mean_square: Tensor, mean_cube: Tensor
) -> Tensor:
    """Grad-CAM++ of the class's probability: its exact alpha, at a backward pass a class.

    `ReLU(sum_k w_k A_k)`, `w_k = sum_ij alpha_ij ReLU(Y'_ij)`, `alpha = Y'' / (2 Y'' + sum_ab A_ab
    Y''')` for Y = softmax(S). With D = d log Y / dA and the means over all classes m, weighted by
    Y^m, `Y' = Y D`, `Y'' = Y (D^2 - <D^2>)`, `Y''' = Y (D^3 - 3 D <D^2> - <D^3>)`. The factor Y,
    common to all weights, is left out. Four times (N,C,h,w) -> (N,h,w) >= 0

    Where a layer's sum is negative we take it as zero, as for exp. Yet here alpha has a pole even
    for A >= 0, behind which it is negative: it is kept between 0 and 1, and at 1/2, the value for
    a sum of zero, where both derivatives vanish.
    """
    total = acts.sum((2, 3), keepdim=True).relu()
    second = log_grads.square() - mean_square
    third = log_grads.pow(3) - 3 * log_grads * mean_square - mean_cube
    alpha = (second / (2 * second + total * third)).nan_to_num(0.5).clamp(0, 1)
    weights = (alpha * log_grads.relu()).sum((2, 3), keepdim=True)
    return (weights * acts).sum(1).relu()


@register("hirescam", source="Draelos & Carin 2020, arXiv:2011.08891")
def hirescam(acts: Tensor, grads: Tensor) -> Tensor:
    """HiResCAM: activations times their own gradients, positive part of the sum.

    `ReLU(sum_k g_k A_k)`. (N,C,h,w), (N,C,h,w) -> (N,h,w) >= 0
    """
    return (grads * acts).sum(1).relu()


@register("layercam", source="Jiang et al. 2021, doi:10.1109/TIP.2021.3089943")
def layercam(acts: Tensor, grads: Tensor) -> Tensor:
    """LayerCAM: activations times their own positive gradients, for early layers too.

    `ReLU(sum_k ReLU(g_k) A_k)`. (N,C,h,w), (N,C,h,w) -> (N,h,w) >= 0
    """
    return (grads.relu() * acts).sum(1).relu()


@register("xgradcam", source="Fu et al. 2020, arXiv:2008.02312")
def xgradcam(acts: Tensor, grads: Tensor) -> Tensor:
    """XGrad-CAM: Grad-CAM whose mean gradients are weighted by the activations.

    `ReLU(sum_k w_k A_k)`, `w_k = sum_ij g_ij A_ij / sum_ij A_ij`. (N,C,h,w), (N,C,h,w) -> (N,h,w)
    >= 0

    The paper assumes A >= 0, where w is a mean of g weighted by A. We weight by |A|: that is the
    same wherever a channel has one sign, be it the negative one, and where it has both, w stays
    between the least and the greatest g instead of meeting a pole where the sum of A is zero. A
    channel that is zero everywhere has w = 0.
    """
    size = acts.abs()
    total = size.sum((2, 3), keepdim=True)
    weights = (grads * size).sum((2, 3), keepdim=True) / total.where(total > 0, 1)
    return (weights * acts).sum(1).relu()


@register("eigencam", source="Muhammad & Yeasin 2020, arXiv:2008.00299")
def eigencam(acts: Tensor) -> Tensor:
    """Eigen-CAM: activations projected on their first principal direction, whatever the class.

    `O V_1` for the singular value decomposition `O = U S V^T` of the activations as a matrix
    (h w, C), not centred. Its sign, which the decomposition leaves open, is such that the
    components of V_1 sum to zero or more: for A >= 0 the map then is >= 0 by itself. Elsewhere it
    is the positive part. (N,C,h,w) -> (N,h,w) >= 0
    """
    return _projected(acts).relu()


@register(
    "eigengradcam",
    source="Gildenblat 2021, pytorch-grad-cam, after arXiv:2008.00299",
)
def eigengradcam(acts: Tensor, grads: Tensor) -> Tensor:
    """Eigen-Grad-CAM: activations times gradients, projected on their first principal direction.

    Eigen-CAM of `g A`, and with that of the class. The sign is chosen likewise, so that the map
    goes along with HiResCAM's sum. (N,C,h,w), (N,C,h,w) -> (N,h,w) >= 0
    """
    return _projected(grads * acts).relu()


@register("scorecam", source="Wang et al. 2020, arXiv:1910.01279, alg. 1")
def scorecam(acts: Tensor, masked: Tensor) -> Tensor:
    """Score-CAM: activations weighted by the score of the image seen through each, no gradients.

    `ReLU(sum_k w_k A_k)`, `w = softmax_k S(X s(U(A_k)))` for the image X, U bilinear upsampling and
    s scaling to 0..1. The paper's weights are increases over the score of a black image; that one
    number cancels in the softmax. (N,C,h,w), (N,C) -> (N,h,w) >= 0
    """
    return (masked.softmax(1)[:, :, None, None] * acts).sum(1).relu()


@register("ablationcam", source="Desai & Ramaswamy 2020, doi:10.1109/WACV45572.2020.9093360")
def ablationcam(acts: Tensor, score: Tensor, ablated: Tensor) -> Tensor:
    """Ablation-CAM: activations weighted by the fall of the score without each, no gradients.

    `ReLU(sum_k w_k A_k)`, `w_k = S - S_k` with S_k the score without channel k. The paper divides
    all weights by S: any scaling of the map cancels that where S > 0, and where it is not it would
    turn the map round or have no value. (N,C,h,w), (N,), (N,C) -> (N,h,w) >= 0
    """
    fall = score[:, None] - ablated
    return (fall[:, :, None, None] * acts).sum(1).relu()


@register(
    "guided-backprop",
    source="Springenberg et al. 2015, arXiv:1412.6806, sec. 3.4",
    signed=True,
    image=True,
)
def guided_backprop(guided: Tensor) -> Tensor:
    """Guided Backpropagation: the input's gradient through positive paths alone.

    At every ReLU `R_in = 1[x > 0] 1[R_out > 0] R_out`. (N,3,H,W) -> (N,3,H,W), signed
    """
    return guided


@register(
    "guided", source="Selvaraju et al. 2017, arXiv:1610.02391, sec. 3.2", signed=True, image=True
)
def guided_gradcam(acts: Tensor, grads: Tensor, guided: Tensor) -> Tensor:
    """Guided Grad-CAM: Guided Backpropagation times Grad-CAM, upsampled bilinearly.

    (N,C,h,w), (N,C,h,w), (N,3,H,W) -> (N,3,H,W), signed
    """
    from torch.nn.functional import interpolate

    coarse = gradcam(acts, grads)[:, None]
    return guided * interpolate(coarse, size=guided.shape[2:], mode="bilinear", align_corners=False)


@register("occlusion", source="Zeiler & Fergus 2014, arXiv:1311.2901, sec. 4.2", signed=True)
def occlusion(score: Tensor, occluded: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Occlusion: how far the score falls when a grey square covers the pixel.

    The paper plots the score itself, low where the evidence is; this is its fall `S - S_occluded`,
    high where the evidence is, like every other method here. Each pixel holds the mean over the
    windows that cover it. (N,), (N,r,c), (r,H), (c,W) -> (N,H,W), signed, in units of the score
    """
    fall = score[:, None, None] - occluded
    coverage = rows.sum(0)[:, None] * columns.sum(0)
    return rows.mT @ fall @ columns / coverage


def _projected(maps: Tensor) -> Tensor:
    """Maps (N,C,h,w) projected on their first right singular direction (N,C) -> (N,h,w)."""
    import torch

    flat = maps.flatten(2)
    largest = flat.abs().amax((1, 2), keepdim=True)
    # Squares of tiny gradients would underflow, and half precision is too coarse.
    even = (flat / largest.where(largest > 0, 1)).to(torch.promote_types(maps.dtype, torch.float32))
    wide = even.shape[1] > even.shape[2]
    # The smaller of the two Gram matrices has the same leading eigenvalues, and is the cheaper.
    vector = _leading(even.mT @ even if wide else even @ even.mT)
    direction = torch.nn.functional.normalize(even @ vector if wide else vector, dim=1)
    sign = torch.where(direction.sum(1, keepdim=True) < 0, -1, 1)
    projected: Tensor = (sign * direction).mT.to(maps.dtype) @ flat
    return projected.view(len(maps), *maps.shape[2:])


def _leading(gram: Tensor) -> Tensor:
    """The leading eigenvector (N,m,1), of any length and sign, of Gram matrices (N,m,m).

    Each is squared until nothing else is left of it: power iteration that doubles its steps each
    time, three or four times for a map. LAPACK's solver finds all eigenvectors, which takes longer,
    and gives up on some matrices of sparse maps.
    """
    import torch

    enough = 1 - 8 * torch.finfo(gram.dtype).eps
    for _ in range(30):
        trace = gram.diagonal(dim1=1, dim2=2).sum(1)[:, None, None]
        gram = gram / trace.where(trace > 0, 1)
        gram = gram @ gram
        # The sum of the squared shares of the eigenvalues: 1 where there is but one.
        left = gram.diagonal(dim1=1, dim2=2).sum(1)
        if bool(((left > enough) | (left == 0)).all()):
            break
    largest = gram.diagonal(dim1=1, dim2=2).argmax(1)
    return gram.take_along_dim(largest[:, None, None], 2)
