"""The sanity check's parts against loops: the order of the layers, and the rank correlation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from camcli.evaluation.correlation import pearson, ranks, spearman
from camcli.evaluation.randomization import cascading_randomization, parameter_groups

NETWORKS = (
    *("squeezenet1_0", "resnet18", "mnasnet0_5", "densenet121", "mobilenet_v3_small"),
    *("shufflenet_v2_x0_5", "efficientnet_b0", "regnet_y_400mf"),
)


def mean_ranks(values: list[float]) -> list[float]:
    """Return the ranks from 1 on; equal values share the mean of their ranks."""
    order = sorted(range(len(values)), key=lambda i: values[i])
    found = [0.0] * len(values)
    first = 0
    while first < len(order):
        last = first
        while last + 1 < len(order) and values[order[last + 1]] == values[order[first]]:
            last += 1
        for i in order[first : last + 1]:
            found[i] = (first + last) / 2 + 1
        first = last + 1
    return found


def correlation(a: list[float], b: list[float]) -> float:
    """Return sum (a - mean a)(b - mean b) / sqrt(sum (a - mean a)^2 sum (b - mean b)^2)."""
    mean_a, mean_b = math.fsum(a) / len(a), math.fsum(b) / len(b)
    products = math.fsum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True))
    squares = (math.fsum((x - m) ** 2 for x in s) for s, m in ((a, mean_a), (b, mean_b)))
    return products / math.sqrt(math.prod(squares))


@pytest.mark.parametrize("levels", [2, 3, 10, 0])
def test_rank_correlation_equals_a_slow_reference(levels: int) -> None:
    """Of maps with few values, the zeros behind a ReLU among them, and of maps without ties."""
    random = np.random.default_rng(levels)
    shape = (20, 6, 7)
    a, b = (
        random.integers(0, levels, shape) if levels else random.normal(size=shape) for _ in "ab"
    )
    b = np.where(random.random(shape) < 0.5, a, b)  # from independent to similar
    a[3], b[4] = np.maximum(a[3], (levels - 1) // 2), -a[4]
    found = spearman(torch.from_numpy(a).double(), torch.from_numpy(b).double())
    for i in range(20):
        x, y = (mean_ranks(maps[i].ravel().tolist()) for maps in (a, b))
        assert found[i].item() == pytest.approx(correlation(x, y), abs=1e-12)
        plain = correlation(a[i].ravel().tolist(), b[i].ravel().tolist())
        one = pearson(torch.from_numpy(a[i : i + 1]), torch.from_numpy(b[i : i + 1]))
        assert one.item() == pytest.approx(plain, abs=1e-12)


def test_ranks_of_a_photo_are_exact() -> None:
    """Ranks of 500 x 500 pixels, halves among them, fit into float32."""
    values = torch.arange(250_000.0).roll(77).view(1, 500, 500)
    values[0, 0, :2] = values[0, 0, 0]
    expected = [rank - 1 for rank in mean_ranks(values.flatten().tolist())]
    assert ranks(values)[0].tolist() == expected


def forward_order(net: nn.Module) -> list[nn.Module]:
    """Return the layers with parameters in the order in which they run on an image."""
    order: list[nn.Module] = []
    for part in net.modules():
        if any(True for _ in part.parameters(recurse=False)):
            part.register_forward_hook(lambda module, *_: order.append(module))
    with torch.no_grad():
        net.eval()(torch.zeros(1, 3, 96, 96))
    return order


@pytest.mark.parametrize("name", NETWORKS)
def test_layers_are_randomized_from_the_logits_to_the_image(name: str) -> None:
    """Adebayo et al. 2018, sec. 3.1: from the top layer down, and all randomized ones stay so."""
    net = torchvision.models.get_model(name)
    layers = forward_order(net)[::-1]
    before = {name: tensor.clone() for name, tensor in net.named_parameters()}
    owner = {
        f"{path}.{own}": layers.index(part)
        for path, part in net.named_modules()
        for own, _ in part.named_parameters(recurse=False)
    }
    reached = []
    with cascading_randomization(net, 6, 0) as steps:
        for _ in steps:
            # A bias of zeros or a scale of ones has no deviation and stays as it is.
            changed = {owner[n] for n, p in net.named_parameters() if not p.equal(before[n])}
            reached.append(max(changed))
            missing = {*range(reached[-1])} - changed
            assert all(all(p.std() == 0 for p in layers[i].parameters()) for i in missing)
    assert reached == sorted(reached)
    assert (reached[0], reached[-1]) == (0, len(layers) - 1)


@pytest.mark.parametrize("layers", [1, 2, 3, 8, 9, 26])
@pytest.mark.parametrize("steps", [1, 2, 3, 8, 30])
def test_the_groups_are_even_and_begin_with_the_logits(layers: int, steps: int) -> None:
    net = nn.Sequential(*(nn.Linear(1, 1) for _ in range(layers)))
    groups = parameter_groups(net, steps)
    assert len(groups) == min(steps, layers)
    found = [id(p) for group in groups for p in group]
    assert [id(p) for p in groups[0]] == [id(p) for p in net[-1].parameters()]
    expected = [id(p) for layer in reversed(net) for p in layer.parameters()]
    assert found == (expected if steps > 1 else expected[:2]), "a single step is the logits"
    sizes = [len(group) for group in groups[1:]]
    assert not sizes or max(sizes) - min(sizes) <= 2, "a layer has two parameters"
