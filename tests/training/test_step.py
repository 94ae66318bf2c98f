"""The loss over candidate classes, and the learning-rate schedule."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from camcli.training.train import cross_entropy, one_cycle


def test_cross_entropy_over_candidate_classes() -> None:
    scores = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    labels, candidates = torch.tensor([0, 2, 1, 2]), torch.ones(4, 3, dtype=torch.bool)
    expected = nn.functional.cross_entropy(scores, labels, label_smoothing=0.1)
    torch.testing.assert_close(cross_entropy(scores, labels, candidates, 0.1), expected)
    candidates[1, 0] = False
    expected = nn.functional.cross_entropy(scores[1:2, 1:], labels[1:2] - 1, label_smoothing=0.1)
    found = cross_entropy(scores[1:2], labels[1:2], candidates[1:2], 0.1)
    torch.testing.assert_close(found, expected)
    (gradient,) = torch.autograd.grad(found, scores)
    assert gradient.isfinite().all()
    assert gradient[1, 0] == 0, "an excluded class has a gradient"


def test_learning_rate_rises_and_falls_once() -> None:
    rates = [one_cycle(step / 1000) for step in range(1001)]
    assert max(rates) == pytest.approx(1)
    assert rates.index(max(rates)) == 150
    assert rates[0] == pytest.approx(0.02)
    assert rates[-1] == pytest.approx(0, abs=1e-12)
