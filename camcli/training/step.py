"""One training step: the learning rate, the loss, the optimiser and the moving average."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from camcli.capture.targets import logits
from camcli.errors import TrainingError
from camcli.training.batches import Batch
from camcli.training.state import TrainingState
from camcli.training.temporary_norm import anneal_relus


def train_step(state: TrainingState, batch: Batch, fraction: float) -> dict[str, float]:
    """Update the weights once, at a `fraction` of the whole run, and return the loss and its terms.

    Raises TrainingError if the loss is not finite.
    """
    recipe = state.recipe
    for group in state.optimizer.param_groups:
        group["lr"] = recipe.lr * one_cycle(fraction)
    anneal_relus(state.module, fraction)
    values = _loss(state, batch)
    loss = values["loss"]
    state.optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    state.optimizer.step()
    state.step += 1
    # The average follows quickly at first, so that it does not keep the initial weights.
    decay = min(recipe.ema, (1 + state.step) / (10 + state.step))
    _update_average(state.average, state.module, decay)
    if not math.isfinite(loss.item()):
        raise TrainingError(
            f"the loss is {loss.item()}: expected a finite one; lower --lr or use --precision fp32"
        )
    return {name: value.item() for name, value in values.items()}


def cross_entropy(scores: Tensor, labels: Tensor, candidates: Tensor, smoothing: float) -> Tensor:
    """Return the mean cross-entropy of scores (N,K) over each image's candidate classes.

    The mask `candidates` (N,K) includes the label. `smoothing` distributes that share of each label
    evenly over the candidates.
    """
    logs = scores.masked_fill(~candidates, -math.inf).log_softmax(1)
    of_label = logs.gather(1, labels[:, None])[:, 0]
    mean = logs.masked_fill(~candidates, 0).sum(1) / candidates.sum(1)
    return -((1 - smoothing) * of_label + smoothing * mean).mean()


def one_cycle(fraction: float, warm_up: float = 0.15) -> float:
    """Return the learning rate at a fraction of the run, as a share of its maximum.

    It rises linearly until `warm_up` and then falls to 0 along a cosine.
    """
    if fraction < warm_up:
        return max(0.02, fraction / warm_up)
    return 0.5 * (1 + math.cos(math.pi * (fraction - warm_up) / (1 - warm_up)))


def _loss(state: TrainingState, batch: Batch) -> dict[str, Tensor]:
    """Return the loss, its terms and the accuracy on a batch."""
    recipe = state.recipe
    with torch.autocast(state.device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
        scores, terms = _forward(state, batch)
    terms["ce"] = cross_entropy(scores, batch.labels, batch.candidates, recipe.smoothing)
    weights = {"ce": 1.0, "explanation": recipe.alpha, "kd": recipe.kd_weight}
    loss = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
    accuracy = (scores.argmax(1) == batch.labels).float().mean()
    return {"loss": loss, **terms, "accuracy": accuracy}


def _forward(state: TrainingState, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    if state.distillation is None:
        return logits(state.module(batch.images)).float(), {}
    return state.distillation.terms(state.module, batch.images, batch.labels)


@torch.no_grad()
def _update_average(average: nn.Module, module: nn.Module, decay: float) -> None:
    """Move the average's weights and running statistics towards the network's."""
    pairs = zip(average.state_dict().values(), module.state_dict().values(), strict=True)
    for mean, value in pairs:
        if mean.is_floating_point():
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)
