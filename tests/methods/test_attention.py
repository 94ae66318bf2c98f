"""The methods of attention: oracles, twins, heads, what is restored and what is refused."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn

from camcli import METHODS, Model, explain
from camcli.capture.attention import AttentionMode
from camcli.errors import MethodError
from tests.support.networks import GapNet
from tests.support.vision_transformers import (
    CLASSES,
    TOKEN_ORACLES,
    WIDTH,
    Explicit,
    square_images,
    vision_transformer,
    with_random_weights,
)

NAMES = [name for name, method in METHODS.items() if "attention" in method.requires]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("index", [0, 3])
def test_methods_agree_with_their_papers(name: str, index: int) -> None:
    net, images = vision_transformer(), square_images()
    expected = TOKEN_ORACLES[name](net, images, index)
    found = explain(net, images, name, index).maps.numpy()
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12 * np.abs(expected).max())


def test_the_oracle_is_the_network() -> None:
    net, (image, *_) = vision_transformer(), square_images()
    torch.testing.assert_close(Explicit(net, image).scores, net(image[None])[0], rtol=1e-10, atol=0)


def test_gradients_are_differences_of_scores() -> None:
    net, (image, *_) = vision_transformer(), square_images()
    run, step = Explicit(net, image), 1e-6
    (slope,) = torch.autograd.grad(run.scores[2], run.weights[1])
    for place in [(0, 0, 4), (1, 3, 2), (1, 9, 9)]:
        scores = []
        for sign in (1, -1):
            weights = run.weights[1].detach().clone()
            weights[place] += sign * step
            scores.append(Explicit(net, image, {1: weights}).scores[2])
        torch.testing.assert_close((scores[0] - scores[1]) / (2 * step), slope[place])


def test_only_rollout_is_the_same_for_every_class() -> None:
    net, images = vision_transformer(), square_images()
    for name in NAMES:
        one, other = explain(net, images, name, [0, 1])
        assert torch.equal(one.maps, other.maps) == (name == "rollout")


def test_a_batch_equals_single_images() -> None:
    net, images = vision_transformer(), square_images(3)
    for shown in explain(net, images, NAMES, 1):
        alone = [explain(net, image[None], shown.method, 1).maps[0] for image in images]
        torch.testing.assert_close(shown.maps, torch.stack(alone), rtol=1e-9, atol=1e-14)


def test_other_methods_are_not_changed_by_the_pass() -> None:
    net, images = vision_transformer().float(), square_images().float()
    alone = explain(net, images, "gradcam", 1)
    together = explain(net, images, [*NAMES, "gradcam"], 1)[-1]
    assert torch.equal(alone.maps, together.maps)


class Classifier(nn.Module):
    """A vision tower of transformers whose class token a linear layer reads."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower, self.head = tower, nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(self.tower(x).pooler_output)
        return scores


def of_timm(**arguments: Any) -> nn.Module:
    models = pytest.importorskip("timm.models.vision_transformer", reason="needs camcli[timm]")
    small = {"embed_dim": WIDTH, "depth": 3, "num_heads": 2, "num_classes": CLASSES}
    net: nn.Module = models.VisionTransformer((12, 16), 4, **small | arguments)
    return net


def of_transformers(kind: str, implementation: str) -> nn.Module:
    transformers = pytest.importorskip("transformers", reason="needs camcli[transformers]")
    config = getattr(transformers, f"{kind}Config")(
        hidden_size=WIDTH, num_hidden_layers=3, num_attention_heads=2, intermediate_size=16,
        image_size=12, patch_size=4, num_labels=CLASSES, attn_implementation=implementation,
    )  # fmt: skip
    if kind in ("ViT", "DeiT"):
        net: nn.Module = getattr(transformers, f"{kind}ForImageClassification")(config)
        return net
    return Classifier(getattr(transformers, kind.replace("Vision", "VisionModel"))(config))


