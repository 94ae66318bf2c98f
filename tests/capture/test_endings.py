"""Networks that end in a softmax or a sigmoid: scores are the values before it."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from camcli import Explanation, Model, explain, load
from camcli.capture.windows import Window
from camcli.engine.predict import class_and_probability, probabilities
from camcli.errors import CamcliWarning, TargetError
from tests.support.networks import OF_MAPS, GapNet, with_weights

WINDOW = Window(8, 8)
SOFTMAX = {
    "Softmax": nn.Softmax(1),
    "LogSoftmax": nn.LogSoftmax(1),
    "F.softmax": lambda z: F.softmax(z, dim=-1),
    "F.log_softmax": lambda z: F.log_softmax(z, dim=1),
    "Tensor.softmax": lambda z: z.softmax(1),
    "torch.softmax": lambda z: torch.softmax(input=z, dim=1),
    "reshaped": lambda z: z[:, :, None, None].softmax(1).flatten(1),
}
SIGMOID = {
    "Sigmoid": nn.Sigmoid(),
    "torch.sigmoid": torch.sigmoid,
    "Tensor.sigmoid_": lambda z: z.sigmoid_(),
    "F.sigmoid": F.sigmoid,
    "expit": torch.special.expit,
}
EVERY = {**SOFTMAX, **SIGMOID}
each_method = pytest.mark.parametrize("name", OF_MAPS)


class Ended(GapNet):
    """A GapNet with a gate in the middle, which also is a sigmoid, and a function at its end."""

    def __init__(self, ending: Callable[[Tensor], Tensor], classes: int = 5) -> None:
        super().__init__(classes)
        self.ending = ending

    def forward(self, x: Tensor) -> Tensor:
        x = self.trunk(x)
        x = x * x.mean((2, 3), keepdim=True).sigmoid()
        return self.ending(self.fc(self.pool(self.last(x)).flatten(1)))


def same(z: Tensor) -> Tensor:
    return z


def ended(ending: Callable[[Tensor], Tensor], classes: int = 5) -> Ended:
    torch.manual_seed(0)  # for the biases
    net = Ended(ending, classes)
    with_weights(net)
    return net


def assert_same(found: Explanation, expected: Explanation) -> None:
    for field in ("maps", "scores", "classes", "probabilities", "confidences"):
        torch.testing.assert_close(getattr(found, field), getattr(expected, field))
    assert found.layer == expected.layer


def quiet_explain(*args: object, **options: object) -> list[Explanation]:
    """Explain without the warning that the guided rule skips the gate."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "guided backpropagation applies", CamcliWarning)
        return explain(*args, **options)  # type: ignore[call-overload,no-any-return]


@pytest.mark.parametrize("ending", EVERY)
@each_method
def test_a_network_has_the_maps_of_its_twin_without_the_ending(
    name: str, ending: str, images: Tensor
) -> None:
    if name == "gradcam++softmax" and ending in SIGMOID:
        return  # it needs classes that exclude each other
    net = ended(EVERY[ending])
    twin = Model(ended(same), activation="sigmoid" if ending in SIGMOID else "auto")
    targets = ["pred", "top2", 3, "p>0.1"] + ["finer"] * (ending in SOFTMAX and "++" not in name)
    for model in (net, load(net)):
        shown = quiet_explain(model, images, name, targets, window=WINDOW)
        for found, expected in zip(
            shown, quiet_explain(twin, images, name, targets, window=WINDOW), strict=True
        ):
            torch.testing.assert_close(found.maps, expected.maps)
            torch.testing.assert_close(found.scores, expected.scores, equal_nan=True)
            torch.testing.assert_close(found.probabilities, expected.probabilities, equal_nan=True)
            assert found.layer == expected.layer
        assert any(found.maps.any() for found in shown) or name == "eigengradcam"


