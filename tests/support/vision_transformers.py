"""Small vision transformers, and the methods of attention on them in explicit products of matrices.

The oracles take torchvision's network in float64, and images (N,3,H,W), and return the maps of a
class on its patches, (N,h,w).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.vision_transformer import VisionTransformer

SIDE, PATCH, WIDTH, HEADS, LAYERS, CLASSES = 12, 4, 8, 2, 3, 5


def with_random_weights(net: nn.Module, seed: int = 0) -> nn.Module:
    """Return a network in float64 and evaluation mode, all of whose weights are random."""
    generator = torch.Generator().manual_seed(seed)
    for name, weight in net.named_parameters():
        scale = 0.5 if weight.ndim > 1 else 0.2
        noise = torch.randn(weight.shape, generator=generator) * scale
        is_norm = name.endswith("weight") and weight.ndim == 1
        weight.data = noise + 1 if is_norm else noise
    return net.double().eval()


def vision_transformer(layers: int = LAYERS) -> VisionTransformer:
    """Return torchvision's transformer with nine patches and random weights."""
    net = VisionTransformer(SIDE, PATCH, layers, HEADS, WIDTH, 2 * WIDTH, num_classes=CLASSES)
    found = with_random_weights(net)
    assert isinstance(found, VisionTransformer)
    return found


def square_images(count: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.randn(count, 3, SIDE, SIDE, generator=generator).double()


class Explicit:
    """A forward pass of torchvision's transformer over one image, in explicit products.

    `weights` are those of each attention (H,T,T), `normed` (T,C) what each attention takes, and
    `tokens` (T,C) what each block gives. Given weights replace those of the blocks at their places.
    With `libra`, weights, deviations and gates are constants.
    """

    def __init__(
        self,
        net: VisionTransformer,
        image: Tensor,
        given: dict[int, Tensor] | None = None,
        *,
        libra: bool = False,
    ) -> None:
        self.net, self.given = net, given or {}
        self.constant: Callable[[Tensor], Tensor] = Tensor.detach if libra else lambda x: x
        self.normed: list[Tensor] = []
        self.weights: list[Tensor] = []
        self.tokens: list[Tensor] = []
        x = self._embedded(image)
        for i, block in enumerate(net.encoder.layers):
            self.normed.append(self._norm(block.ln_1, x))
            x = x + self._attention(i, block.self_attention, self.normed[-1])
            hidden = self._norm(block.ln_2, x) @ block.mlp[0].weight.T + block.mlp[0].bias
            gelu = hidden * self.constant((1 + torch.erf(hidden / 2**0.5)) / 2)
            x = x + gelu @ block.mlp[3].weight.T + block.mlp[3].bias
            self.tokens.append(x)
        self.scores = self.head(x[0])

    def _embedded(self, image: Tensor) -> Tensor:
        conv, rows = self.net.conv_proj, []
        for top in range(0, SIDE, PATCH):
            for left in range(0, SIDE, PATCH):
                patch = image[:, top : top + PATCH, left : left + PATCH].flatten()
                rows.append(conv.weight.flatten(1) @ patch + conv.bias)
        tokens = torch.stack([self.net.class_token[0, 0], *rows])
        return tokens + self.net.encoder.pos_embedding[0]

    def _attention(self, index: int, attention: nn.MultiheadAttention, x: Tensor) -> Tensor:
        width = WIDTH // HEADS
        q, k, v = (x @ attention.in_proj_weight.T + attention.in_proj_bias).split(WIDTH, 1)
        of_heads = [slice(h * width, (h + 1) * width) for h in range(HEADS)]
        each = [softmax(q[:, h] @ k[:, h].T / width**0.5) for h in of_heads]
        found = self.constant(torch.stack(each))
        self.weights.append(self.given.get(index, found))
        joined = torch.cat(
            [w @ v[:, h] for w, h in zip(self.weights[-1], of_heads, strict=True)], 1
        )
        return joined @ attention.out_proj.weight.T + attention.out_proj.bias

    def _norm(self, norm: nn.LayerNorm, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        deviation = (centred.square().mean(-1, keepdim=True) + norm.eps).sqrt()
        return centred / self.constant(deviation) * norm.weight + norm.bias

    def head(self, token: Tensor) -> Tensor:
        """Return the scores (K,) of a token (C,)."""
        linear = self.net.heads[0]
        scores: Tensor = linear.weight @ self._norm(self.net.encoder.ln, token) + linear.bias
        return scores


def softmax(x: Tensor) -> Tensor:
    return x.exp() / x.exp().sum(-1, keepdim=True)


def paper_rollout(net: VisionTransformer, images: Tensor, index: int) -> np.ndarray:
    """Multiply whole matrices, from the first block on."""
    maps = []
    for image in images:
        rolled = np.eye(10)
        for weights in Explicit(net, image).weights:
            mixed = 0.5 * weights.detach().numpy().mean(0) + 0.5 * np.eye(10)
            rolled = mixed / mixed.sum(1, keepdims=True) @ rolled
        maps.append(rolled[0, 1:].reshape(3, 3))
    return np.stack(maps)


def paper_gae(net: VisionTransformer, images: Tensor, index: int) -> np.ndarray:
    """Apply equations 5 and 6: `R <- R + A_bar R` from the identity on."""
    maps = []
    for image in images:
        run = Explicit(net, image)
        slopes = torch.autograd.grad(run.scores[index], run.weights)
        relevance = np.eye(10)
        for weights, slope in zip(run.weights, slopes, strict=True):
            product = (weights * slope).detach().numpy()
            relevance = relevance + np.maximum(product, 0).mean(0) @ relevance
        maps.append(relevance[0, 1:].reshape(3, 3))
    return np.stack(maps)


def paper_legrad(net: VisionTransformer, images: Tensor, index: int) -> np.ndarray:
    """Differentiate the head's score of the mean of each block's tokens at its own attention."""
    maps = []
    for image in images:
        run, total = Explicit(net, image), np.zeros(10)
        for weights, tokens in zip(run.weights, run.tokens, strict=True):
            score = run.head(tokens.mean(0))[index]
            (slope,) = torch.autograd.grad(score, weights, retain_graph=True)
            for head in np.maximum(slope.numpy(), 0):
                for row in head:
                    total += row / (LAYERS * HEADS * 10)
        maps.append(total[1:].reshape(3, 3))
    return np.stack(maps)


TOKEN_ORACLES = {"rollout": paper_rollout, "gae": paper_gae, "legrad": paper_legrad}
"""The oracle of each method of attention."""
