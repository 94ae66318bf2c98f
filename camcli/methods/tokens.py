"""The methods for transformers, of the attention among the tokens of an image.

They are registered as those in `maps`. torch is imported only for types.

Letters: N images, H heads, Q tokens that attend to T tokens, h w the map of the tokens that are
cells. A denotes the weights of one of L attentions, (N,H,Q,T), and S the pre-softmax score of the
target. Q differs from T only in a last attention that pools the tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

from camcli.methods.registry import register


@register("rollout", source="Abnar & Zuidema 2020, arXiv:2005.00928, eq. 1")
def rollout(attention: Sequence[Tensor], reading: Tensor, cells: Tensor) -> Tensor:
    """Rollout, Attention Rollout: attention followed through all blocks, the same for every class.

    `R = B_L ... B_1` with `B = (mean_h A + I) / 2`, whose rows sum to 1. The map has the rows of R
    that the score reads, without the columns of tokens that are no cells.
    L times (N,H,Q,T), (N,Q), (h,w) -> (N,h,w) >= 0
    """
    blocks = [weights.mean(1) for weights in attention]
    return _rolled_out(reading, blocks, share=0.5)[:, cells]


@register("gae", source="Chefer et al. 2021, arXiv:2103.15679, eq. 5-6")
def gae(
    attention: Sequence[Tensor], attention_grads: Sequence[Tensor], reading: Tensor, cells: Tensor
) -> Tensor:
    """GAE, Generic Attention Explainability: attention times positive gradients, rolled out.

    `R = (I + B_L) ... (I + B_1)` with `B = mean_h ReLU(A dS/dA)`. The map has the rows of R - I
    that the score reads, without the columns of tokens that are no cells. In the row of a class
    token, the paper's case, I has no part in these columns. For a mean of all tokens, its part is
    the same everywhere.
    L times (N,H,Q,T), L times (N,H,Q,T), (N,Q), (h,w) -> (N,h,w) >= 0
    """
    each = zip(attention, attention_grads, strict=True)
    blocks = [(weights * slopes).relu().mean(1) for weights, slopes in each]
    rows = _rolled_out(reading, blocks)
    return (rows - reading if rows.shape == reading.shape else rows)[:, cells]


@register("legrad", source="Bousselham et al. 2025, arXiv:2404.03214, sec. 3")
def legrad(block_grads: Sequence[Tensor], cells: Tensor) -> Tensor:
    """LeGrad: positive gradients of each block's own score at its attention, mean over blocks.

    `mean_l mean_h mean_q ReLU(ds_l/dA_l)`, without the columns of tokens that are no cells.
    L times (N,H,Q,T), (h,w) -> (N,h,w) >= 0
    """
    blocks = [slopes.relu().mean((1, 2)) for slopes in block_grads]
    return sum(blocks[1:], blocks[0])[:, cells] / len(blocks)


def _rolled_out(reading: Tensor, blocks: Sequence[Tensor], share: float = 1) -> Tensor:
    """Return the rows `reading` (N,Q) of `share (I + B_L) ... share (I + B_1)`, (N,T).

    A block B (N,Q,T) that pools tokens, Q != T, has no residual connection: it is a factor itself.
    """
    rows = reading[:, None]
    for block in reversed(blocks):
        moved = rows @ block
        rows = share * (moved + rows) if block.shape[1] == block.shape[2] else moved
    return rows[:, 0]