@pytest.mark.parametrize("ending", EVERY)
def test_probabilities_are_those_of_the_network(ending: str, images: Tensor) -> None:
    net = ended(EVERY[ending])
    own = net(images).exp() if "og" in ending and "oid" not in ending else net(images)
    torch.testing.assert_close(probabilities(net, images), own)
    best, shares = class_and_probability(net, images)
    torch.testing.assert_close(shares, own.amax(1))
    assert torch.equal(best, own.argmax(1))


@pytest.mark.parametrize("ending", SIGMOID)
@each_method
def test_a_sigmoid_of_one_logit_is_left_out_too(name: str, ending: str, images: Tensor) -> None:
    found, expected = (
        quiet_explain(Model(net, activation="sigmoid"), images, name, 1, window=WINDOW)
        for net in (ended(SIGMOID[ending], 1), ended(same, 1))
    )
    assert_same(found, expected)
    with pytest.raises(TargetError, match="--activation sigmoid for two classes by one logit, or"):
        explain(ended(SIGMOID[ending], 1), images)


@pytest.mark.parametrize(
    ("given", "ending"),
    [
        *(("none", one) for one in ("Softmax", "Sigmoid", "F.log_softmax")),
        *(("sigmoid", one) for one in ("Softmax", "F.log_softmax")),
        ("softmax", "Sigmoid"),
    ],
)
def test_a_given_activation_of_another_kind_takes_the_values_as_they_are(
    given: str, ending: str, images: Tensor
) -> None:
    net = ended(EVERY[ending])
    found = explain(Model(net, activation=given), images, target=2)
    torch.testing.assert_close(found.scores, net(images)[:, 2])


@pytest.mark.parametrize(
    ("given", "ending"), [("softmax", "Softmax"), ("softmax", "F.log_softmax")]
)
def test_a_given_activation_of_the_same_kind_is_applied_once(
    given: str, ending: str, images: Tensor
) -> None:
    found = explain(Model(ended(EVERY[ending]), activation=given), images, target=2)
    assert_same(found, explain(ended(same), images, target=2))


def test_a_function_gets_the_networks_own_output(images: Tensor) -> None:
    net = ended(nn.Softmax(1))
    own, plain = explain(net, images, target=[lambda out: out[:, 2], 2])
    torch.testing.assert_close(own.scores, net(images)[:, 2])
    torch.testing.assert_close(plain.scores, ended(same)(images)[:, 2])
    shown = explain(net, images, ["scorecam", "ablationcam"], lambda out: out[:, 2], window=WINDOW)
    assert all(torch.equal(one.scores, own.scores) for one in shown)


def test_a_changed_network_is_read_anew(images: Tensor) -> None:
    net = ended(torch.sigmoid)
    net.ending = lambda z: z.softmax(1)
    first = explain(net, images)
    net.ending = same
    assert_same(explain(net, images), first)
    net.ending = lambda z: z.log_softmax(1)
    assert_same(explain(net, images), first)
    net.ending = torch.tanh
    assert not torch.equal(explain(net, images).scores, first.scores)


