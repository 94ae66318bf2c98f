"""The automatic layer and the layouts of networks that torchvision does not have."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from camcli import Model, explain
from camcli.engine import survey
from camcli.errors import CamcliWarning, ModelError
from tests.support.networks import GapNet

CLASS = 3


def images(height: int, width: int | None = None, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 3, height, width or height, generator=generator)


def created(name: str, seed: int = 0, **arguments: Any) -> nn.Module:
    """Return a network of timm with random weights, also in a head that timm fills with zeros."""
    timm = pytest.importorskip("timm")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net: nn.Module = timm.create_model(name, pretrained=False, **arguments).eval()
        for part in net.modules():
            if isinstance(part, nn.Linear) and not part.weight.any():
                nn.init.normal_(part.weight, std=0.02)
    return net.requires_grad_(False)


def gradcam(acts: Tensor, grads: Tensor) -> Tensor:
    """Return Grad-CAM's maps (N,h,w) of activations and gradients (N,C,h,w)."""
    return (grads.mean((2, 3), keepdim=True) * acts).sum(1).relu()


def correlations(one: Tensor, other: Tensor) -> list[float]:
    """Return the correlation of the maps (N,h,w) of each image."""
    assert one.shape == other.shape
    assert one.any(2).any(1).all()
    return [
        float(torch.corrcoef(torch.stack([*p]).flatten(1))[0, 1])
        for p in zip(one, other, strict=True)
    ]


def at_forward_features(net: Any, batch: Tensor) -> Tensor:
    """Return Grad-CAM's maps at the output of timm's `forward_features`, by autograd."""
    features = net.forward_features(batch).detach().requires_grad_()
    (slope,) = torch.autograd.grad(net.forward_head(features)[:, CLASS].sum(), features)
    return gradcam(as_maps(net, features.detach()), as_maps(net, slope))


def as_maps(net: Any, features: Tensor) -> Tensor:
    """Return timm's features as maps (N,C,h,w), by timm's own attributes."""
    if features.ndim == 3:
        features = features[:, net.num_prefix_tokens :]
        return features.mT.unflatten(2, net.patch_embed.grid_size)
    return features if features.shape[1] == net.num_features else features.movedim(3, 1)


POOLED = {
    "repvgg_a0": ({}, 96),
    "ghostnet_100": ({}, 96),
    "mobilevit_xxs": ({}, 96),
    "mobilenetv3_large_100": ({}, 96),
    "efficientnet_b0": ({}, 96),
    "test_convnext": ({}, 96),
    "test_nfnet": ({}, 96),
    "test_mambaout": ({}, 96),
    "test_vit2": ({}, 160),
    "beit_base_patch16_224": ({"depth": 2, "embed_dim": 48, "num_heads": 2}, 224),
    "eva02_tiny_patch14_224": ({"depth": 2, "img_size": 56}, 56),
    "swin_tiny_patch4_window7_224": (
        {"depths": (2, 2), "num_heads": (2, 2), "embed_dim": 16, "img_size": 56},
        56,
    ),
    "swinv2_tiny_window8_256": (
        {"depths": (2, 2), "num_heads": (2, 2), "embed_dim": 16, "img_size": 64},
        64,
    ),
}
"""timm's networks whose head reads the mean of the output of `forward_features`, with small sizes.
"""
LARGER = {
    **{name: ({}, 224) for name in ("convnext_tiny", "regnety_002", "nest_tiny", "mambaout_femto")},
    **{name: ({}, 224) for name in ("coatnet_0_rw_224", "maxvit_tiny_tf_224", "pvt_v2_b0")},
    **{name: ({}, 224) for name in ("sequencer2d_s", "swin_tiny_patch4_window7_224")},
    **{name: ({}, 256) for name in ("mobilevit_s", "edgenext_xx_small", "swinv2_tiny_window8_256")},
}