NETWORKS = {
    "torchvision": vision_transformer,
    "timm": of_timm,
    "timm registers": lambda: of_timm(reg_tokens=4),
    "timm mean": lambda: of_timm(global_pool="avg", class_token=False),
    "timm attention pooling": lambda: of_timm(global_pool="map", class_token=False),
    "SiglipVision": lambda: of_transformers("SiglipVision", "sdpa"),
    "ViT eager": lambda: of_transformers("ViT", "eager"),
    "BlipVision eager": lambda: of_transformers("BlipVision", "eager"),
    **{
        f"{kind} sdpa": lambda kind=kind: of_transformers(kind, "sdpa")
        for kind in ("ViT", "DeiT", "CLIPVision")
    },
}
"""Networks with a class token, with registers, with the mean of tokens, and with a query."""


def images_for(name: str) -> Tensor:
    width = 16 if name.startswith("timm") else 12
    return torch.randn(2, 3, 12, width, generator=torch.Generator().manual_seed(1)).double()


@contextmanager
def unchanged(net: nn.Module, images: Tensor) -> Iterator[None]:
    """Check that a network is afterwards as it was: its settings, its hooks and its output."""
    before, output = pickle.dumps(net), scores_of(net, images)
    yield
    assert pickle.dumps(net) == before
    assert torch.equal(scores_of(net, images), output)
    hooks = [(part._forward_hooks, part._forward_pre_hooks) for part in net.modules()]
    assert not any(map(any, hooks))


def scores_of(net: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        output = net(images)
    scores: Tensor = getattr(output, "logits", output)
    return scores


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_each_kind(name: str) -> None:
    net, images = with_random_weights(NETWORKS[name]()), images_for(name)
    with unchanged(net, images):
        found = {m: explain(net, images, m, [0, 1]) for m in NAMES}
    for method, (one, other) in found.items():
        assert one.maps.shape == (2, 3, images.shape[3] // 4)
        assert one.maps.isfinite().all()
        assert (one.maps > 0).any(), method
        assert torch.equal(one.maps, other.maps) == (method == "rollout")


@pytest.mark.parametrize("name", NETWORKS)
def test_explicit_attention_is_the_networks(name: str) -> None:
    net, images = with_random_weights(NETWORKS[name]()), images_for(name)
    seen: list[Tensor] = []

    def use(weights: Tensor) -> Tensor:
        seen.append(weights)
        return weights

    with torch.no_grad(), AttentionMode(use):
        found = net(images)
    exact = 1e-6 if name == "ViT eager" else 1e-12  # transformers computes this softmax in float32
    torch.testing.assert_close(
        getattr(found, "logits", found), scores_of(net, images), rtol=exact, atol=exact
    )
    assert len(seen) == 3 + (name in ("timm attention pooling", "SiglipVision"))
    for weights in seen:
        torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))


def test_eager_attention_has_the_maps_of_fused_attention() -> None:
    images = images_for("ViT")
    fused = with_random_weights(of_transformers("ViT", "sdpa"))
    eager = with_random_weights(of_transformers("ViT", "eager"))
    for name in NAMES:
        one, other = (explain(net, images, name, 1).maps for net in (fused, eager))
        torch.testing.assert_close(other, one, rtol=1e-5, atol=1e-6)


def test_a_query_that_pools_has_its_own_attention_in_legrad() -> None:
    """Differentiate the score of each block's tokens at the weights of the pooling."""
    net, images = (
        with_random_weights(of_timm(global_pool="map", class_token=False)),
        images_for("timm"),
    )
    net.attn_pool.fused_attn = False
    tokens: list[Tensor] = []
    for block in net.blocks:
        block.register_forward_hook(lambda _part, _args, output: tokens.append(output.detach()))
    net(images)
    for block in net.blocks:
        block._forward_hooks.clear()
    total = torch.zeros(2, 12, dtype=torch.double)
    for given in tokens:
        weights: list[Tensor] = []
        with AttentionMode(lambda x, weights=weights: weights.append(x) or x):
            score = net.forward_head(net.norm(given))[:, 1].sum()
        (slope,) = torch.autograd.grad(score, weights)
        total += slope.relu().mean((1, 2)) / len(tokens)
    found = explain(net, images, "legrad", 1).maps
    torch.testing.assert_close(found, total.view(2, 3, 4), rtol=1e-9, atol=1e-14)


