"""The losses with a teacher: against slow references, and differentiated to second order."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from camcli.errors import CamcliError
from camcli.methods.registry import Method
from camcli.training.distillation import (
    TRAINABLE_METHODS,
    explanation_loss,
    scores_and_maps,
    soft_target_loss,
)


def test_explanation_loss_against_a_slow_reference() -> None:
    generator = torch.Generator().manual_seed(1)
    a, b = (torch.rand(4, 3, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    slow = []
    for one, other in zip(a.tolist(), b.tolist(), strict=True):
        flat = [list(itertools.chain(*rows)) for rows in (one, other)]
        norms = [sum(v * v for v in values) ** 0.5 for values in flat]
        pairs = zip(*flat, strict=True)
        slow.append(sum((u / norms[0] - v / norms[1]) ** 2 for u, v in pairs))
    assert explanation_loss(a, b).item() == pytest.approx(sum(slow) / 4, rel=1e-12)
    assert explanation_loss(3 * a, a).item() == pytest.approx(0, abs=1e-12)
    assert explanation_loss(torch.zeros_like(a), b).item() == pytest.approx(1)


def test_maps_of_other_sizes_are_compared_at_the_size_of_the_student() -> None:
    student = torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(0))
    teacher = student.repeat_interleave(4, 1).repeat_interleave(4, 2)
    shifted = teacher.roll(4, 1)
    assert explanation_loss(student, teacher) < 0.05 < explanation_loss(student, shifted)


def test_empty_map_has_a_finite_gradient() -> None:
    student = torch.zeros(1, 2, 2, requires_grad=True)
    explanation_loss(student, torch.ones(1, 2, 2)).backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()


def test_soft_target_loss_against_the_formula_of_the_paper() -> None:
    student, teacher = torch.tensor([[2.0, -1.0, 0.5]]), torch.tensor([[1.0, 0.0, 3.0]])
    p, q = (torch.softmax(scores / 4, 1) for scores in (teacher, student))
    expected = 16 * (p * (p / q).log()).sum()
    torch.testing.assert_close(soft_target_loss(student, teacher, 4.0), expected)


@pytest.fixture
def smooth() -> nn.Sequential:
    """A smooth network in float64 with a layer `1` to explain and a nonlinear head."""
    torch.manual_seed(4)
    parts = nn.Conv2d(3, 4, 3), nn.Softplus(), nn.Conv2d(4, 5, 3), nn.Softplus()
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3)).double()


@pytest.mark.parametrize("method", TRAINABLE_METHODS.values(), ids=lambda method: method.name)
def test_gradient_of_explanation_loss_against_finite_differences(
    method: Method, smooth: nn.Sequential
) -> None:
    images, labels = torch.rand(3, 3, 8, 8).double(), torch.tensor([0, 2, 1])
    goal = torch.rand(3, 6, 6).double()

    def loss() -> Tensor:
        _, maps = scores_and_maps(smooth, images, labels, "1", method, differentiable=True)
        return explanation_loss(maps, goal)

    parameters = dict(smooth.named_parameters())
    found = torch.autograd.grad(loss(), list(parameters.values()), allow_unused=True)
    gradients = dict(zip(parameters, found, strict=True))
    # Layers 2 and 6 come after layer 1: the maps depend on their weights only through gradients.
    for name in ("0.weight", "2.weight", "6.weight"):
        gradient = gradients[name].flatten()
        index = int(gradient.abs().argmax())
        assert abs(gradient[index]) > 1e-6, name
        value, step = parameters[name].data.view(-1), 1e-6
        value[index] += step
        above = loss().item()
        value[index] -= 2 * step
        below = loss().item()
        value[index] += step
        assert gradient[index].item() == pytest.approx((above - below) / (2 * step), rel=1e-4), name


def test_hooks_and_gradients_are_removed_after_a_pass(smooth: nn.Sequential) -> None:
    images, labels = torch.rand(1, 3, 8, 8).double(), torch.tensor([0])
    gradcam = TRAINABLE_METHODS["gradcam"]
    scores_and_maps(smooth, images, labels, "1", gradcam, differentiable=True)
    assert not any(part._forward_hooks for part in smooth.modules())
    assert all(parameter.grad is None for parameter in smooth.parameters())
    with pytest.raises(CamcliError, match="not a feature map"):
        scores_and_maps(smooth, images, labels, "5", gradcam, differentiable=True)
    assert not any(part._forward_hooks for part in smooth.modules())
