"""The methods, each a pure function of tensors that `register` adds to METHODS.

The names of a method's parameters say which evidence it needs; EVIDENCE lists the names. A method
without the parameter `grads` therefore never starts a backward pass. A new method is one function
here and one oracle test; no other list of methods exists.

torch is imported only for types, so that `camcli --help` can list the methods without it.

Letters: N images, C channels of the layer, h w its map, H W the network's input, r c window
positions. A denotes the layer's activations, S the pre-softmax score of the target, g = dS/dA.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

from camcli.methods.registry import register


@register("cam", source="Zhou et al. 2016, arXiv:1512.04150, eq. 2", signed=True)
def cam(pooled: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
    """CAM, Class Activation Mapping: channels of the pooled map weighted by the class's weights.

    `M_c(x,y) = sum_k w_k^c f_k(x,y)`, signed. For a convolutional head it is the output channel of
    the class, including its bias, before any ReLU. (N,C,h,w), (N,C), (N,) -> (N,h,w)
    """
    return (pooled * weights[:, :, None, None]).sum(1) + bias[:, None, None]


@register("gradcam", source="Selvaraju et al. 2017, arXiv:1610.02391, eq. 1-2", trainable=True)
def gradcam(acts: Tensor, grads: Tensor) -> Tensor:
    """Grad-CAM: activations weighted by the mean gradient of their channel, positive part.

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
    """Grad-CAM++: Grad-CAM with positive gradients, each weighted by its own alpha.

    `ReLU(sum_k w_k A_k)` with `w_k = sum_ij alpha_ij ReLU(g_ij)`. For Y = exp(S) and a piecewise
    linear network, `alpha = g^2 / (2 g^2 + sum_ab A_ab g^3)`. For g != 0 this equals
    `1 / (2 + g sum_ab A_ab)`, which divides by no small number, so that channels with tiny
    gradients keep their weights. The factor exp(S) > 0 of all weights is omitted: it overflows, and
    scaling the map cancels it. (N,C,h,w), (N,C,h,w) -> (N,h,w) >= 0

    The paper assumes A >= 0, for which alpha lies in (0, 1/2] wherever g > 0. A negative sum of A
    is replaced by zero here, so that alpha stays at most 1/2 and never reaches its pole.
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
    """Grad-CAM++ of the class's probability: exact alphas, summed over all classes.

    `ReLU(sum_k w_k A_k)` with `w_k = sum_ij alpha_ij ReLU(Y'_ij)` and
    `alpha = Y'' / (2 Y'' + sum_ab A_ab Y''')` for Y = softmax(S). Let D = d log Y / dA, and let
    <.> be the mean over all classes m weighted by Y^m. Then `Y' = Y D`, `Y'' = Y (D^2 - <D^2>)` and
    `Y''' = Y (D^3 - 3 D <D^2> - <D^3>)`. The factor Y of all weights is omitted.
    Four times (N,C,h,w) -> (N,h,w) >= 0

    A negative sum of A is replaced by zero, as in Grad-CAM++. Here alpha has a pole even for
    A >= 0 and is negative beyond it, so it is clamped to [0, 1]. Where both derivatives are zero,
    alpha is 1/2, its value for a sum of zero.
    """
    total = acts.sum((2, 3), keepdim=True).relu()
    second = log_grads.square() - mean_square
    third = log_grads.pow(3) - 3 * log_grads * mean_square - mean_cube
    alpha = (second / (2 * second + total * third)).nan_to_num(0.5).clamp(0, 1)
    weights = (alpha * log_grads.relu()).sum((2, 3), keepdim=True)
    return (weights * acts).sum(1).relu()


@register("hirescam", source="Draelos & Carin 2020, arXiv:2011.08891")
def hirescam(acts: Tensor, grads: Tensor) -> Tensor:
    """HiResCAM: activations times their gradients, summed over channels, positive part.

    `ReLU(sum_k g_k A_k)`. (N,C,h,w), (N,C,h,w) -> (N,h,w) >= 0
    """
    return (grads * acts).sum(1).relu()


@register("layercam", source="Jiang et al. 2021, doi:10.1109/TIP.2021.3089943")
def layercam(acts: Tensor, grads: Tensor) -> Tensor:
    """LayerCAM: activations times their positive gradients, suitable for early layers too.

    `ReLU(sum_k ReLU(g_k) A_k)`. (N,C,h,w), (N,C,h,w) -> (N,h,w) >= 0
    """
    return (grads.relu() * acts).sum(1).relu()


@register("xgradcam", source="Fu et al. 2020, arXiv:2008.02312")
def xgradcam(acts: Tensor, grads: Tensor) -> Tensor:
    """XGrad-CAM: Grad-CAM with mean gradients that are weighted by the activations.

    `ReLU(sum_k w_k A_k)` with `w_k = sum_ij g_ij A_ij / sum_ij A_ij`.
    (N,C,h,w), (N,C,h,w) -> (N,h,w) >= 0

    The paper assumes A >= 0, for which w is the mean of g weighted by A. This function weights by
    |A|. The result is the same for channels whose values have one sign. In other channels w stays
    between the minimum and the maximum of g, without a pole where the sum of A is zero. A channel
    of zeros has w = 0.
    """
    magnitudes = acts.abs()
    total = magnitudes.sum((2, 3), keepdim=True)
    weights = (grads * magnitudes).sum((2, 3), keepdim=True) / total.where(total > 0, 1)
    return (weights * acts).sum(1).relu()


@register("eigencam", source="Muhammad & Yeasin 2020, arXiv:2008.00299")
def eigencam(acts: Tensor) -> Tensor:
    """Eigen-CAM: activations projected on their first principal direction, for any class.

    `ReLU(O V_1)` for the singular value decomposition `O = U S V^T` of the activations as a matrix
    (h w, C) that is not centred. The decomposition leaves the sign of V_1 open; it is chosen so
    that `O V_1` does not sum to less than zero over the map, which keeps a positive part where A
    has negative values. For A >= 0, `O V_1` is then >= 0 even before the ReLU.
    (N,C,h,w) -> (N,h,w) >= 0
    """
    return _projected(acts).relu()


@register(
    "eigengradcam",
    source="Gildenblat 2021, pytorch-grad-cam, after arXiv:2008.00299",
)
def eigengradcam(acts: Tensor, grads: Tensor) -> Tensor:
    """Eigen-Grad-CAM: activations times gradients, projected on their first principal direction.

    Eigen-CAM of `g A`, which depends on the class. The sign is chosen so that the projection sums
    to a number with the sign of `sum_kij g_kij A_kij`. Evidence for a class and against it would
    otherwise have the same map. (N,C,h,w), (N,C,h,w) -> (N,h,w) >= 0
    """
    products = grads * acts
    against = products.sum((1, 2, 3), keepdim=True)[:, 0] < 0
    projected = _projected(products)
    return projected.where(~against, -projected).relu()


@register("scorecam", source="Wang et al. 2020, arXiv:1910.01279, alg. 1")
def scorecam(acts: Tensor, masked: Tensor) -> Tensor:
    """Score-CAM: channels weighted by the score of the image masked with them, without gradients.

    `ReLU(sum_k w_k A_k)` with `w = softmax_k S(X s(U(A_k)))` for the image X, bilinear upsampling U
    and scaling s to [0, 1]. The paper subtracts the score of a black image from each score; this
    constant cancels in the softmax. (N,C,h,w), (N,C) -> (N,h,w) >= 0
    """
    return (masked.softmax(1)[:, :, None, None] * acts).sum(1).relu()


@register("ablationcam", source="Desai & Ramaswamy 2020, doi:10.1109/WACV45572.2020.9093360")
def ablationcam(acts: Tensor, score: Tensor, ablated: Tensor) -> Tensor:
    """Ablation-CAM: channels weighted by the drop in score without them, without gradients.

    `ReLU(sum_k w_k A_k)` with `w_k = S - S_k`, where S_k is the score without channel k. The paper
    divides all weights by S. For S > 0, scaling the map cancels this factor; for S < 0, it would
    reverse the sign of the map; for S = 0, it is undefined. (N,C,h,w), (N,), (N,C) -> (N,h,w) >= 0
    """
    drop = score[:, None] - ablated
    return (drop[:, :, None, None] * acts).sum(1).relu()


@register(
    "guided-backprop",
    source="Springenberg et al. 2015, arXiv:1412.6806, sec. 3.4",
    signed=True,
    image=True,
)
def guided_backprop(guided: Tensor) -> Tensor:
    """Guided Backpropagation: the gradient at the input, with only positive gradients at ReLUs.

    The backward pass applies `R_in = 1[x > 0] 1[R_out > 0] R_out` at every ReLU.
    (N,3,H,W) -> (N,3,H,W), signed
    """
    return guided


@register(
    "guided", source="Selvaraju et al. 2017, arXiv:1610.02391, sec. 3.2", signed=True, image=True
)
def guided_gradcam(
    acts: Tensor, grads: Tensor, guided: Tensor, vertical: Tensor, horizontal: Tensor
) -> Tensor:
    """Guided Grad-CAM: Guided Backpropagation times Grad-CAM that is upsampled bilinearly.

    (N,C,h,w), (N,C,h,w), (N,3,H,W), (H,h), (w,W) -> (N,3,H,W), signed
    """
    return guided * (vertical @ gradcam(acts, grads) @ horizontal)[:, None]


@register("occlusion", source="Zeiler & Fergus 2014, arXiv:1311.2901, sec. 4.2", signed=True)
def occlusion(score: Tensor, occluded: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Occlusion: the drop in score when a grey square covers the pixel.

    The paper plots the score itself, which is low at important pixels. This function returns the
    drop `S - S_occluded`, which is high there, as the maps of all other methods are. Each pixel
    holds the mean over the windows that cover it.
    (N,), (N,r,c), (r,H), (c,W) -> (N,H,W), signed, in units of the score
    """
    drop = score[:, None, None] - occluded
    coverage = rows.sum(0)[:, None] * columns.sum(0)
    return rows.mT @ drop @ columns / coverage


