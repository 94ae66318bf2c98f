"""Layouts: a position in the image is the same position in the map."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
import torchvision.models as zoo
from torch import Tensor, nn

from camcli import Model, explain
from camcli.capture.hooks import borrowed, tapped
from camcli.errors import MethodError, ModelError
from camcli.models.families import recorded_layout, spec_of_module
from camcli.models.layouts import PLAIN


def tiny_vit() -> nn.Module:
    torch.manual_seed(0)
    vit = zoo.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=4)
    nn.init.normal_(vit.heads.head.weight)  # with torchvision's zeros all maps are empty
    return vit.double().eval()


def tiny_swin() -> nn.Module:
    torch.manual_seed(0)
    return zoo.SwinTransformer([4, 4], 8, [2, 2], [2, 2], [2, 2], num_classes=4).double().eval()


def tiny_maxvit() -> nn.Module:
    torch.manual_seed(0)
    net = zoo.MaxVit((32, 32), 4, 4, [8], [1], 4, 0.0, num_classes=4)
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.bias)
    return net.double().eval()


def tiny_convnext() -> nn.Module:
    torch.manual_seed(0)
    setting = [zoo.convnext.CNBlockConfig(8, None, 2)]
    return zoo.ConvNeXt(setting, layer_scale=1.0, num_classes=4).double().eval()


def map_of(net: nn.Module, image: Tensor, layer: str) -> Tensor:
    """Return the layer's map (N,C,h,w), and check that reading it does not change the scores."""
    with borrowed(net), tapped(net, layer, recorded_layout(net, layer) or PLAIN) as tap:
        scores = net(image)
    torch.testing.assert_close(scores, net(image), rtol=1e-12, atol=1e-14)
    assert tap.acts is not None
    return tap.acts.detach()


