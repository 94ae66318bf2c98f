"""Axes: the traced places of cells in the image are those that the values say."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from camcli.capture.axes import AxisTracer
from camcli.errors import ModelError
from camcli.models.layouts import CHANNELS_LAST, PLAIN, Layout, from_axes

Operations = Callable[[Tensor], Tensor]


def layout_after(operations: Operations, image: Tensor) -> tuple[Tensor, Layout | None]:
    """Return the output of operations on an image, and the traced layout."""
    tracer = AxisTracer()
    tracer.follow(image)
    with tracer:
        output = operations(image)
    axes = tracer.axes_of(output)
    return output, axes and from_axes(axes, output.shape)


def numbered(height: int, width: int) -> Tensor:
    """Return an image (1,2,H,W) whose first channel numbers the cells and the second is 0.5."""
    cells = torch.arange(1.0, 1 + height * width).view(1, 1, height, width)
    return torch.cat([cells, torch.full_like(cells, 0.5)], 1)


def windows(x: Tensor, size: int) -> Tensor:
    """Return the windows (N*windows,s,s,C) of a map (N,C,h,w), as Swin Transformers cut them."""
    n, c, h, w = x.shape
    cut = x.permute(0, 2, 3, 1).view(n, h // size, size, w // size, size, c)
    return cut.permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, size, size, c)


def unfolded(x: Tensor) -> Tensor:
    """Return the patches (N*P,patches,C) of a map, as MobileViT unfolds them."""
    n, c, h, w = x.shape
    cut = x.reshape(n * c * (h // 2), 2, w // 2, 2).transpose(1, 2)
    cut = cut.reshape(n, c, h * w // 4, 4).transpose(1, 3)
    return cut.reshape(n * 4, h * w // 4, c)


def blocks(x: Tensor) -> Tensor:
    """Return the blocks (N,blocks,tokens,C) of a map, as NesT cuts them."""
    n, c, h, w = x.shape
    cut = x.permute(0, 2, 3, 1).reshape(n, h // 4, 4, w // 4, 4, c).transpose(2, 3)
    return cut.reshape(n, h * w // 16, 16, c)


def tokens(x: Tensor) -> Tensor:
    return x.flatten(2).mT


def with_tokens(x: Tensor, before: int, after: int = 0) -> Tensor:
    extra = torch.full((len(x), before + after, x.shape[1]), -1.0)
    return torch.cat([extra[:, :before], tokens(x), extra[:, before:]], dim=1)


def there_and_back(x: Tensor) -> Tensor:
    """Pad a map to whole windows, roll it, cut it, and undo all of that."""
    n, c, h, w = x.shape
    padded = F.pad(x, (0, 1, 0, 2))
    cut = windows(padded.roll((-1, -2), (2, 3)), 3)
    merged = cut.view(n, (h + 2) // 3, (w + 1) // 3, 3, 3, c).permute(0, 1, 3, 2, 4, 5)
    whole = merged.reshape(n, h + 2, w + 1, c).roll((1, 2), (1, 2))
    return whole[:, :h, :w].contiguous()


MAPS: dict[str, tuple[Operations, tuple[int, int]]] = {
    "plain": (lambda x: x + 0, (4, 8)),
    "channels last": (lambda x: x.movedim(1, 3), (4, 8)),
    "columns first": (lambda x: x.transpose(2, 3), (4, 8)),
    "tokens": (tokens, (4, 8)),
    "tokens first": (lambda x: x.flatten(2).permute(2, 0, 1), (4, 8)),
    "tokens of columns": (lambda x: x.transpose(2, 3).flatten(2).mT, (4, 8)),
    "square tokens": (tokens, (4, 4)),
    "class token": (lambda x: with_tokens(x, 1), (4, 8)),
    "class token at the end": (lambda x: with_tokens(x, 0, 1), (4, 8)),
    "five prefix tokens": (lambda x: with_tokens(x, 5), (4, 8)),
    "registers left out": (lambda x: with_tokens(x, 5)[:, 1:], (4, 8)),
    "patches alone": (lambda x: with_tokens(x, 5)[:, 5:], (4, 8)),
    "patches by split": (lambda x: with_tokens(x, 5).split([5, 32], 1)[1], (4, 8)),
    "heads": (lambda x: with_tokens(x, 1).unflatten(2, (2, 1)).transpose(1, 2), (4, 8)),
    "windows": (lambda x: windows(x, 4), (4, 8)),
    "window tokens": (lambda x: windows(x, 2).flatten(1, 2), (4, 8)),
    "blocks": (blocks, (8, 12)),
    "unfolded": (unfolded, (4, 8)),
    "pad, roll, cut, and back": (there_and_back, (4, 8)),
    "residual of tokens": (lambda x: tokens(x) + tokens(x)[:, torch.arange(32)], (4, 8)),
    "stacked": (lambda x: torch.stack([tokens(x), tokens(x)])[1], (4, 8)),
}


@pytest.mark.parametrize("name", MAPS)
def test_the_layout_puts_each_cell_in_its_place(name: str) -> None:
    operations, (height, width) = MAPS[name]
    image = numbered(height, width)
    output, layout = layout_after(operations, image)
    assert layout is not None
    found = layout.to_map(output)
    assert found.shape == image.shape
    assert torch.equal(found / found[:, 1:], image / image[:, 1:])
    assert torch.equal(layout.to_output(found, output), output)


@pytest.mark.parametrize("name", sorted(MAPS.keys() - {"tokens first"}))
def test_the_layout_holds_for_a_batch(name: str) -> None:
    operations, size = MAPS[name]
    _, layout = layout_after(operations, numbered(*size))
    assert layout is not None
    images = torch.cat([numbered(*size), numbered(*size).flip(3)])
    output = operations(images)
    maps = layout.to_map(output)
    assert torch.equal(maps / maps[:, 1:], images / images[:, 1:])
    assert torch.equal(layout.to_output(maps, output), output)


def test_a_batch_behind_the_tokens_is_refused() -> None:
    operations, size = MAPS["tokens first"]
    _, layout = layout_after(operations, numbered(*size))
    assert layout is not None
    with pytest.raises(ModelError, match=r"\(32, 2, 2\), where a single image .* \(32, 1, 2\)"):
        layout.to_map(operations(torch.cat([numbered(*size)] * 2)))


@pytest.mark.parametrize(
    ("operations", "layout"),
    [(MAPS["plain"][0], PLAIN), (MAPS["channels last"][0], CHANNELS_LAST)],
)
def test_common_layouts_hold_for_all_sizes(operations: Operations, layout: Layout) -> None:
    assert layout_after(operations, numbered(4, 8))[1] is layout


def test_a_merged_patch_is_one_cell() -> None:
    """Swin merges 2x2 patches into channels, and MaxViT pools them."""

    def merge(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        cut = x.permute(0, 2, 3, 1).reshape(n, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 4, 2, 5)
        return cut.flatten(3)

    def corners(x: Tensor) -> Tensor:
        parts = [x[:, :, i::2, j::2] for j in (0, 1) for i in (0, 1)]
        return torch.cat(parts, 1).movedim(1, 3)

    image, linear = numbered(4, 8), nn.Linear(8, 8, bias=False)
    nn.init.eye_(linear.weight)
    for operations in (merge, corners):
        output, layout = layout_after(operations, image)
        assert layout is not None
        first = layout.to_map(output)[:, 0]
        assert torch.equal(first, image[:, 0, ::2, ::2])
        output, layout = layout_after(lambda x, of=operations: linear(of(x)), image)  # type: ignore[misc]
        assert layout is not None
        assert torch.equal(layout.to_map(output)[:, 0], first)


@pytest.mark.parametrize(
    "operations",
    [
        lambda x: tokens(x)[:, torch.randperm(32)],
        lambda x: x.flip(3),
        lambda x: x.roll(1, 3),
        lambda x: F.pad(x, (1, 1)),
        lambda x: x[..., :4],
        lambda x: tokens(x)[:, :16],
        lambda x: tokens(x) @ tokens(x).mT,
        lambda x: x.flatten(1)[:, None],
        lambda x: x.mean(1),
        lambda x: x.mean(2),
        lambda x: with_tokens(x, 1)[:, :1],
        lambda x: torch.cat([tokens(x), tokens(x)], 1),
        lambda x: F.unfold(x, 2, stride=2),
        lambda x: torch.ones(1, 4, 8, 3),
    ],
)
def test_other_outputs_are_no_map(operations: Operations) -> None:
    output, layout = layout_after(operations, numbered(4, 8))
    assert layout is None or output.ndim == 3  # a mean over channels is a map of one channel
    if layout is not None:
        assert layout.to_map(output).shape == (1, 1, 4, 8)


def test_attention_keeps_the_places_of_the_queries() -> None:
    attention = nn.MultiheadAttention(2, 1, batch_first=True)
    for run in (
        lambda t: attention(t, t, t, need_weights=False)[0],
        lambda t: (t @ t.mT).softmax(-1) @ t,
        lambda t: F.scaled_dot_product_attention(t[:, None], t[:, None], t[:, None])[:, 0],
    ):
        output, layout = layout_after(
            lambda x, run=run: run(with_tokens(x, 1)),  # type: ignore[misc]
            numbered(4, 8),
        )
        assert layout is not None
        assert layout.to_map(output).shape == (1, 2, 4, 8)


def test_operations_in_place_are_followed() -> None:
    def run(x: Tensor) -> Tensor:
        return tokens(x).contiguous().add_(1).mul_(2)

    output, layout = layout_after(run, numbered(4, 8))
    assert layout is not None
    assert torch.equal(layout.to_map(output), (numbered(4, 8) + 1) * 2)
