"""The training loop and its step.

The randomness of an epoch depends only on the seed and the epoch's number, and a checkpoint holds
the whole state between two epochs. A resumed run therefore equals an uninterrupted one bit for bit.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from camcli.capture.targets import logits
from camcli.errors import TrainingError
from camcli.images.preprocess import Preset, preprocess
from camcli.models.load import load
from camcli.models.model import Model
from camcli.models.sources import true_name
from camcli.runs.files import prepare
from camcli.training.batches import Batch, batch_indices, batches
from camcli.training.data import Dataset, Splits
from camcli.training.output import (
    add_test_accuracy,
    load_checkpoint,
    save_checkpoint,
    write_model,
)
from camcli.training.recipe import Recipe
from camcli.training.state import EpochRecord, TrainingState, initial_state
from camcli.training.temporary_norm import anneal_relus


def train(
    recipe: Recipe,
    data: Splits,
    output: Path,
    *,
    device: torch.device,
    teacher: Model | None = None,
    progress: Callable[[int, int, int], None] = lambda *_: None,
) -> Iterator[EpochRecord]:
    """Train a network and yield a record after each epoch and one at the end.

    After each epoch `output` is a usable model folder. It holds the best epoch so far at the
    current input size. If `output` has a checkpoint of the same recipe and data, the run resumes
    from it. The last record holds the accuracy of the written model on `data.test`. `progress` is
    called with the epoch, the number of batches done and the number in the epoch.
    Raises TrainingError, ModelError or OutputError.
    """
    _check_splits(data)
    prepare(output)
    recipe = replace(recipe, model=true_name(recipe.model))
    state = initial_state(recipe, data, device, teacher)
    load_checkpoint(state, output)
    while state.epoch < recipe.epochs:
        record = _train_epoch(state, progress)
        state.records.append(record)
        if _is_best(state.records):
            write_model(state, output)
        save_checkpoint(state, output)
        yield record
    yield _final_record(state, output)


def accuracy(
    module: nn.Module, source: Dataset, preset: Preset, device: torch.device, batch_size: int = 64
) -> float:
    """Return the share of images classified correctly when preprocessed as in `explain`."""
    correct = 0
    with torch.no_grad():
        for start in range(0, len(source), batch_size):
            pixels = source.pixels[start : start + batch_size]
            images = torch.stack([preprocess(image, preset)[0] for image in pixels]).to(device)
            scores = logits(module(images.contiguous(memory_format=torch.channels_last)))
            labels = source.labels[start : start + batch_size]
            correct += int((scores.argmax(1).cpu().numpy() == labels).sum())
    return correct / len(source)


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


def _check_splits(data: Splits) -> None:
    if len(data.classes) < 2:
        raise TrainingError(f"only one class, '{data.classes[0]}': expected two folders or more")
    if not any(map(len, data.val)):
        raise TrainingError("no images to validate on: give --val a larger share, or a folder")
    if not any(map(len, data.train)):
        raise TrainingError("no images left to train on: give --val a smaller share")


def _train_epoch(state: TrainingState, progress: Callable[[int, int, int], None]) -> EpochRecord:
    recipe, sources, epoch, start = state.recipe, state.data.train, state.epoch, time.monotonic()
    sums: dict[str, float] = defaultdict(float)
    count = 0
    state.module.train()
    with torch.random.fork_rng(devices=[state.device] if state.device.type == "cuda" else []):
        torch.manual_seed(recipe.seed * 1_000_003 + epoch)
        indices = batch_indices(recipe, sources, epoch)
        steps = len(indices)
        for step, batch in enumerate(batches(recipe, sources, epoch, indices, state.device)):
            fraction = (epoch + step / steps) / recipe.epochs
            for name, value in _train_step(state, batch, fraction).items():
                sums[name] += value * len(batch.labels)
            count += len(batch.labels)
            progress(epoch, step + 1, steps)
    state.epoch += 1
    val = _accuracies(state.average, state.data.val, state.preset, state.device)
    return {
        "epoch": state.epoch,
        "size": recipe.size_at(epoch),
        **{name: round(total / count, 5) for name, total in sums.items()},
        "val": val,
        "val_accuracy": round(sum(val.values()) / len(val), 4),
        "seconds": round(time.monotonic() - start, 1),
    }


def _train_step(state: TrainingState, batch: Batch, fraction: float) -> dict[str, float]:
    """Update the weights once, at a `fraction` of the run, and return the loss and its terms."""
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


def _loss(state: TrainingState, batch: Batch) -> dict[str, Tensor]:
    """Return the loss, its terms and the accuracy on a batch."""
    recipe = state.recipe
    terms: dict[str, Tensor] = {}
    with torch.autocast(state.device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
        if state.distillation:
            scores, terms = state.distillation.terms(state.module, batch.images, batch.labels)
        else:
            scores = logits(state.module(batch.images)).float()
    terms["ce"] = cross_entropy(scores, batch.labels, batch.candidates, recipe.smoothing)
    weights = {"ce": 1.0, "explanation": recipe.alpha, "kd": recipe.kd_weight}
    loss = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
    correct = (scores.argmax(1) == batch.labels).float()
    return {"loss": loss, **terms, "accuracy": correct.mean()}


@torch.no_grad()
def _update_average(average: nn.Module, module: nn.Module, decay: float) -> None:
    pairs = zip(average.state_dict().values(), module.state_dict().values(), strict=True)
    for mean, value in pairs:
        if mean.is_floating_point():
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)


def _accuracies(
    module: nn.Module, sources: Sequence[Dataset], preset: Preset, device: torch.device
) -> dict[str, float]:
    return {
        source.name: round(accuracy(module, source, preset, device), 4)
        for source in sources
        if len(source)
    }


def _is_best(records: Sequence[EpochRecord]) -> bool:
    """Return whether the latest epoch is the best at its input size."""
    latest = records[-1]
    same_size = [record["val_accuracy"] for record in records if record["size"] == latest["size"]]
    return bool(latest["val_accuracy"] >= max(same_size))


def _final_record(state: TrainingState, output: Path) -> EpochRecord:
    """Evaluate the written folder on the test sources, loaded as a user would load it."""
    model = load(state.recipe.model, output, device=state.device)
    test = _accuracies(model.module, state.data.test, model.preset, state.device)
    card = add_test_accuracy(output, test)
    return {"finished": state.epoch, "best_epoch": card["epoch"], **card["accuracy"]}
