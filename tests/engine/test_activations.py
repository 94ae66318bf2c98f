"""What the values of a network mean: a softmax, a sigmoid, or the values of a regression."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from camcli import Explanation, Model, explain
from camcli.capture.windows import Window
from camcli.engine.predict import class_and_probability, probabilities
from camcli.errors import MethodError, ModelError, TargetError
from tests.support.networks import OF_MAPS, GapNet, with_weights

WINDOW = Window(8, 8)
each_method = pytest.mark.parametrize("name", OF_MAPS)


class Squeezed(GapNet):
    """A network of one value for each image, as (N,)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[:, 0]


def one_value(kind: type[GapNet] = GapNet) -> GapNet:
    """Return a network with one value, which has both signs among the images of the fixture."""
    torch.manual_seed(0)  # for the biases
    net = kind(1)
    with_weights(net)
    net.fc.weight.data = torch.tensor([[2.0, -2.0, 1.0, -1.0]]).double()
    net.fc.bias.data.fill_(-1.5)
    return net


def with_logits(net: GapNet, rows: list[list[float]]) -> GapNet:
    """Return a copy whose logits are these multiples (K,1) of the only value of a network."""
    twin = GapNet(len(rows)).double()
    twin.load_state_dict({**net.state_dict(), "fc.weight": twin.fc.weight, "fc.bias": twin.fc.bias})
    factors = torch.tensor(rows).double()
    twin.fc.weight.data = factors @ net.fc.weight.data
    twin.fc.bias.data = factors[:, 0] * net.fc.bias.data
    return twin


@pytest.fixture
def values(images: Tensor) -> Tensor:
    """The only value (N,) of `one_value` for each image."""
    found = one_value()(images).detach()[:, 0]
    assert (found > 0).any()
    assert (found < 0).any()
    return found


def assert_same(found: Explanation, expected: Explanation) -> None:
    torch.testing.assert_close(found.maps, expected.maps, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found.scores, expected.scores)
    torch.testing.assert_close(found.classes, expected.classes)
    torch.testing.assert_close(found.probabilities, expected.probabilities)
    torch.testing.assert_close(found.confidences, expected.confidences)


@pytest.mark.parametrize("kind", [GapNet, Squeezed])
@each_method
def test_a_logit_has_the_maps_of_its_twin_with_two_logits(
    name: str, kind: type[GapNet], images: Tensor
) -> None:
    """Class 1 is the twin's class 1, and class 0 the contrast of the twin's class 0."""
    net = one_value(kind)
    model, twin = Model(net, activation="sigmoid"), with_logits(one_value(), [[0.0], [1.0]])
    targets = [1] if name == "gradcam++softmax" else [1, "not:1"]
    for target in targets:
        found = explain(model, images, name, target, window=WINDOW)
        assert found.maps.any() or (name, target) == ("eigengradcam", "not:1")
        assert_same(found, explain(twin, images, name, target, window=WINDOW))
    against = explain(model, images, name, 0, window=WINDOW)
    assert against.maps.any() or name == "eigengradcam", "the sum of HiResCAM is below 0"
    if name == "gradcam++softmax":  # which reads probabilities, and no score
        expected = explain(twin, images, name, 0, window=WINDOW)
        torch.testing.assert_close(against.maps, expected.maps)
    else:
        assert_same(against, explain(twin, images, name, "finer:0", window=WINDOW))


@each_method
def test_the_predicted_class_of_a_logit_is_the_side_that_wins(
    name: str, images: Tensor, values: Tensor
) -> None:
    model = Model(one_value(), class_names=("cat", "dog"), activation="sigmoid")
    wins = (values > 0).long()
    for target, classes in (
        ("pred", wins),
        ("top2", 1 - wins),
        ("dog", torch.ones_like(wins)),
        (1 - wins, 1 - wins),
    ):
        found = explain(model, images, name, target, window=WINDOW)
        assert found.classes is not None
        assert found.classes.tolist() == classes.tolist()
        sign = 2 * classes - 1
        torch.testing.assert_close(found.scores, sign * values)
        torch.testing.assert_close(found.probabilities, (sign * values).sigmoid())
        torch.testing.assert_close(found.confidences, values.abs().sigmoid())
        for i, one in enumerate(classes.tolist()):
            alone = explain(model, images, name, one, window=WINDOW)
            torch.testing.assert_close(found.maps[i], alone.maps[i])
    torch.testing.assert_close(
        probabilities(model, images), torch.stack([-values, values], 1).sigmoid()
    )
    classes, shares = class_and_probability(model, images)
    torch.testing.assert_close((classes, shares), (wins, values.abs().sigmoid()))


@each_method
def test_labels_have_probabilities_of_their_own(name: str, gap_net: GapNet, images: Tensor) -> None:
    scores, model = gap_net(images).detach(), Model(gap_net, activation="sigmoid")
    if name == "gradcam++softmax":
        with pytest.raises(MethodError, match=r"gives independent labels .*: use gradcam"):
            explain(model, images, name)
        return
    for target in ("pred", "top2", 3, "not:3"):
        found = explain(model, images, name, target, window=WINDOW)
        expected = explain(gap_net, images, name, target, window=WINDOW)
        assert torch.equal(found.maps, expected.maps)
        assert torch.equal(found.scores, expected.scores)
        assert found.classes is not None
        own = scores.gather(1, found.classes[:, None])[:, 0]
        torch.testing.assert_close(found.probabilities, own.sigmoid())
        torch.testing.assert_close(found.confidences, scores.amax(1).sigmoid())
    torch.testing.assert_close(probabilities(model, images), scores.sigmoid())


