"""Losses that let a student learn from a teacher: its explanations and its soft scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from camcli.capture.hooks import borrowed, gradient, tapped
from camcli.capture.targets import logits
from camcli.methods.registry import METHODS, Method
from camcli.models.families import layout_of
from camcli.models.precision import at_least_float32

EXPLAINERS: Mapping[str, Method] = {
    name: method for name, method in METHODS.items() if method.trainable
}
"""The methods that can be trained on."""


@dataclass(frozen=True)
class Distillation:
    """A teacher, and how much of what is learnt from it.

    `alpha` weighs the difference of the explanations by `method`, at layer `layer` of the teacher
    and `student_layer` of the student; `kd_weight` the soft scores at temperature `kd_temperature`.
    """

    teacher: nn.Module
    layer: str
    student_layer: str
    method: Method
    alpha: float = 0.01
    kd_weight: float = 0.0
    kd_temperature: float = 4.0

    def terms(self, module: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The student's `scores` (N,K), and with their graph the terms `explanation` and `kd`."""
        scores, student = explained(
            module, images, labels, self.student_layer, self.method, differentiable=True
        )
        with borrowed(self.teacher):
            soft, teacher = explained(
                self.teacher, images, labels, self.layer, self.method, differentiable=False
            )
        return {
            "scores": scores,
            "explanation": explanation_distance(student, teacher.detach()),
            "kd": soft_distance(scores, soft.detach(), self.kd_temperature),
        }


def explained(
    module: nn.Module,
    images: Tensor,
    labels: Tensor,
    layer: str,
    method: Method,
    *,
    differentiable: bool,
) -> tuple[Tensor, Tensor]:
    """Scores (N,K) and maps (N,h,w) for the classes `labels` (N,), in float32 at least.

    With `differentiable` the maps can be trained on, through the activations and their gradients.
    """
    with tapped(module, layer, layout_of(module, layer)) as tap:
        scores = logits(module(images))
    assert tap.acts is not None
    of_class = scores.gather(1, labels[:, None])[:, 0]
    grads = gradient(of_class, tap.acts, f"layer '{layer}'", differentiable=differentiable)
    return scores, method.function(acts=at_least_float32(tap.acts), grads=at_least_float32(grads))


def explanation_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over images of `||L_student - L_teacher||^2` (arXiv:1710.11063, eq. 20), 0 to 2.

    The paper leaves size and scale open. Here the teacher's map (N,h',w') is brought to the
    student's size (N,h,w) by averaging or bilinearly, and each map is divided by its Euclidean
    norm: so the factors in which maps differ without meaning cancel, such as Grad-CAM++'s exp(S),
    and only where the two networks look is compared. A map that is zero everywhere stays zero.
    """
    if teacher.shape[1:] != student.shape[1:]:
        size = student.shape[1:]
        teacher = F.interpolate(
            teacher[:, None], size=size, mode="bilinear", align_corners=False, antialias=True
        )[:, 0]
    return (_unit(student) - _unit(teacher)).square().sum((1, 2)).mean()


def soft_distance(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Hinton's term `T^2 KL(teacher || student)` of scores (N,K) (arXiv:1503.02531, sec. 2)."""
    logs = [(scores / temperature).log_softmax(1) for scores in (student, teacher)]
    return temperature**2 * F.kl_div(logs[0], logs[1], reduction="batchmean", log_target=True)


def _unit(maps: Tensor) -> Tensor:
    """Each map (N,h,w) divided by its norm; all-zero ones stay so, with a zero gradient."""
    tiny = torch.finfo(maps.dtype).tiny
    square = maps.square().sum((1, 2), keepdim=True)
    return maps * torch.where(square > tiny, square, 1).rsqrt()
