"""`explain`: batches, methods, inputs and outputs on small networks."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import camcli
from camcli import Model, explain, load
from camcli.capture.windows import Window
from camcli.engine.predict import probabilities
from camcli.errors import MethodError, TargetError
from tests.support.networks import OF_MAPS, DeepHead, GapNet


@pytest.mark.parametrize("name", OF_MAPS)
def test_a_batch_equals_single_images(name: str, gap_net: GapNet, images: Tensor) -> None:
    batch = explain(gap_net, images, name, "top2", window=Window(7, 3))
    for i, image in enumerate(images):
        single = explain(gap_net, image[None], name, "top2", window=Window(7, 3))
        torch.testing.assert_close(batch.maps[i], single.maps[0], rtol=1e-9, atol=1e-12)
        assert batch.classes is not None
        assert single.classes is not None
        assert batch.classes[i] == single.classes[0]
        torch.testing.assert_close(batch.scores[i], single.scores[0])


def test_probabilities(gap_net: GapNet, images: Tensor) -> None:
    gap_net.train()
    found = probabilities(gap_net, images)
    assert found.shape == (len(images), 5)
    torch.testing.assert_close(found.sum(1), torch.ones(len(images)).double())
    for k in range(5):
        shown = explain(gap_net, images, target=k)
        torch.testing.assert_close(found[:, k], shown.probabilities)
        torch.testing.assert_close(found.amax(1), shown.confidences)
    assert not found.requires_grad
    assert gap_net.training


def test_methods_and_targets_share_one_forward_pass(gap_net: GapNet, images: Tensor) -> None:
    runs = []
    gap_net.trunk.register_forward_hook(lambda *_: runs.append(1))
    model = Model(gap_net, layer="last", head=None)
    explain(model, images)  # surveys the network
    runs.clear()
    methods = ["gradcam", "gradcam++", "guided", "guided-backprop"]
    found = explain(model, images, methods, target=["pred", "top2", 4])
    assert len(runs) == 1
    assert [(e.method, e.target) for e in found] == [
        (m, t) for m in methods for t in ("pred", "top2", "4")
    ]
    for shown in found:
        spec: Any = int(shown.target) if shown.target.isdigit() else shown.target
        single = explain(model, images, shown.method, spec)
        torch.testing.assert_close(shown.maps, single.maps, rtol=1e-12, atol=1e-15)


def test_several_layers_share_one_forward_pass(gap_net: GapNet, images: Tensor) -> None:
    """Each map equals that of an explanation of its layer only; some layers are nested."""
    runs: list[int] = []
    gap_net.trunk.register_forward_hook(lambda *_: runs.append(1))
    model = Model(gap_net, layer="last", head=None)
    layers = ["trunk.0", None, "last.0", "trunk", "last"]
    methods = ["gradcam", "guided-backprop", "layercam", "guided"]
    explain(model, images)  # surveys the network
    runs.clear()
    found = explain(model, images, methods, ["pred", 2], layer=layers)
    assert len(runs) == 1
    paths = [path or "last" for path in layers]
    assert [(e.method, e.target, e.layer) for e in found] == [
        (method, target, path)
        for method in methods
        for target in ("pred", "2")
        for path in ([None] if method == "guided-backprop" else paths)
    ]
    for shown in found:
        target: Any = shown.target if shown.target == "pred" else int(shown.target)
        single = explain(model, images, shown.method, target, shown.layer)
        torch.testing.assert_close(shown.maps, single.maps, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", sorted({n for n, m in OF_MAPS.items() if m.at_layer} - {"cam"}))
def test_every_method_takes_several_layers(name: str, gap_net: GapNet, images: Tensor) -> None:
    found = explain(gap_net, images, name, 1, layer=["trunk.0", "last"])
    for shown, path in zip(found, ["trunk.0", "last"], strict=True):
        single = explain(gap_net, images, name, 1, path)
        torch.testing.assert_close(shown.maps, single.maps, rtol=1e-9, atol=1e-12)


class Answers(nn.Module):
    """Answers a question, given as an index, about an image; the scores are in a dict."""

    def __init__(self, net: GapNet) -> None:
        super().__init__()
        self.net, self.questions = net, nn.Embedding(7, 5).double()

    def forward(self, question: Tensor, image: Tensor) -> dict[str, Tensor]:
        return {"answers": self.net(image) * self.questions(question)}


@pytest.mark.parametrize("name", ["gradcam", "guided", "occlusion"])
def test_a_model_with_two_inputs_and_a_function_as_target(
    name: str, gap_net: GapNet, images: Tensor
) -> None:
    net, question = Answers(gap_net), torch.tensor([4, 0, 2])
    window = Window(8, 8)

    def answer(output: dict[str, Tensor]) -> Tensor:
        return output["answers"][:, 1]

    found = explain(net, (question, images), name, answer, "net.last", window=window)
    for i, image in enumerate(images):
        question_i = question[i : i + 1]
        single = explain(net, (question_i, image[None]), name, answer, "net.last", window=window)
        torch.testing.assert_close(found.maps[i], single.maps[0], rtol=1e-9, atol=1e-12)

    nn.init.ones_(net.questions.weight)  # now the scores are those of gap_net
    found = explain(net, (question, images), name, answer, "net.last", window=window)
    plain = explain(gap_net, images, name, 1, window=window)
    torch.testing.assert_close(found.maps, plain.maps, rtol=1e-9, atol=1e-12)


def test_a_model_that_changes_its_input_in_place(gap_net: GapNet, images: Tensor) -> None:
    class Normalising(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = gap_net

        def forward(self, x: Tensor) -> Tensor:
            x -= 0.5
            x /= 0.25
            return self.net(x)

    before = images.clone()
    for name in ("gradcam", "guided", "occlusion"):
        found = explain(Normalising(), images, name, 1, window=Window(8, 8))
        torch.testing.assert_close(found.scores, gap_net((before - 0.5) / 0.25)[:, 1].detach())
        assert torch.equal(images, before)


def test_features_are_freed_without_the_garbage_collector(gap_net: GapNet, images: Tensor) -> None:
    alive = weakref.WeakSet[Tensor]()
    gap_net.last.register_forward_hook(lambda _m, _a, output: alive.add(output))
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            explain(gap_net, images, ["gradcam", "guided", "occlusion"], window=Window(8, 8))
        assert not alive
    finally:
        gc.enable()


def test_a_frozen_backbone_keyword_inputs_and_a_tuple_as_output(
    gap_net: GapNet, images: Tensor
) -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.best = gap_net, Best()

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            with torch.no_grad():  # a frozen backbone
                features = self.net.last(self.net.trunk(x))
            scores = self.net.fc(input=self.net.pool(features).flatten(1))
            return scores, self.best(scores)

    class Best(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.argmax(1, keepdim=True)

    for name in ("cam", "gradcam"):
        found = explain(Odd(), images, name, 1)
        assert found.layer == "net.last"
        torch.testing.assert_close(found.maps, explain(gap_net, images, name, 1).maps)


def test_invalid_arguments(gap_net: GapNet, images: Tensor) -> None:
    with pytest.raises(ValueError, match=r"expected images \(N,C,H,W\), got a tensor \(3, 30"):
        explain(gap_net, images[0])
    with pytest.raises(ValueError, match=r"expected images \(N,C,H,W\), got a tensor \(0, 3"):
        explain(gap_net, images[:0])
    with pytest.raises(TypeError, match="gives 5 scores for 3 images"):
        explain(gap_net, images, target=lambda output: output[0])
    with pytest.raises(TargetError, match=r"target -1: expected a class index from 0$"):
        explain(gap_net, images, target=-1)
    with pytest.raises(ValueError, match="no images given"):
        explain(gap_net, [])
    with pytest.raises(
        TypeError, match="expected a tensor, an array, a PIL image or a path, got int"
    ):
        explain(gap_net, 7)
    with pytest.raises(MethodError, match="unknown method 'grad-cam': did you mean 'gradcam', '"):
        explain(gap_net, images, "grad-cam")
    with pytest.raises(TargetError, match="needs 100 classes; the model has 5"):
        explain(gap_net, images, target=99)


def test_cam_is_refused_for_other_heads_and_layers(
    gap_net: GapNet, deep_head: DeepHead, images: Tensor
) -> None:
    with pytest.raises(MethodError, match=r"global average pooling and one linear layer.*gradcam"):
        explain(deep_head, images, "cam")
    with pytest.raises(
        MethodError, match="reads the layer before the pooling, 'last', not 'trunk'"
    ):
        explain(gap_net, images, "cam", layer="trunk")
    assert explain(gap_net, images, "cam", layer="last").layer == "last"


@pytest.mark.parametrize("name", OF_MAPS)
def test_dtype_and_shape(name: str, gap_net: GapNet, images: Tensor) -> None:
    shown = explain(gap_net.float(), images.float(), name)
    assert shown.maps.dtype == torch.float32
    guided = (3, 3, 30, 26)
    shapes = {"occlusion": (3, 30, 26), "guided": guided, "guided-backprop": guided}
    assert shown.maps.shape == shapes.get(name, (3, 6, 5))
    assert shown.maps.isfinite().all()


def test_maps_of_negative_features_and_zero_gradients_are_finite(images: Tensor) -> None:
    net = GapNet(act=nn.GELU).double()
    needs_relu = {"guided", "guided-backprop"}
    for shown in explain(net, images, sorted(OF_MAPS.keys() - needs_relu)):
        assert shown.maps.isfinite().all(), shown.method
    nn.init.zeros_(net.fc.weight)
    # Eigen-CAM ignores the head, and Score-CAM's softmax gives equal scores equal weights.
    independent = {"eigencam", "scorecam"}
    for shown in explain(net, images, sorted(OF_MAPS.keys() - needs_relu - independent)):
        assert not shown.maps.any(), shown.method


def test_public_names() -> None:
    assert set(camcli.__all__) <= set(dir(camcli))
    for name in camcli.__all__:
        assert getattr(camcli, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = camcli.nothing
    assert load is camcli.load