@pytest.mark.parametrize(
    ("net", "layer", "size", "patch"),
    [
        (tiny_vit(), "encoder.layers.encoder_layer_0.ln_1", (32, 32), 8),
        (tiny_vit(), "encoder.dropout", (32, 32), 8),
        (tiny_vit(), "conv_proj", (32, 32), 8),
        (tiny_swin(), "features.0.0", (24, 40), 4),
        (tiny_swin(), "features.0.1", (24, 40), 4),
        (tiny_swin(), "features.0", (24, 40), 4),
        (tiny_swin(), "features.1.0.norm1", (24, 40), 4),
    ],
)
@pytest.mark.parametrize("cell", [(0, 0), (1, 3), (2, 1)])
def test_a_patch_of_the_image_is_one_cell_of_the_map(
    net: nn.Module, layer: str, size: tuple[int, int], patch: int, cell: tuple[int, int]
) -> None:
    """Before any layer mixes the patches, a change of one patch changes one cell."""
    image = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1)).double()
    other, (row, column) = image.clone(), cell
    other[..., row * patch : (row + 1) * patch, column * patch : (column + 1) * patch] += 3
    before, after = map_of(net, image, layer), map_of(net, other, layer)
    assert before.shape[2:] == (size[0] // patch, size[1] // patch)
    changed = ((after - before).abs().amax(1)[0] > 1e-9).nonzero()
    assert changed.tolist() == [list(cell)]


def normed(maps: Tensor, norm: nn.Module) -> Tensor:
    """Return the layer normalisation of a map (N,C,h,w), computed position by position."""
    assert isinstance(norm, nn.LayerNorm)
    out = torch.empty_like(maps)
    for n in range(len(maps)):
        for i in range(maps.shape[2]):
            for j in range(maps.shape[3]):
                x = maps[n, :, i, j]
                out[n, :, i, j] = F.layer_norm(x, x.shape, norm.weight, norm.bias, norm.eps)
    return out.detach()


@pytest.mark.parametrize("half", ["window", "grid"])
def test_windows_of_a_maxvit_are_a_map(half: str) -> None:
    """The map of 8x8 positions has 2x2 windows of 4x4."""
    net, image = tiny_maxvit(), torch.randn(2, 3, 32, 32).double()
    block = f"blocks.0.layers.0.layers.{half}_attention"
    before = {
        "window": "blocks.0.layers.0.layers.MBconv",
        "grid": "blocks.0.layers.0.layers.window_attention",
    }[half]
    source = map_of(net, image, before)
    assert source.shape == (2, 8, 8, 8)
    for part in ("partition_op", "partition_swap"):
        torch.testing.assert_close(map_of(net, image, f"{block}.{part}"), source)
    found = map_of(net, image, f"{block}.attn_layer.0")
    torch.testing.assert_close(
        found, normed(source, net.get_submodule(f"{block}.attn_layer.0")), rtol=1e-9, atol=1e-9
    )
    out = map_of(net, image, block)
    for part in ("departition_swap", "departition_op"):
        torch.testing.assert_close(map_of(net, image, f"{block}.{part}"), out)


def test_layers_inside_a_convnext_block() -> None:
    net, image = tiny_convnext(), torch.randn(2, 3, 24, 40).double()
    block = "features.1.0.block"
    conv = map_of(net, image, f"{block}.0")
    assert conv.shape == (2, 8, 6, 10)
    torch.testing.assert_close(map_of(net, image, f"{block}.1"), conv)
    torch.testing.assert_close(
        map_of(net, image, f"{block}.2"), normed(conv, net.get_submodule(f"{block}.2"))
    )
    torch.testing.assert_close(
        map_of(net, image, f"{block}.6"),
        map_of(net, image, f"{block}.5"),
    )


def test_gradcam_of_a_vision_transformer() -> None:
    """The oracle computes token by token in float64."""
    vit, images = tiny_vit(), torch.randn(2, 3, 32, 32).double()
    block = vit.encoder.layers.encoder_layer_1
    for image in images:
        shown = explain(vit, image[None], "gradcam", 2)
        assert shown.layer == "encoder.layers.encoder_layer_1.ln_1"
        x = vit.conv_proj(image[None]).flatten(2).mT
        x = torch.cat([vit.class_token, x], 1) + vit.encoder.pos_embedding
        x = vit.encoder.layers.encoder_layer_0(x)
        tokens = block.ln_1(x).detach().requires_grad_()
        y = block.self_attention(tokens, tokens, tokens, need_weights=False)[0] + x
        y = y + block.mlp(block.ln_2(y))
        score = vit.heads(vit.encoder.ln(y)[:, 0])[0, 2]
        (gradient,) = torch.autograd.grad(score, tokens)
        expected = torch.zeros(4, 4).double()
        for channel in range(16):
            weight = sum(gradient[0, 1 + t, channel] for t in range(16)) / 16
            for t in range(16):
                expected[t // 4, t % 4] += weight * tokens[0, 1 + t, channel].detach()
        torch.testing.assert_close(shown.maps[0], expected.relu(), rtol=1e-9, atol=1e-15)
        assert shown.maps.any()
        torch.testing.assert_close(shown.scores[0], score.detach())


@pytest.mark.parametrize(
    ("make", "layer"),
    [
        (tiny_vit, "encoder.layers.encoder_layer_0"),
        (tiny_vit, "encoder.layers.encoder_layer_0.mlp.0"),
        (tiny_swin, "features.1.1"),
        (tiny_swin, "features.3.0.mlp"),
        (tiny_maxvit, "blocks.0.layers.0.layers.grid_attention.mlp_layer.2"),
        (tiny_convnext, "features.1.0.block.3"),
    ],
)
def test_layouts_inside_another_network(make: type[nn.Module], layer: str) -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = make()

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x)

    images = torch.randn(2, 3, 32, 32).double()
    methods = ["gradcam", "gradcam++"]
    for bare, inner in zip(
        explain(make(), images, methods, 1, layer),
        explain(Outer().eval(), images, methods, 1, f"net.{layer}"),
        strict=True,
    ):
        assert torch.equal(bare.maps, inner.maps)
        assert bare.maps.shape[1:] in {(4, 4), (8, 8)}
        assert bare.maps.isfinite().all()


@pytest.mark.parametrize(
    ("make", "layer", "message"),
    [
        (tiny_vit, "encoder.layers.encoder_layer_1", "no path from its patches to the score"),
        (tiny_vit, "encoder", "no path from its patches to the score"),
        (tiny_vit, "encoder.layers.encoder_layer_1.mlp", "no path from its patches to the score"),
        (tiny_vit, "encoder.layers.encoder_layer_0.self_attention", "gives tuple, not a feature"),
        (tiny_vit, "heads", r"gives \(2, 4\), not a feature map"),
        (tiny_swin, "avgpool", r"gives a single cell, \(2, 16, 1, 1\)"),
        (tiny_swin, "flatten", r"gives \(2, 16\), not a feature map"),
        (tiny_maxvit, "classifier.0", r"gives a single cell, \(2, 8, 1, 1\)"),
    ],
)
def test_layers_without_a_map(make: type[nn.Module], layer: str, message: str) -> None:
    with pytest.raises(ModelError, match=message) as refused:
        explain(make(), torch.randn(2, 3, 32, 32).double(), "gradcam", 1, layer)
    assert "\n" not in str(refused.value)


def test_a_score_of_zero_has_an_empty_map() -> None:
    """Zero gradients are valid; only a missing path to the score is an error."""
    vit = tiny_vit()
    nn.init.zeros_(vit.heads.head.weight)
    shown = explain(vit, torch.randn(1, 3, 32, 32).double(), "gradcam", 1)
    assert not shown.maps.any()


def test_cam_of_a_swin_transformer_equals_gradcam() -> None:
    swin, images = tiny_swin(), torch.randn(2, 3, 24, 40).double()
    cam, gradcam = explain(swin, images, ["cam", "gradcam"], 3)
    assert (cam.layer, cam.maps.shape) == ("permute", (2, 3, 5))
    torch.testing.assert_close(cam.maps.mean((1, 2)) + swin.head.bias[3], cam.scores)
    torch.testing.assert_close(cam.maps.relu(), 15 * gradcam.maps)
    at_norm = explain(swin, images, "gradcam", 3, layer="norm")
    torch.testing.assert_close(at_norm.maps, gradcam.maps)


@pytest.mark.parametrize("make", [tiny_vit, tiny_maxvit, tiny_convnext])
def test_cam_requires_a_pooled_head(make: type[nn.Module]) -> None:
    with pytest.raises(MethodError, match="cam needs a network that ends in global average"):
        explain(Model(make()), torch.randn(1, 3, 32, 32).double(), "cam", 1)


def test_facts_apply_to_subclasses_with_the_same_forward_pass() -> None:
    class Same(zoo.VisionTransformer):
        def extra(self) -> None: ...

    class Pooled(zoo.VisionTransformer):
        def forward(self, x: Tensor) -> Tensor:
            tokens = self.encoder(torch.cat([self.class_token, self._process_input(x)], 1))
            return self.heads(tokens[:, 1:].mean(1))

    arguments = (32, 8, 2, 2, 16, 32)
    image = torch.randn(1, 3, 32, 32)
    assert spec_of_module(Same(*arguments)) is spec_of_module(tiny_vit()) is not None
    assert explain(Same(*arguments), image).layer == "encoder.layers.encoder_layer_1.ln_1"
    assert spec_of_module(Pooled(*arguments)) is None
    shown = explain(Pooled(*arguments), image)
    assert (shown.layer, shown.maps.shape) == ("encoder", (1, 4, 4))


def test_a_replaced_part_has_no_recorded_layout() -> None:
    class Own(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.movedim(1, 3)

    net = zoo.resnet18(num_classes=4)
    assert recorded_layout(net, "layer4") is PLAIN
    net.layer4.append(Own())
    assert recorded_layout(net, "layer4.2") is None
    assert recorded_layout(net, "layer4.1") is PLAIN