@pytest.mark.filterwarnings("ignore:.* its maps may be off by")
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", POOLED)
def test_the_layer_is_what_the_head_pools(name: str, seed: int) -> None:
    arguments, size = POOLED[name]
    check_pooled(name, arguments, size, seed)


@pytest.mark.zoo
@pytest.mark.filterwarnings("ignore:.* its maps may be off by")
@pytest.mark.parametrize("name", LARGER)
def test_the_layer_of_larger_networks_is_what_the_head_pools(name: str) -> None:
    check_pooled(name, *LARGER[name], seed=0)


def check_pooled(name: str, arguments: dict[str, Any], size: int, seed: int) -> None:
    net, batch = created(name, seed, **arguments), images(size, seed=seed)
    shown = explain(net, batch, "gradcam", CLASS)
    assert min(correlations(shown.maps, at_forward_features(net, batch))) > 0.99


TOKENS: dict[str, tuple[dict[str, Any], str]] = {
    "vit_tiny_patch16_224": ({"img_size": (64, 96), "depth": 3}, "blocks.2.norm1"),
    "deit_tiny_distilled_patch16_224": ({"img_size": 64, "depth": 3}, "blocks.2.norm1"),
    "vit_small_patch14_reg4_dinov2": ({"img_size": (56, 84), "depth": 3}, "blocks.2.norm1"),
    "cait_xxs24_224": ({"img_size": 64, "depth": 3}, "blocks_token_only.1.norm1"),
}
"""timm's networks whose head reads class tokens: the last normalisation before an attention."""


@pytest.mark.parametrize("name", TOKENS)
def test_the_layer_is_behind_the_norm_before_the_last_attention(name: str) -> None:
    arguments, layer = TOKENS[name]
    net, held = created(name, **arguments), list[Tensor]()
    size = arguments["img_size"]
    batch = images(*(size if isinstance(size, tuple) else (size,)))
    shown = explain(net, batch, "gradcam", CLASS)

    def hold(_part: nn.Module, _args: object, output: Tensor) -> Tensor:
        held.append(output.detach().requires_grad_())
        return held[0]

    with torch.enable_grad():
        handle = net.get_submodule(layer).register_forward_hook(hold)
        score = net(batch)[:, CLASS].sum()
        (slope,) = torch.autograd.grad(score, held[0])
        handle.remove()
    prefix = getattr(net, "num_prefix_tokens", 1)
    rows, columns = net.patch_embed.grid_size  # type: ignore[union-attr,misc]
    acts, grads = (
        x.detach()[:, prefix:].mT.unflatten(2, (rows, columns)) for x in (held[0], slope)
    )
    assert shown.layer == layer
    torch.testing.assert_close(shown.maps, gradcam(acts, grads), rtol=1e-3, atol=1e-9)
    assert shown.maps.any()


SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "image_size": 64,
    "patch_size": 8,
    "num_labels": 5,
}


@pytest.mark.parametrize(
    ("name", "layer", "prefix"),
    [
        ("ViT", "vit.layers.2.layernorm_before", 1),
        ("DeiT", "deit.layers.2.layernorm_before", 2),
        ("Beit", "beit.layers.2", 1),
        ("Dinov2", "dinov2.layernorm", 1),
        ("Dinov2WithRegisters", "dinov2_with_registers.layernorm", 5),
    ],
)
def test_transformers_networks(name: str, layer: str, prefix: int) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**SIZES)
    net = getattr(transformers, f"{name}ForImageClassification")(config).eval()
    for part in net.modules():
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=0.2)
    batch, held = images(64), list[Tensor]()
    shown = explain(net, batch, "gradcam", CLASS)
    assert (shown.layer, shown.maps.shape) == (layer, (2, 8, 8))

    def hold(_part: nn.Module, _args: object, output: Tensor) -> Tensor:
        held.append(output.detach().requires_grad_())
        return held[0]

    handle = net.get_submodule(layer).register_forward_hook(hold)
    (slope,) = torch.autograd.grad(net(batch).logits[:, CLASS].sum(), held[0])
    handle.remove()
    acts, grads = (x.detach()[:, prefix:].mT.unflatten(2, (8, 8)) for x in (held[0], slope))
    torch.testing.assert_close(shown.maps, gradcam(acts, grads), rtol=1e-3, atol=1e-9)
    assert shown.maps.any()


