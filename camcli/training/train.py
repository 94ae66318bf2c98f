"""The training loop.

The randomness of an epoch depends only on the seed and the epoch's number, and a checkpoint holds
the whole state between two epochs. A resumed run therefore equals an uninterrupted one bit for bit.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import torch
from torch import nn

from camcli.capture.targets import logits
from camcli.errors import TrainingError
from camcli.images.preprocess import Preset, preprocess
from camcli.models.load import load
from camcli.models.model import Model
from camcli.runs.files import prepare
from camcli.training.batches import batch_indices, batches
from camcli.training.card import add_test_accuracy, write_model
from camcli.training.checkpoint import load_checkpoint, save_checkpoint
from camcli.training.data import Dataset, Splits
from camcli.training.recipe import Recipe
from camcli.training.state import EpochRecord, TrainingState, initial_state
from camcli.training.step import train_step

Progress: TypeAlias = Callable[[int, int, int], None]
"""A callback that takes the epoch, the number of batches done and the number in the epoch."""


def train(
    recipe: Recipe,
    data: Splits,
    output: Path,
    *,
    device: torch.device,
    teacher: Model | None = None,
    progress: Progress = lambda *_: None,
) -> Iterator[EpochRecord]:
    """Train a network and yield a record after each epoch and one at the end.

    After each epoch `output` is a usable model folder. It holds the best epoch so far at the
    current input size. If `output` has a checkpoint of the same recipe and data, the run resumes
    from it. The last record holds the accuracy of the written model on `data.test`.
    Raises TrainingError, ModelError or OutputError.
    """
    _check_data(data)
    prepare(output)
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


def _check_data(data: Splits) -> None:
    if len(data.classes) < 2:
        raise TrainingError(f"only one class, '{data.classes[0]}': expected two folders or more")
    if not any(map(len, data.val)):
        raise TrainingError("no images to validate on: give --val a larger share, or a folder")
    if not any(map(len, data.train)):
        raise TrainingError("no images left to train on: give --val a smaller share")


def _train_epoch(state: TrainingState, progress: Progress) -> EpochRecord:
    """Train for one epoch, evaluate the average and return the epoch's record."""
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
            for name, value in train_step(state, batch, fraction).items():
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