def _projected(maps: Tensor) -> Tensor:
    """Project maps (N,C,h,w) on their first right singular vectors (N,C) -> (N,h,w).

    The sign is that for which the projection does not sum to less than zero.
    """
    import torch

    flat = maps.flatten(2)
    largest = flat.abs().amax((1, 2), keepdim=True)
    # Without scaling, squares of tiny gradients would underflow. Half precision is too coarse.
    scaled = (flat / largest.where(largest > 0, 1)).to(
        torch.promote_types(maps.dtype, torch.float32)
    )
    wide = scaled.shape[1] > scaled.shape[2]
    # Both Gram matrices have the same leading eigenvalue. The smaller one is cheaper.
    vector = _leading_eigenvector(scaled.mT @ scaled if wide else scaled @ scaled.mT)
    direction = torch.nn.functional.normalize(scaled @ vector if wide else vector, dim=1)
    projected: Tensor = direction.mT.to(maps.dtype) @ flat
    sign = torch.where(projected.sum(2, keepdim=True) < 0, -1, 1)
    return (sign * projected).view(len(maps), *maps.shape[2:])


def _leading_eigenvector(gram: Tensor) -> Tensor:
    """Return the leading eigenvectors (N,m,1) of Gram matrices (N,m,m), of any length and sign.

    Each matrix is squared until it has rank one. This is power iteration with the number of steps
    doubled each time; three or four squarings suffice for a map. LAPACK's solver computes all
    eigenvectors, which is slower, and does not converge for some matrices of sparse maps.
    """
    import torch

    converged = 1 - 8 * torch.finfo(gram.dtype).eps
    for _ in range(30):
        trace = gram.diagonal(dim1=1, dim2=2).sum(1)[:, None, None]
        gram = gram / trace.where(trace > 0, 1)
        gram = gram @ gram
        # The sum of the squared normalised eigenvalues: 1 for a matrix of rank one.
        purity = gram.diagonal(dim1=1, dim2=2).sum(1)
        if bool(((purity > converged) | (purity == 0)).all()):
            break
    largest = gram.diagonal(dim1=1, dim2=2).argmax(1)
    return gram.take_along_dim(largest[:, None, None], 2)
