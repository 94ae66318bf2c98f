"""The backward rule `libra`: its oracle, its completeness, and what it refuses."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from camcli import explain
from camcli.capture.evidence import Observation
from camcli.capture.forward import Pass, Watch
from camcli.capture.hooks import borrowed
from camcli.capture.libra import balanced
from camcli.capture.target_parser import parse_target
from camcli.engine.survey import layouts_at
from camcli.errors import CamcliWarning, MethodError
from camcli.methods.backward import check_backward
from camcli.methods.registry import METHODS
from tests.support.command import TINY, Run, stderr
from tests.support.files import manifest
from tests.support.networks import GapNet
from tests.support.vision_transformers import (
    Explicit,
    square_images,
    vision_transformer,
    with_random_weights,
)


def test_maps_are_those_of_explicit_constants() -> None:
    net, images = vision_transformer(), square_images()
    for index in (0, 3):
        found = explain(net, images, "hirescam", index, backward="libra").maps
        for image, shown in zip(images, found, strict=True):
            run = Explicit(net, image, libra=True)
            (slopes,) = torch.autograd.grad(run.scores[index], run.normed[-1])
            expected = (slopes * run.normed[-1]).sum(1)[1:].view(3, 3).relu()
            torch.testing.assert_close(shown, expected, rtol=1e-9, atol=1e-14)


def test_attention_has_gradients_of_its_own() -> None:
    """GAE multiplies by gradients at weights that are constants behind them."""
    net, images = vision_transformer(), square_images()
    found = explain(net, images, "gae", 1, backward="libra").maps
    for image, shown in zip(images, found, strict=True):
        plain = Explicit(net, image)
        given = {i: w.detach().requires_grad_() for i, w in enumerate(plain.weights)}
        run = Explicit(net, image, given, libra=True)
        slopes = torch.autograd.grad(run.scores[1], [*given.values()])
        relevance = np.eye(10)
        for weights, slope in zip(given.values(), slopes, strict=True):
            product = (weights * slope).detach().numpy()
            relevance = relevance + np.maximum(product, 0).mean(0) @ relevance
        np.testing.assert_allclose(shown.numpy().ravel(), relevance[0, 1:], rtol=1e-9, atol=1e-14)


class Block(nn.Module):
    """A transformer's block with a normalisation and a gate that are written by hand."""

    def __init__(self, gate: str) -> None:
        super().__init__()
        self.gate = gate
        self.qkv, self.out = nn.Linear(8, 24, bias=False), nn.Linear(8, 8, bias=False)
        self.first, self.second = nn.Linear(8, 16, bias=False), nn.Linear(16, 8, bias=False)
        self.up = nn.Linear(8, 16, bias=False)
        self.scale = nn.Parameter(torch.ones(8))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(F.layer_norm(x, (8,), self.scale)).chunk(3, -1)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v))
        rms = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
        hidden = self.first(rms)
        return x + self.second(GATES[self.gate](self, hidden, rms))


GATES: dict[str, Any] = {
    "gelu": lambda _self, hidden, _x: F.gelu(hidden),
    "silu": lambda _self, hidden, _x: F.silu(hidden),
    "relu": lambda _self, hidden, _x: hidden.relu(),
    "quick gelu": lambda _self, hidden, _x: hidden * torch.sigmoid(1.702 * hidden),
    "gelu by hand": lambda _self, hidden, _x: 0.5 * hidden * (1 + torch.erf(hidden / 2**0.5)),
    "swiglu": lambda self, hidden, x: F.silu(hidden) * self.up(x),
    "excitation": lambda self, hidden, x: hidden * self.up(x.mean(1, keepdim=True)).sigmoid(),
}


class BiasFree(nn.Module):
    """Patches, two blocks, a norm that is divided by a length, and the mean of all tokens."""

    def __init__(self, gate: str) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 4, 4, bias=False)
        self.blocks = nn.ModuleList([Block(gate), Block(gate)])
        self.head = nn.Linear(8, 5, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x).flatten(2).mT
        for block in self.blocks:
            tokens = block(tokens)
        pooled = tokens.mean(1)
        scores: Tensor = self.head(pooled / pooled.norm(dim=-1, keepdim=True))
        return scores