@pytest.mark.parametrize(
    ("name", "arguments", "layer", "patch", "size"),
    [
        ("vit_tiny_patch16_224", {"img_size": (32, 64), "depth": 1}, "blocks.0.attn.qkv", 16, None),
        ("swin_tiny_patch4_window7_224", {"img_size": 56}, "patch_embed", 4, None),
        ("swin_tiny_patch4_window7_224", {"img_size": 56}, "layers.0.blocks.0.attn.qkv", 4, None),
        ("nest_tiny", {"img_size": 64}, "levels.0.transformer_encoder.0.norm1", 4, 64),
    ],
)
def test_a_patch_of_the_image_is_one_cell_of_the_map(
    name: str, arguments: dict[str, Any], layer: str, patch: int, size: int | None
) -> None:
    """Before any layer mixes the patches, a change of one patch changes one cell."""
    net = created(name, **arguments)
    given = size or arguments["img_size"]
    image = images(*(given if isinstance(given, tuple) else (given,)))[:1]
    layout = survey.layouts_at(net, [layer], (image,))[layer]
    for row, column in ((0, 1), (1, 3)):
        other = image.clone()
        other[..., row * patch : (row + 1) * patch, column * patch : (column + 1) * patch] += 1
        outputs = list[Tensor]()
        handle = net.get_submodule(layer).register_forward_hook(
            lambda _m, _a, output, outputs=outputs: outputs.append(layout.to_map(output))
        )
        net(image)
        net(other)
        handle.remove()
        changed = ((outputs[1] - outputs[0]).abs().amax(1)[0] > 1e-6).nonzero()
        assert changed.tolist() == [[row, column]]


class Block(nn.Module):
    """A network whose last layers are built by the functions given."""

    def __init__(self, end: Callable[[Block, Tensor], Tensor]) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.one, self.two = (nn.Conv2d(8, 8, 3, padding=1) for _ in range(2))
        self.act, self.fc, self.end = nn.ReLU(), nn.Linear(8, 4), end

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.end(self, self.stem(x)).mean((2, 3)))


def test_a_sum_that_no_module_returns_is_explained_before_it() -> None:
    """The last layer that runs, `two`, holds a part of the evidence."""
    net = Block(lambda net, x: x + net.two(net.one(x)))
    assert explain(net, images(32)).layer == "stem"


def test_a_parallel_branch_that_the_score_ignores_is_left_out() -> None:
    def end(net: Block, x: Tensor) -> Tensor:
        last = net.one(x)
        net.two(x)
        return last

    assert explain(Block(end), images(32)).layer == "one"


def test_several_maps_without_a_common_one_are_refused() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.one(x).mean((2, 3)) + self.two(x).mean((2, 3))

    with pytest.raises(ModelError, match=r"several maps, and no layer's map alone: name a layer"):
        explain(Two(), images(32))
    assert explain(Two(), images(32), layer="one").maps.shape == (2, 30, 30)


def test_a_module_that_runs_twice_is_reported_if_it_would_be_the_layer() -> None:
    net = Block(lambda net, x: net.act(net.two(net.act(net.one(x)))))
    with pytest.warns(CamcliWarning, match="'act', which runs more than once .* earlier 'two'"):
        assert explain(net, images(32)).layer == "two"
    quiet = Block(lambda net, x: net.two(net.act(net.one(net.act(x)))))
    assert explain(quiet, images(32)).layer == "two"


