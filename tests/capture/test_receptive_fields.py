"""Receptive fields: the traced centres of cells are those that gradients have."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from camcli.capture.axes import AxisTracer
from camcli.models.atoms import Line
from camcli.models.axes import line_of

Operations = Callable[[Tensor], Tensor]

IMAGE = 64, 80


def ones(*shape: int) -> Tensor:
    return torch.ones(shape)


def conv(x: Tensor, height: int, width: int, **how: object) -> Tensor:
    return F.conv2d(x, ones(2, x.shape[1], height, width), **how)  # type: ignore[arg-type]


def merged(x: Tensor) -> Tensor:
    """Merge 2x2 patches into channels (N,h,w,4C), as Swin Transformers of timm do."""
    n, c, h, w = x.shape
    cut = x.permute(0, 2, 3, 1).reshape(n, h // 2, 2, w // 2, 2, c)
    return cut.permute(0, 1, 3, 4, 2, 5).flatten(3)


def corners(x: Tensor) -> Tensor:
    """Merge 2x2 patches into channels (N,4C,h,w), as Swin Transformers of torchvision do."""
    return torch.cat([x[:, :, i::2, j::2] for j in (0, 1) for i in (0, 1)], 1)


def linear(x: Tensor) -> Tensor:
    """Sum over the last axis."""
    return F.linear(x, ones(3, x.shape[-1]))


def tokens(x: Tensor) -> Tensor:
    return x.flatten(2).mT


def deformed(x: Tensor) -> Tensor:
    """Convolve by a deformable kernel without offsets."""
    kernel, offset = ones(2, x.shape[1], 3, 3), torch.zeros(1, 18, x.shape[2] // 2, x.shape[3] // 2)
    return torchvision.ops.deform_conv2d(x, offset, kernel, stride=2, padding=1)


OPERATIONS: dict[str, Operations] = {
    "convolution": lambda x: conv(x, 3, 3, padding=1),
    "stride": lambda x: conv(x, 7, 7, stride=2, padding=3),
    "no padding": lambda x: conv(x, 3, 5, stride=(2, 1)),
    "even kernel": lambda x: conv(x, 4, 2, stride=4),
    "dilation": lambda x: conv(x, 3, 3, stride=2, dilation=3, padding=2),
    "patches": lambda x: conv(x, 16, 16, stride=16),
    "one side padded": lambda x: conv(F.pad(x, (0, 1, 0, 1)), 3, 3, stride=2),
    "transposed": lambda x: F.conv_transpose2d(conv(x, 3, 3, stride=4), ones(2, 1, 3, 3), stride=2),
    "mean pooling": lambda x: F.avg_pool2d(x, 3, 2, ceil_mode=True),
    "pooling with padding": lambda x: F.avg_pool2d(x, 3, 2, 1),
    "adaptive pooling": lambda x: F.adaptive_avg_pool2d(x, (8, 10)),
    "bilinear": lambda x: F.interpolate(conv(x, 4, 4, stride=4), scale_factor=2, mode="bilinear"),
    "to a size": lambda x: F.interpolate(x, (32, 20), mode="bilinear", antialias=True),
    "aligned corners": lambda x: F.interpolate(
        conv(x, 4, 4, stride=4), (31, 39), mode="bilinear", align_corners=True
    ),
    "nearest": lambda x: F.interpolate(x, scale_factor=2),
    "unshuffled": lambda x: conv(F.pixel_unshuffle(x, 4), 3, 3),
    "subsampled": lambda x: x[:, :, 1::2, ::2] * 2,
    "cropped back": lambda x: conv(F.pad(x, (3, 3, 2, 2))[:, :, 2:-2, 3:-3], 3, 3),
    "reflected": lambda x: conv(F.pad(x, (3, 0, 2, 1), "reflect"), 3, 3, stride=2),
    "merged": lambda x: linear(merged(x)).permute(0, 3, 1, 2),
    "merged twice": lambda x: linear(merged(linear(merged(x)).movedim(3, 1))).movedim(3, 1),
    "merged corners": lambda x: conv(corners(conv(x, 2, 2, stride=2)), 1, 1),
    "channels last": lambda x: linear(conv(x, 3, 3, stride=2).movedim(1, 3)).movedim(3, 1),
    "tokens and back": lambda x: tokens(conv(x, 8, 8, stride=8)).mT.reshape(1, 2, 8, 10),
    "residual": lambda x: conv(x, 3, 3, stride=2, padding=1) + conv(x, 1, 1, stride=2),
    "subsampled residual": lambda x: conv(x, 3, 3, stride=2, padding=1)[:, :1] + x[:, :, ::2, ::2],
    "branches": lambda x: torch.cat([conv(x, 3, 3, stride=2), F.avg_pool2d(x, 3, 2)], 1),
    "deformable": deformed,
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_centres_are_those_of_the_gradient(name: str) -> None:
    """Two inner cells see areas whose centres of gravity are the cells' centres."""
    image = torch.ones(1, 1, *IMAGE, requires_grad=True)
    output, lines = traced(OPERATIONS[name], image)
    for dim, line in ((2, lines[0]), (3, lines[1])):
        assert line is not None
        assert 0 < line.step * output.shape[dim] < 1.3 * IMAGE[dim - 2]
        for offset in (0, 1):
            cell = [output.shape[2] // 2, output.shape[3] // 2]
            cell[dim - 2] += offset
            (seen,) = torch.autograd.grad(
                output[0, :, cell[0], cell[1]].sum(), image, retain_graph=True
            )
            weights = seen[0, 0].sum(3 - dim).numpy()
            centre = np.average(np.arange(IMAGE[dim - 2]) + 0.5, weights=weights)
            nearest = 0.5 if name == "nearest" else 0.01  # it repeats values
            assert line.start + cell[dim - 2] * line.step == pytest.approx(centre, abs=nearest)


def traced(operations: Operations, image: Tensor) -> tuple[Tensor, tuple[Line | None, Line | None]]:
    """Return the output of operations, and the lines of its rows and columns."""
    tracer = AxisTracer()
    tracer.follow(image)
    with tracer:
        output = operations(image)
    axes = tracer.axes_of(output)
    assert axes is not None
    return output, (line_of(axes, "y"), line_of(axes, "x"))


@pytest.mark.parametrize(
    "operations",
    [
        lambda x: conv(x, 3, 3, padding=1) + conv(F.pad(x, (3, 0, 3, 0)), 4, 4),
        lambda x: F.grid_sample(x, torch.zeros(1, 8, 8, 2), align_corners=False),
        lambda x: x.roll((3, 3), (2, 3)),
        lambda x: torch.cat([x, F.pad(x, (2, 0, 2, 0))[:, :, :-2, :-2]], 1),
    ],
)
def test_unknown_centres(operations: Operations) -> None:
    """Branches that look elsewhere, and operations that move values, have no centres."""
    assert traced(operations, torch.ones(1, 1, *IMAGE))[1] == (None, None)


@pytest.mark.parametrize(
    ("name", "fixed"),
    [("stride", True), ("merged corners", True), ("to a size", False), ("one side padded", False)],
)
def test_centres_that_are_the_same_for_all_sizes(name: str, fixed: bool) -> None:
    for line in traced(OPERATIONS[name], torch.ones(1, 1, *IMAGE))[1]:
        assert line is not None
        assert line.fixed is fixed


def test_attention_does_not_move_its_queries() -> None:
    attention = nn.MultiheadAttention(2, 1, batch_first=True).eval()

    def run(x: Tensor) -> Tensor:
        t = tokens(conv(x, 16, 16, stride=16))
        t = t + attention(t, t, t, need_weights=False)[0]
        return t + (t @ t.mT).softmax(-1) @ t

    with torch.no_grad():
        _, lines = traced(run, torch.ones(1, 1, *IMAGE))
    assert lines == (Line(8, 16), Line(8, 16))