class Scripted(nn.Module):
    """Ends in a softmax that no Python code calls."""

    def __init__(self, net: nn.Module, ending: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.ending = torch.jit.script(ending)

    def forward(self, x: Tensor) -> Tensor:
        return self.ending(self.net(x))


class Mean(nn.Module):
    """Averages the probabilities of two networks."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = ended(nn.Softmax(1)), ended(nn.Softmax(1))
        self.two.fc.weight.data *= -1

    def forward(self, x: Tensor) -> Tensor:
        return (self.one(x) + self.two(x)) / 2


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
@pytest.mark.parametrize("kind", ["scripted", "scripted log", "by hand", "mean"])
def test_scores_that_cannot_be_seen_become_logs_of_probabilities(kind: str, images: Tensor) -> None:
    net = {
        "scripted": lambda: Scripted(ended(same), nn.Softmax(1)),
        "scripted log": lambda: Scripted(ended(same), nn.LogSoftmax(1)),
        "by hand": lambda: ended(lambda z: z.exp() / z.exp().sum(1, keepdim=True)),
        "mean": Mean,
    }[kind]()
    own = net(images).exp() if kind == "scripted log" else net(images)
    layer = {"mean": "one.last", "by hand": "last"}.get(kind, "net.last")
    for name in ("gradcam", "occlusion", "scorecam", "ablationcam", "gradcam++softmax"):
        with pytest.warns(CamcliWarning, match="the log of the probability is explained"):
            found = explain(net, images, name, 2, layer=layer, window=WINDOW)
        torch.testing.assert_close(found.probabilities, own[:, 2])
        torch.testing.assert_close(found.scores, own[:, 2].log())


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
@pytest.mark.parametrize("classes", [1, 5])
def test_a_scripted_sigmoid_is_undone(classes: int, images: Tensor) -> None:
    """Its input is the log-odds of its result, up to rounding."""
    twin = Model(ended(same, classes), activation="sigmoid")
    part = Scripted(ended(same, classes), nn.Sigmoid())
    whole = torch.jit.trace(ended(torch.sigmoid, classes), images)
    target = classes // 2
    for net, layer, names in (
        (part, "net.last", OF_MAPS.keys() - {"cam", "gradcam++softmax", "guided"}),
        (whole, None, {"occlusion", "guided-backprop"}),
    ):
        for name in names:
            with pytest.warns(CamcliWarning, match="the log-odds of the probability are explained"):
                found = quiet_explain(
                    Model(net, activation="sigmoid"), images, name, target, layer, window=WINDOW
                )
            expected = quiet_explain(twin, images, name, target, window=WINDOW)
            torch.testing.assert_close(found.maps, expected.maps)
            torch.testing.assert_close(found.scores, expected.scores)
            torch.testing.assert_close(found.probabilities, expected.probabilities)


def test_values_between_0_and_1_are_no_probabilities(images: Tensor) -> None:
    """Only an operation tells a sigmoid, and only rows that sum to 1 tell a softmax by hand."""
    net = ended(lambda z: z.clamp(0, 1))
    found = explain(net, images, target=2)
    torch.testing.assert_close(found.scores, net(images)[:, 2])
    torch.testing.assert_close(found.probabilities, net(images).softmax(1)[:, 2])
    one = ended(torch.sigmoid, 1)
    found = explain(Model(one, activation="none"), images, target="score")
    torch.testing.assert_close(found.scores, one(images)[:, 0])


def test_plain_logits_run_once(images: Tensor) -> None:
    net, runs = ended(same), []
    net.fc.register_forward_hook(lambda *_: runs.append(1))
    for _ in range(2):
        explain(net, images, layer="last")
    assert len(runs) == 2 + 1  # a traced pass finds the layer's layout
    ending, runs = ended(nn.Softmax(1)), []
    ending.fc.register_forward_hook(lambda *_: runs.append(1))
    for _ in range(3):
        explain(ending, images, layer="last")
    assert len(runs) == 3 + 1 + 1, "one more pass finds the softmax"
    scores, runs = ended(lambda z: z.clamp(0, 1)), []
    scores.fc.register_forward_hook(lambda *_: runs.append(1))
    for _ in range(3):
        explain(scores, images, layer="last")
    assert len(runs) == 3 + 1 + 1, "one more pass finds that there is none"


@pytest.mark.parametrize("ending", ["Softmax", "F.log_softmax"])
def test_a_segmentation_network(ending: str, images: Tensor) -> None:
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 1)).double()
    end = {"Softmax": nn.Softmax(1), "F.log_softmax": nn.LogSoftmax(1)}[ending]
    found, expected = (
        explain(Model(net, task="segmentation"), images, target=1, layer="0.1")
        for net in (nn.Sequential(trunk, end), nn.Sequential(trunk, nn.Identity()))
    )
    assert_same(found, expected)