def test_an_early_layer_is_refused() -> None:
    """Layers that return tuples cannot be explained, and those before them are too early."""

    class Paired(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.Sequential(*(nn.Conv2d(8, 8, 3, padding=1) for _ in range(8)))

        def forward(self, x: Tensor) -> tuple[Tensor]:
            return (x + self.parts(x),)

    net = Block(lambda net, x: net.last(x)[0])
    net.last = Paired()
    with pytest.raises(ModelError, match="'stem', is an early one, with 8 linear maps"):
        explain(net, images(32))


def test_a_trunk_that_allows_no_graph_is_explained_with_a_warning() -> None:
    """Its operations in place are errors where a graph is built."""

    def end(net: Block, x: Tensor) -> Tensor:
        first, second = net.one(x).exp().chunk(2, 1)
        first += second
        return net.two(torch.cat([first, second], 1))

    net, batch = Block(end), images(32)
    with pytest.warns(CamcliWarning, match="no gradient passes .* the last map that runs"):
        shown = explain(net, batch, "gradcam", CLASS)
    assert shown.layer == "two"
    assert shown.maps.shape == (2, 16, 16)


def test_activations_in_place_behind_an_identity_are_found() -> None:
    """EfficientNets of timm end like this. The identity is no layer of its own."""

    class End(nn.BatchNorm2d):
        def __init__(self) -> None:
            super().__init__(8)
            self.drop, self.act = nn.Identity(), nn.SiLU(inplace=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.act(self.drop(super().forward(x)))

    net = Block(lambda net, x: net.last(net.one(x)))
    net.last = End()
    batch = images(32)
    shown = explain(net, batch, "gradcam", CLASS)
    assert shown.layer == "last"
    acts = F.silu(nn.BatchNorm2d(8).eval()(net.one(net.stem(batch)))).detach()
    weights = net.fc.weight[CLASS].detach().view(1, 8, 1, 1) / acts[0, 0].numel()
    torch.testing.assert_close(shown.maps, gradcam(acts, weights.expand_as(acts)))


@pytest.fixture
def traces(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """Return the networks that are traced from now on."""
    found: list[nn.Module] = []
    trace = survey.trace

    def counted(module: nn.Module, *arguments: Any, **options: bool) -> Any:
        found.append(module)
        return trace(module, *arguments, **options)

    monkeypatch.setattr(survey, "trace", counted)
    return found


def test_a_network_is_surveyed_once(traces: list[nn.Module]) -> None:
    net = GapNet()
    for batch in (images(32), images(32)[:1], images(32, seed=1)):
        explain(net, batch)
        net.train(not net.training)
    explain(net, images(32), layer="trunk")
    assert len(traces) == 1
    explain(net, images(32, 48))
    explain(Model(net), images(32, 48))
    assert len(traces) == 2


def test_a_changed_network_is_surveyed_again(traces: list[nn.Module]) -> None:
    net = GapNet()
    assert explain(net, images(32), "cam").layer == "last"
    net.last.append(nn.Conv2d(4, 4, 1))
    net.last.append(nn.ReLU())
    net.fc = nn.Linear(4, 3)
    shown = explain(net, images(32), ["cam", "gradcam"], 2)
    torch.testing.assert_close(shown[0].maps.relu(), shown[1].maps * shown[0].maps[0].numel())
    net.last[2].stride = 2  # type: ignore[assignment]
    explain(net, images(32))
    assert len(traces) == 3


def test_a_survey_does_not_keep_the_network() -> None:
    net = GapNet()
    explain(net, images(32), "cam")
    gone = weakref.ref(net)
    del net
    gc.collect()
    assert gone() is None


def test_the_trace_leaves_the_network_unchanged() -> None:
    net = GapNet().train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    batch = images(32)
    explain(net, batch)
    assert net.training
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
    assert not any(part._forward_hooks for part in net.modules())
    assert not batch.requires_grad
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
