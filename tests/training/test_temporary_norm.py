"""Layers that a network has only while it is trained."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from camcli.models.torchvision_networks import initialise_torchvision
from camcli.training.temporary_norm import (
    NormedConv,
    NormedHead,
    add_temporary_layers,
    anneal_relus,
    fold_temporary_layers,
)


def squeezenet(seed: int = 0) -> nn.Module:
    return initialise_torchvision("squeezenet1_1", ["a", "b"], seed).module


def count(module: nn.Module, kind: type[nn.Module]) -> int:
    return sum(isinstance(part, kind) for part in module.modules())


def test_folded_weights_fit_the_published_network_and_give_the_same_scores() -> None:
    plain, normed = squeezenet(), add_temporary_layers(squeezenet())
    assert count(normed, NormedConv) >= 5
    generator = torch.Generator().manual_seed(0)
    for part in normed.modules():
        if isinstance(part, nn.BatchNorm2d):
            for value in (part.weight, part.bias, part.running_mean, part.running_var):
                value.data.uniform_(0.5, 1.5, generator=generator)
    plain.load_state_dict(fold_temporary_layers(normed, normed.state_dict()))
    images = torch.rand(2, 3, 70, 70, generator=generator)
    with torch.no_grad():
        expected, found = normed.eval()(images), plain.eval()(images)
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_initial_weights_give_the_same_scores_with_temporary_layers() -> None:
    images = torch.rand(4, 3, 70, 70, generator=torch.Generator().manual_seed(0))
    plain, normed = squeezenet(seed=5), squeezenet(seed=5)
    for module in (plain, normed):
        module.get_submodule("features.0").weight *= 40  # published features may have any scale
    add_temporary_layers(normed, images)
    assert count(normed, NormedConv) >= 5
    assert count(normed, NormedHead) == 1
    inputs: list[Tensor] = []
    head = normed.get_submodule("classifier.1")
    head.norm.register_forward_hook(lambda *call: inputs.append(call[2]))
    expected, found = plain.eval()(images), normed.eval()(images)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    assert 0.3 < inputs[0].std() < 1.1
    folded = squeezenet().eval()
    folded.load_state_dict(fold_temporary_layers(normed, normed.state_dict()))
    torch.testing.assert_close(folded(images), expected, rtol=1e-3, atol=1e-4)


def test_network_with_normalisation_layers_gets_no_temporary_ones() -> None:
    module = initialise_torchvision("shufflenet_v2_x0_5", ["a", "b"]).module
    before = str(module)
    assert str(add_temporary_layers(module)) == before


def test_annealed_relu_begins_linear_and_ends_as_plain_relu() -> None:
    module = add_temporary_layers(squeezenet())
    relu = module.get_submodule("classifier.2")
    x = torch.tensor([-2.0, 3.0])
    anneal_relus(module, 0.0)
    assert torch.equal(relu(x), x)
    anneal_relus(module, 0.5)
    assert torch.equal(relu(x), x.relu())
    anneal_relus(module, 0.0)
    assert torch.equal(relu.eval()(x), x.relu()), "it is a plain ReLU in evaluation mode"
