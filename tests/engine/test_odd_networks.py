"""Networks and targets that are explained rightly, or refused in one line."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from camcli import CamcliError, Explanation, explain
from camcli.capture.windows import Window
from camcli.errors import ModelError
from tests.support.command import Run, refused
from tests.support.files import make_photo
from tests.support.networks import OF_MAPS, GapNet

WINDOW = Window(8, 8)


class Checkpointed(GapNet):
    """A GapNet that computes its layers again in the backward pass, or all of itself."""

    def __init__(self, reentrant: bool, whole: bool = False) -> None:
        super().__init__()
        self.reentrant, self.whole = reentrant, whole

    def forward(self, x: Tensor) -> Tensor:
        if self.whole:
            return self.again(super().forward, x)
        return self.fc(self.pool(self.again(self.last, self.again(self.trunk, x))).flatten(1))

    def again(self, part: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        return checkpoint(part, x, use_reentrant=self.reentrant)


class Inferring(GapNet):
    """A GapNet whose trunk, or all of it, runs in inference mode."""

    def __init__(self, whole: bool = False) -> None:
        super().__init__()
        self.whole = whole

    def forward(self, x: Tensor) -> Tensor:
        with torch.inference_mode():
            x = super().forward(x) if self.whole else self.trunk(x)
        return x if self.whole else self.fc(self.pool(self.last(x)).flatten(1))


def scripted(*names: str) -> nn.Module:
    """Return a GapNet with these parts scripted, or all of it."""
    net = GapNet()
    for name in names:
        setattr(net, name, torch.jit.script(getattr(net, name)))
    return net if names else torch.jit.script(net)


def inferred() -> nn.Module:
    with torch.inference_mode():
        return GapNet()


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "scripted": scripted,
    "traced": lambda: torch.jit.trace(GapNet().eval(), torch.rand(1, 3, 30, 26)),
    "scripted trunk": lambda: scripted("trunk"),
    "scripted last": lambda: scripted("last"),
    "inference weights": inferred,
    "inference mode": lambda: Inferring(whole=True),
    "inference trunk": Inferring,
    "reentrant": lambda: Checkpointed(True),
    "checkpointed": lambda: Checkpointed(False),
    "reentrant whole": lambda: Checkpointed(True, whole=True),
    "checkpointed whole": lambda: Checkpointed(False, whole=True),
}
RIGHT = {
    **dict.fromkeys(("scripted trunk", "checkpointed"), frozenset(OF_MAPS)),
    **dict.fromkeys(("scripted", "traced"), frozenset({"guided-backprop", "occlusion"})),
    "inference trunk": frozenset({"occlusion"}),
    "scripted last": frozenset({"guided-backprop", "occlusion"}),
    "inference weights": frozenset(),
}
"""The methods that give the maps of a GapNet, at its layer `last`. The others are refused."""


def built(make: Callable[[], nn.Module]) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        torch.manual_seed(0)
        return make()


def outcome(
    net: nn.Module, images: Tensor, name: str, layer: str | None
) -> Explanation | CamcliError:
    try:
        return explain(net, images, name, 1, layer=layer, window=WINDOW)
    except CamcliError as error:
        return error


@pytest.mark.filterwarnings(
    "ignore:None of the inputs have requires_grad", "ignore:no gradient passes through"
)
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(
    ("name", "layer"),
    [(name, layer) for name in OF_MAPS for layer in [None, "last"][: 1 + OF_MAPS[name].at_layer]],
)
def test_maps_are_right_or_refused(
    name: str, network: str, layer: str | None, images: Tensor
) -> None:
    net, images = built(NETWORKS[network]), images.float()
    found = outcome(net, images, name, layer)
    if isinstance(found, CamcliError):
        assert "\n" not in str(found)
        assert name not in RIGHT.get(network, ())
        return
    expected = explain(built(GapNet), images, name, 1, layer=found.layer, window=WINDOW)
    torch.testing.assert_close(found.maps, expected.maps)
    torch.testing.assert_close(found.scores, expected.scores)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (
            "scripted",
            "scripted or traced, and its layers cannot be watched: use guided-backprop or",
        ),
        ("traced", "scripted or traced, and its layers cannot be watched: use guided-backprop or"),
        ("scripted last", "layer 'last' is scripted or traced, and cannot be watched: choose anot"),
        (
            "inference weights",
            "weights were made in torch.inference_mode.*: build the network outs",
        ),
        ("inference mode", "layer 'last' runs in torch.inference_mode.., which has no gradients"),
        ("reentrant", "layer 'last' runs where the network disables gradients.*checkpoint"),
        ("checkpointed whole", "runs again in the backward pass .torch.utils.checkpoint.: switch"),
    ],
)
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_the_line_names_the_reason(network: str, message: str, images: Tensor) -> None:
    with pytest.raises(ModelError, match=message):
        explain(built(NETWORKS[network]), images.float(), "gradcam", 1, layer="last")


def test_a_network_of_inference_weights_works_when_copied_outside(images: Tensor) -> None:
    net = built(GapNet)
    with torch.inference_mode():
        made = copy.deepcopy(net)
    net.load_state_dict(made.state_dict())
    assert explain(net, images.float()).maps.any()


@pytest.mark.parametrize(
    ("target", "given"),
    [
        (torch.tensor([1.7, 0.2, 3.0]), r"\(3,\) of torch.float32"),
        (torch.tensor([True, False, True]), r"\(3,\) of torch.bool"),
        (torch.tensor(1.0), r"\(\) of torch.float32"),
        (torch.ones(3, 1, dtype=torch.long), r"\(3, 1\) of torch.int64"),
        (np.array([1, 2, 3]), "ndarray"),
        (1.5, "float"),
        (None, "NoneType"),
    ],
)
def test_a_target_that_is_no_index_is_refused_in_one_line(
    target: Any, given: str, gap_net: GapNet, images: Tensor
) -> None:
    expected = rf"expected a name, an index or a tensor of integers \(N,\), got .*{given}"
    for spec in (target, [target]):
        with pytest.raises(TypeError, match=expected):
            explain(gap_net, images, target=spec)


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int32, torch.int64])
def test_indices_have_any_type_of_integers(
    dtype: torch.dtype, gap_net: GapNet, images: Tensor
) -> None:
    given = torch.tensor([4, 0, 2], dtype=dtype)
    assert torch.equal(explain(gap_net, images, target=given).classes, given.long())
    assert explain(gap_net, images, target=given[0]).classes.tolist() == [4, 4, 4]
    assert explain(gap_net, images, target=np.int64(2)).classes.tolist() == [2, 2, 2]


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("network", ["scripted", "inferred", "Inferring", "checkpointed", "views"])
def test_the_command_refuses_in_one_line(network: str, run: Run, tmp_path: Path) -> None:
    factories = tmp_path / "odd.py"
    factories.write_text(
        "import warnings\nimport torch\n"
        "from tests.engine.test_odd_networks import Checkpointed, GapNet, inferred, scripted\n"
        "from tests.engine import test_odd_networks as odd\n"
        "def checkpointed(): return Checkpointed(False, whole=True)\n"
        "def Inferring(): return odd.Inferring(whole=True)\n"
        "class views(GapNet):\n"
        "    def forward(self, x):\n"
        "        return super().forward(torch.cat([x, x / 2])).view(2, len(x), -1).mean(0)\n"
    )
    photos = [make_photo(tmp_path / "in" / f"{i}.jpg", 80, 60) for i in range(3)]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*torch.jit", FutureWarning)
        found = run(
            *("explain", *photos, "--model", f"{factories}:{network}", "--layer", "last"),
            *("--output", tmp_path / "out", "--quiet"),
        )
    assert refused(found)
