"""Means over all classes of powers of D = d log Y / dA, for Y the softmax of a class.

The weights of the means <.> are the probabilities of the classes. Let r be the best class of an
image, and `E = d(S - S^r) / dA` for each class's score S. Then `D = E - <E>`. E is zero for r
itself, so that nothing cancels where the probability of r rounds to 1.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, one_hot

from camcli.capture.hooks import Tap
from camcli.errors import ignored_warnings
from camcli.models.head import Head
from camcli.models.precision import at_least_float32

_AT_ONCE = 2**23
"""The most elements in the gradients of several classes at once."""


def class_moments(
    tap: Tap, scores: Tensor, mean: Tensor, head: Head | None
) -> tuple[Tensor, Tensor]:
    """Return <D^2> and <D^3> at a tap, each (N,C,h,w), of scores (N,K) whose <E> is `mean`.

    They follow from the weights of a head, if its <E> agrees with that of the network, and from a
    backward pass per class otherwise.
    """
    known = head and powers_by_head(head, tap.detached, scores.detach())
    if known and _agree(known[0], mean):
        first, second, third = known
        square, cube = second - first.square(), third - 3 * first * second + 2 * first.pow(3)
        return square.to(at_least_float32(mean).dtype), cube.to(at_least_float32(mean).dtype)
    square = cube = torch.zeros_like(mean)
    shares = scores.detach().softmax(1).T[:, :, None, None, None]
    at_once = max(1, _AT_ONCE // mean.numel())
    for slopes, share in zip(
        _slopes(tap, scores, at_once), torch.split(shares, at_once), strict=True
    ):
        slopes = slopes - mean
        weighted = share * slopes.square()
        square, cube = square + weighted.sum(0), cube + (weighted * slopes).sum(0)
    return square, cube


def powers_by_head(head: Head, acts: Tensor, scores: Tensor) -> list[Tensor] | None:
    """Return <E>, <E^2> and <E^3>, each (N,C,h,w), in float64; None if the head does not fit.

    The scores are means over Z cells of class maps, with weights w and gates f, which are 1 where a
    ReLU behind the head lets the class map through: `dS^m/dA_kij = w_mk f_mij / Z`. Then `Z E_m` is
    `w_m f_m` where f_r = 0. Where f_r = 1, it is `w_m - w_r` if f_m = 1, and `-w_r` otherwise. Each
    mean is a product of matrices, which costs as much as a forward pass of the head.
    """
    weight = head.linear.get_parameter("weight").detach().flatten(1)
    if weight.shape != (scores.shape[1], acts.shape[1]):
        return None
    gates = _gates(head, acts, scores)
    exact = torch.float32 if acts.device.type == "mps" else torch.float64
    shares = scores.to(exact).softmax(1)
    images = zip(shares, gates.to(exact).flatten(2), strict=True)
    found = torch.stack([_mean_powers(weight.to(exact), *image) for image in images], 1)
    cells, passing = acts[0, 0].numel(), acts > 0 if head.rectified else torch.ones_like(acts)
    powers = found.unflatten(3, gates.shape[2:])  # type: ignore[no-untyped-call]
    return [passing * one / cells**power for power, one in enumerate(powers, 1)]


def _gates(head: Head, acts: Tensor, scores: Tensor) -> Tensor:
    """Return where each class's map reaches its score, (N,K,h,w); (N,K,1,1) for a linear layer."""
    if not isinstance(head.linear, nn.Conv2d):
        return torch.ones_like(scores)[:, :, None, None]
    given = acts.relu() if head.rectified else acts
    maps = conv2d(given, head.linear.weight.detach(), head.linear.bias)
    is_mean = torch.allclose(maps.mean((2, 3)).to(scores), scores, rtol=1e-3, atol=1e-4)
    return torch.ones_like(maps) if is_mean else (maps > 0).to(maps)


def _mean_powers(weight: Tensor, share: Tensor, gate: Tensor) -> Tensor:
    """Return the means of `Z E` to the powers 1, 2 and 3 for an image, (3,C,Z).

    The head has weights (K,C), and the classes of the image probabilities (K,) and gates (K,Z).
    """
    best = int(share.argmax())
    is_open, weighted = gate[best] > 0, share[:, None] * gate
    shut = (share[:, None] - weighted).sum(0)[is_open]
    found = weight.new_empty(3, weight.shape[1], gate.shape[1])
    for power, means in enumerate(found, 1):
        above, below = (weight - weight[best]).pow(power), (-weight[best]).pow(power)
        means[:, is_open] = torch.addr(above.mT @ weighted[:, is_open], below, shut)
        means[:, ~is_open] = weight.pow(power).mT @ weighted[:, ~is_open]
    return found


def _agree(found: Tensor, mean: Tensor) -> bool:
    near = max(1e-4, 4 * torch.finfo(mean.dtype).eps)
    return bool(((found - mean).abs() <= near * mean.abs().amax()).all())


def _slopes(tap: Tap, scores: Tensor, at_once: int) -> Iterator[Tensor]:
    """Yield E of all classes in order, (B,N,C,h,w) for `at_once` of them at a time.

    The backward passes of these run as one, by `vmap`, unless the network refuses that.
    """
    assert tap.acts is not None
    contrasts = torch.eye(scores.shape[1]).to(scores)[:, None] - one_hot(
        scores.detach().argmax(1), scores.shape[1]
    ).to(scores)
    for some in torch.split(contrasts, at_once):
        try:
            with ignored_warnings("There is a performance drop"):  # where vmap loops
                (found,) = torch.autograd.grad(
                    scores, tap.acts, some, retain_graph=True, is_grads_batched=True
                )
        except RuntimeError:  # such as from a hook that branches on values
            found = torch.stack([tap.gradient((one * scores).sum(1)) for one in some])
        yield found