class Ends(nn.Module):
    """A transformer that ends in a softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.net = vision_transformer()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).softmax(1)


def test_the_score_is_the_one_before_a_softmax() -> None:
    net, images = Ends().eval(), square_images()
    for name in NAMES:
        one, other = (explain(part, images, name, 2).maps for part in (net, net.net))
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-14)


def test_a_head_of_zeros_gives_a_map_of_zeros() -> None:
    net = vision_transformer()
    nn.init.zeros_(net.heads[0].weight)
    for shown in explain(net, square_images(), NAMES, 1):
        assert not shown.maps.any()


class Skips(nn.Module):
    """A transformer whose score also reads the tokens of the first block."""

    def __init__(self) -> None:
        super().__init__()
        self.net = of_timm()

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.net._pos_embed(self.net.patch_embed(x))
        first, second, last = self.net.blocks
        tokens = first(tokens)
        ahead = last(second(tokens))
        scores: Tensor = self.net.head(self.net.norm(ahead)[:, 0] + tokens.mean(1))
        return scores


class Masked(nn.Module):
    """Attention whose weights are multiplied by a mask before they multiply the values."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm = nn.Conv2d(3, 8, 4, 4), nn.LayerNorm(8)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm(self.embed(x).flatten(2).mT)
        weights = (tokens @ tokens.mT).softmax(-1) * 0.5
        scores: Tensor = self.head((tokens + weights @ tokens).mean(1))
        return scores


def test_a_head_that_reads_more_than_tokens_is_refused_by_legrad() -> None:
    net, images = with_random_weights(Skips()), images_for("timm")
    with pytest.raises(MethodError, match="reads more than the tokens of its last block: use gae"):
        explain(net, images, "legrad", 0, "net.blocks.2.norm1")
    assert explain(net, images, "gae", 0, "net.blocks.2.norm1").maps.any()


REFUSED = {
    "convolutions": (
        lambda: GapNet().double(),
        NAMES,
        r"needs a layer of tokens \(N,T,C\) .*; layer 'last' gives \(1, 4, 2, 2\): use gradcam",
    ),
    "windows": (
        lambda: torchvision.models.swin_t(num_classes=5).double(),
        NAMES,
        r"needs a layer of tokens",
    ),
    "a mask": (lambda: Masked().double(), NAMES, r"the network has a softmax of shape \(1, 9, 9\)"),
    "one block": (lambda: vision_transformer(1), ["legrad"], "no list of several blocks"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_networks_without_such_attention_are_refused_in_one_line(name: str) -> None:
    build, methods, message = REFUSED[name]
    net = build().eval()
    images = torch.randn(1, 3, 64 if name == "windows" else 12, 64 if name == "windows" else 12)
    with unchanged(net, images.double()):
        for method in methods:
            with pytest.raises(MethodError, match=message) as error:
                explain(net, images.double(), method, 0)
            assert "\n" not in str(error.value)


def test_other_inputs_are_refused() -> None:
    class Asked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = vision_transformer()

        def forward(self, x: Tensor, shift: Tensor) -> Tensor:
            return self.net(x) + shift

    net, images = Asked().eval(), square_images()
    with pytest.raises(MethodError, match=r"legrad needs .* has other inputs beside the image"):
        explain(net, (images, torch.ones(2, 1).double()), "legrad", 0)
    found = explain(net, (images, torch.ones(2, 1).double()), "gae", 0).maps
    torch.testing.assert_close(found, explain(net.net, images, "gae", 0).maps)


def test_a_copy_is_not_watched_by_a_pass_of_another_network() -> None:
    model = Model(vision_transformer())
    twin = Model(copy.deepcopy(model.module))
    images = square_images()
    found = [explain(one, images, "gae", 1).maps for one in (model, twin)]
    assert torch.equal(*found)
