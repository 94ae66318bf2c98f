"""The gradient of a few classes through a pooled class map equals that of autograd."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from camcli.capture.pooled import pooled_gradient

N, C, K = 3, 6, 40

Score = Callable[[Tensor], Tensor]
SCORES: dict[str, Score] = {
    "best class": lambda z: z.amax(1),
    "one class": lambda z: z[:, 7],
    "contrast of two": lambda z: z[:, [3, 5]] @ torch.tensor([1.0, -2.0], dtype=z.dtype),
    "another class for each": lambda z: z.gather(1, torch.arange(len(z))[:, None])[:, 0],
    "a power": lambda z: z[:, 1].square(),
    "nothing": lambda z: z[:, 0] * 0,
}


class Pool(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((-1, -2))


POOLED: dict[str, Callable[[], nn.Module]] = {
    "ReLU": lambda: nn.Sequential(nn.Conv2d(C, K, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1)),
    "in place": lambda: nn.Sequential(nn.Conv2d(C, K, 1), nn.ReLU(True), Pool()),
    "no ReLU": lambda: nn.Sequential(nn.Dropout(), nn.Conv2d(C, K, 1, bias=False), Pool()),
}
OTHERS: dict[str, Callable[[], nn.Module]] = {
    "a layer before": lambda: nn.Sequential(nn.Sigmoid(), nn.Conv2d(C, K, 1), Pool()),
    "linear": lambda: nn.Sequential(Pool(), nn.Linear(C, K)),
    "3x3": lambda: nn.Sequential(nn.Conv2d(C, K, 3), Pool()),
    "strided": lambda: nn.Sequential(nn.Conv2d(C, K, 1, stride=2), Pool()),
    "padded": lambda: nn.Sequential(nn.Conv2d(C, K, 1, padding=1), Pool()),
    "grouped": lambda: nn.Sequential(nn.Conv2d(C, 2 * K, 1, groups=2), Pool()),
    "transposed": lambda: nn.Sequential(nn.ConvTranspose2d(C, K, 1), Pool()),
    "another function": lambda: nn.Sequential(nn.Conv2d(C, K, 1), nn.Tanh(), Pool()),
    "maximum": lambda: nn.Sequential(nn.Conv2d(C, K, 1), nn.AdaptiveMaxPool2d(1)),
}


def graph(make: Callable[[], nn.Module], score: Score, channels_last: bool) -> tuple[Tensor, ...]:
    """Return the scores (N,) of a head, and the map (N,C,5,4) that it takes."""
    torch.manual_seed(0)
    head = make().double().eval().requires_grad_(False)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    acts = torch.randn(N, C, 5, 4, dtype=torch.double).to(memory_format=layout).requires_grad_()
    return score(head(acts.clone()).flatten(1)), acts


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("head", POOLED)
def test_a_pooled_map_has_the_gradient_of_autograd(
    head: str, score: str, channels_last: bool
) -> None:
    scores, acts = graph(POOLED[head], SCORES[score], channels_last)
    (expected,) = torch.autograd.grad(scores.sum(), acts, retain_graph=True)
    found = pooled_gradient(scores, acts)
    assert found is not None
    torch.testing.assert_close(found, expected)
    assert found.is_contiguous(
        memory_format=torch.channels_last if channels_last else torch.contiguous_format
    )


@pytest.mark.parametrize("head", OTHERS)
def test_other_heads_are_left_to_autograd(head: str) -> None:
    assert pooled_gradient(*graph(OTHERS[head], SCORES["one class"], True)) is None


@pytest.mark.parametrize("score", ["mean", "branch", "no graph"])
def test_other_scores_are_left_to_autograd(score: str) -> None:
    scores, acts = graph(POOLED["ReLU"], lambda z: z.mean(1), True)
    if score == "branch":
        scores = graph(POOLED["ReLU"], SCORES["one class"], True)[0] + acts.amax((1, 2, 3))
    if score == "no graph":
        scores = scores.detach()
    assert pooled_gradient(scores, acts) is None


def test_a_map_inside_a_graph_has_the_gradient_of_autograd() -> None:
    torch.manual_seed(0)
    trunk, head = nn.Conv2d(3, C, 3), nn.Sequential(nn.Conv2d(C, K, 1), nn.ReLU(), Pool())
    image = torch.randn(N, 3, 6, 6, requires_grad=True)
    acts = trunk(image)
    scores = head.requires_grad_(False)(acts.clone())[:, 2]
    (expected,) = torch.autograd.grad(scores.sum(), acts, retain_graph=True)
    found = pooled_gradient(scores, acts)
    assert found is not None
    torch.testing.assert_close(found, expected)


def test_a_map_that_is_not_finite_stays_so() -> None:
    head = nn.Sequential(nn.Conv2d(C, K, 1), nn.ReLU(), Pool()).double().requires_grad_(False)
    acts = torch.full((1, C, 2, 2), torch.nan, dtype=torch.double, requires_grad=True)
    score = head(acts)[:, 3].log()
    (expected,) = torch.autograd.grad(score.sum(), acts, retain_graph=True)
    found = pooled_gradient(score, acts)
    assert found is not None
    torch.testing.assert_close(found, expected, equal_nan=True)


def test_reading_the_graph_imports_no_sympy() -> None:
    code = (
        "import sys, torch, torchvision; before = 'sympy' in sys.modules;"  # as of torch 2.6
        "from camcli import explain, load;"
        "explain(load('squeezenet1_1', 'none'), torch.rand(1, 3, 64, 64));"
        "sys.exit(('sympy' in sys.modules) > before)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
