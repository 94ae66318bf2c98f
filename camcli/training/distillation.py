"""Losses with which a student learns from the explanations and the scores of its teacher."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from camcli.capture.hooks import borrowed, gradient, tapped
from camcli.capture.targets import logits
from camcli.engine.survey import layouts_at
from camcli.methods.registry import METHODS, Method
from camcli.models.precision import at_least_float32

TRAINABLE_METHODS: Mapping[str, Method] = {
    name: method for name, method in METHODS.items() if method.trainable
}
"""The methods whose maps a loss can be applied to."""


@dataclass(frozen=True)
class Distillation:
    """A teacher, and how the student is compared with it.

    The explanation loss compares maps of `method` at `layer` of the teacher and `student_layer` of
    the student. The soft-target loss has the temperature `kd_temperature`.
    """

    teacher: nn.Module
    layer: str
    student_layer: str
    method: Method
    kd_temperature: float = 4.0

    def terms(
        self, module: nn.Module, images: Tensor, labels: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the student's scores (N,K) and the loss terms `explanation` and `kd`."""
        scores, maps = scores_and_maps(
            module, images, labels, self.student_layer, self.method, differentiable=True
        )
        with borrowed(self.teacher):
            teacher_scores, teacher_maps = scores_and_maps(
                self.teacher, images, labels, self.layer, self.method, differentiable=False
            )
        return scores, {
            "explanation": explanation_loss(maps, teacher_maps.detach()),
            "kd": soft_target_loss(scores, teacher_scores.detach(), self.kd_temperature),
        }


def scores_and_maps(
    module: nn.Module,
    images: Tensor,
    labels: Tensor,
    layer: str,
    method: Method,
    *,
    differentiable: bool,
) -> tuple[Tensor, Tensor]:
    """Return scores (N,K) and maps (N,h,w) of the classes `labels` (N,), in float32 at least.

    With `differentiable`, the maps can be trained on through the activations and their gradients.
    """
    layout = layouts_at(module, [layer], (images,))[layer]
    with tapped(module, layer, layout) as tap:
        scores = logits(module(images))
    assert tap.acts is not None
    label_scores = scores.gather(1, labels[:, None])[:, 0]
    grads = gradient(label_scores, tap.acts, f"layer '{layer}'", differentiable=differentiable)
    return scores, method.function(acts=at_least_float32(tap.acts), grads=at_least_float32(grads))


def explanation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean over images of `||L_student - L_teacher||^2` (arXiv:1710.11063, eq. 20).

    The value is between 0 and 2. The paper leaves size and scale open. Here the teacher's maps
    (N,h',w') are resized to the student's (N,h,w), bilinearly with antialiasing, and each map is
    divided by its Euclidean norm. Factors without meaning cancel, such as Grad-CAM++'s exp(S), and
    only the positions that the two networks attend to are compared. An all-zero map stays zero.
    """
    if teacher.shape[1:] != student.shape[1:]:
        size = student.shape[1:]
        teacher = F.interpolate(
            teacher[:, None], size=size, mode="bilinear", align_corners=False, antialias=True
        )[:, 0]
    return (_normalised(student) - _normalised(teacher)).square().sum((1, 2)).mean()


def soft_target_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return `T^2 KL(teacher || student)` of scores (N,K) (arXiv:1503.02531, sec. 2)."""
    logs = [(scores / temperature).log_softmax(1) for scores in (student, teacher)]
    return temperature**2 * F.kl_div(logs[0], logs[1], reduction="batchmean", log_target=True)


def _normalised(maps: Tensor) -> Tensor:
    """Divide each map (N,h,w) by its norm. All-zero maps stay zero and have a zero gradient."""
    tiny = torch.finfo(maps.dtype).tiny
    square = maps.square().sum((1, 2), keepdim=True)
    return maps * torch.where(square > tiny, square, 1).rsqrt()