def total_at(net: nn.Module, images: Tensor, layer: str, backward: str) -> tuple[Tensor, Tensor]:
    """Return the sum (N,) of a layer's activations times their gradients, and the score (N,)."""
    watch = Watch(net, (layer,), backward=backward, layouts=layouts_at(net, [layer], (images,)))
    with borrowed(net):
        run = Pass(watch, (images,))
        with closing(Observation(run, [parse_target(1, None, 5)])) as observation:
            (evidence,) = observation.evidence(observation.scored[0], at_layers=True)
            return (evidence.acts * evidence.grads).sum((1, 2, 3)), evidence.score


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("layer", ["embed", "blocks.0", "blocks.1"])
def test_activations_times_gradients_sum_to_the_score_at_every_layer(gate: str, layer: str) -> None:
    net, images = with_random_weights(BiasFree(gate)), square_images()
    total, score = total_at(net, images, layer, "libra")
    torch.testing.assert_close(total, score, rtol=1e-10, atol=1e-12)
    plain, _ = total_at(net, images, layer, "plain")
    assert not torch.allclose(plain, score, rtol=1e-2), "the rule makes the difference"


def test_the_score_is_not_changed() -> None:
    for gate in GATES:
        net, images = with_random_weights(BiasFree(gate)), square_images()
        torch.testing.assert_close(total_at(net, images, "embed", "libra")[1], net(images)[:, 1])


@pytest.mark.parametrize("norm", ["group_norm", "normalize", "rms_norm", "layer_norm"])
def test_normalisations_have_their_values(norm: str) -> None:
    class Normed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            arguments = {"group_norm": (2,), "normalize": (), "rms_norm": ((3,),)}
            if norm == "group_norm":
                return F.group_norm(x, 2)
            return getattr(F, norm)(x, *arguments.get(norm, ((3,),)))

    x = torch.randn(2, 4, 5, 3, generator=torch.Generator().manual_seed(0)).double()
    x.requires_grad_()
    with balanced():
        found = Normed()(x)
    torch.testing.assert_close(found, Normed()(x))
    torch.testing.assert_close((torch.autograd.grad(found.sum(), x)[0] * x).sum(), found.sum())


def test_a_network_of_convolutions_and_relus_has_its_own_gradients(
    gap_net: GapNet, images: Tensor
) -> None:
    one, other = (explain(gap_net, images, "gradcam", 2, backward=b) for b in ("plain", "libra"))
    assert torch.equal(one.maps, other.maps)


def test_the_network_is_unchanged() -> None:
    net, images = vision_transformer(), square_images()
    before, maps = net(images), explain(net, images, "hirescam", 1).maps
    explain(net, images, ["hirescam", "gae", "legrad"], 1, backward="libra")
    assert torch.equal(net(images), before)
    assert torch.equal(explain(net, images, "hirescam", 1).maps, maps)


@pytest.mark.parametrize(("act", "named"), [(nn.ELU, "2 Elu"), (nn.Tanh, "2 Tanh")])
def test_functions_without_a_rule_are_named(act: Any, named: str, images: Tensor) -> None:
    net = GapNet(act=act).double()
    with pytest.warns(CamcliWarning, match=rf"no rule for parts of this network \({named}\)"):
        explain(net, images, "gradcam", 1, "trunk.0", backward="libra")


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
def test_scripted_parts_are_named(gap_net: GapNet, images: Tensor) -> None:
    hidden = nn.Sequential(nn.Linear(4, 5), nn.GELU()).double()
    gap_net.fc = torch.jit.trace(hidden, torch.ones(1, 4).double())
    with pytest.warns(CamcliWarning, match=r"no rule for parts of this network \(1 Gelu\)"):
        explain(gap_net, images, "gradcam", 1, "last", backward="libra")


def test_methods_without_gradients_are_refused() -> None:
    for name in ("cam", "eigencam", "occlusion", "scorecam", "rollout"):
        with pytest.raises(MethodError, match=f"'{name}' has no gradients"):
            check_backward("libra", [METHODS["gradcam"], METHODS[name]])
    with pytest.raises(MethodError, match="'guided' has a backward rule of its own"):
        check_backward("libra", [METHODS["guided"]])
    with pytest.raises(MethodError, match=r"backward rule 'libre'.*libra"):
        check_backward("libre", [])
    check_backward("libra", [METHODS[name] for name in ("gradcam", "gae", "legrad")])


def test_the_command_records_the_rule_and_keeps_other_results_apart(
    run: Run, photo: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    known = ("explain", photo, *TINY, "--output", out, "--save", "map")
    assert run(*known, "--backward", "libra").exit_code == 0
    assert json.loads((out / "run.json").read_text())["backward"] == "libra"
    (row,) = manifest(out)
    other = run(*known)
    assert (other.exit_code, "--overwrite" in stderr(other)) == (2, True)
    assert run(*known, "--overwrite").exit_code == 0
    (plain,) = manifest(out)
    assert plain["digest"] != row["digest"]
    for name, reason in (("eigencam", "has no gradients"), ("guided", "rule of its own")):
        wrong = run(*known, "--method", name, "--backward", "libra")
        assert (wrong.exit_code, reason in stderr(wrong)) == (2, True)