@pytest.mark.parametrize("kind", [GapNet, Squeezed])
@each_method
def test_a_value_has_maps_and_no_probability(
    name: str, kind: type[GapNet], images: Tensor, values: Tensor
) -> None:
    """The maps are those of a class with this score, of a network with more classes."""
    model, twin = Model(one_value(kind), activation="none"), with_logits(one_value(), [[1.0], [0]])
    if name == "gradcam++softmax":
        with pytest.raises(MethodError, match=r"gives a value .*: use gradcam\+\+"):
            explain(model, images, name, "score")
        return
    for target, same, sign in (
        ("score", 0, 1),
        ("+score", 0, 1),
        ("-score", "not:0", -1),
        (0, 0, 1),
        ("not:0", "not:0", -1),
    ):
        found = explain(model, images, name, target, window=WINDOW)
        expected = explain(twin, images, name, same, window=WINDOW)
        torch.testing.assert_close(found.maps, expected.maps, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(found.scores, sign * values)
        assert (found.probabilities, found.confidences) == (None, None)
        assert found.names == (str(target),) * len(images)
    assert probabilities(model, images) is None


def test_one_of_several_values_is_named(gap_net: GapNet, images: Tensor) -> None:
    names = ("age", "height", "width", "depth", "weight")
    model = Model(gap_net, class_names=names, num_classes=5, activation="none")
    found = explain(model, images, target=["width", 2, "not:width", torch.tensor([2, 2, 2])])
    expected = explain(gap_net, images, target=2)
    for shown in found:
        assert (shown.probabilities, shown.confidences) == (None, None)
        assert shown.classes is not None
        assert shown.classes.tolist() == [2, 2, 2]
    for shown in (*found[:2], found[3]):
        assert torch.equal(shown.maps, expected.maps)
        assert torch.equal(shown.scores, expected.scores)
    assert torch.equal(found[2].scores, -expected.scores)


def test_a_class_may_be_named_score(gap_net: GapNet, images: Tensor) -> None:
    model = Model(gap_net, class_names=("a", "b", "Score", "d", "e"), num_classes=5)
    found = explain(model, images, target="score")
    assert torch.equal(found.maps, explain(gap_net, images, target=2).maps)


@pytest.mark.parametrize("kind", [GapNet, Squeezed])
@pytest.mark.parametrize("activation", ["auto", "softmax"])
@pytest.mark.parametrize("target", ["pred", 0, "finer", "not:0"])
def test_one_value_is_not_read_without_an_activation(
    target: str, activation: str, kind: type[GapNet], images: Tensor
) -> None:
    model = Model(one_value(kind), activation=activation)
    with pytest.raises(TargetError, match="--activation sigmoid for two classes by one logit, or"):
        explain(model, images, target=target)
    with pytest.raises(TargetError, match="--activation sigmoid for two classes by one logit, or"):
        probabilities(model, images)


def test_a_function_explains_one_value_without_an_activation(images: Tensor) -> None:
    found = explain(one_value(), images, target=lambda out: out[:, 0])
    expected = explain(Model(one_value(), activation="none"), images, target="score")
    assert torch.equal(found.maps, expected.maps)


@pytest.mark.parametrize("given", ["softmax", "auto"])
def test_several_values_are_classes(given: str, gap_net: GapNet, images: Tensor) -> None:
    found = explain(Model(gap_net, activation=given), images)
    torch.testing.assert_close(found.probabilities, gap_net(images).softmax(1).amax(1).detach())


@pytest.mark.parametrize(
    ("count", "activation", "target", "message"),
    [
        (
            1,
            "sigmoid",
            "finer:1",
            "'finer:1' does not apply to two classes by one logit: the",
        ),
        (1, "sigmoid", "top3", "target 'top3' needs 3 classes; the model has 2"),
        (
            1,
            "sigmoid",
            "score",
            "'score' is for a network of one value .* two classes by one",
        ),
        (3, "sigmoid", "finer", "'finer' does not apply to independent labels .*: they do not"),
        (
            1,
            "none",
            "pred",
            "'pred' does not apply to a value .*: expected score, .score or -",
        ),
        (1, "none", "top1", "'top1' does not apply to a value"),
        (1, "none", "finer:0", "'finer:0' does not apply to a value"),
        (1, "none", "not:", "'not:' does not apply to a value"),
        (1, "none", 1, "target '1' needs 2 classes; the model has 1"),
        (3, "none", "pred", "'pred' does not apply to values .*: expected the index or the name"),
        (3, "none", "finer:0", "'finer:0' does not apply to values"),
        (3, "none", "score", "'score' is for a network of one value .* gives values"),
        (3, "auto", "-score", "'-score' is for a network of one value .* gives classes"),
    ],
)
def test_targets_that_do_not_apply(
    count: int, activation: str, target: str, message: str, images: Tensor
) -> None:
    model = Model(with_weights(GapNet(count)), activation=activation)
    with pytest.raises(TargetError, match=message) as caught:
        explain(model, images, target=target)
    assert "\n" not in str(caught.value)


def test_activations_that_do_not_exist_or_apply(gap_net: nn.Module) -> None:
    with pytest.raises(ModelError, match="unknown activation 'sigmid': did you mean 'sigmoid'"):
        Model(gap_net, activation="sigmid")
    with pytest.raises(ModelError, match=r"activation sigmoid .* a segmentation network"):
        Model(gap_net, task="segmentation", activation="sigmoid")
