"""Training and distilling small classifiers: `train` runs a recipe, epoch by epoch.

All randomness of an epoch follows from the seed and the epoch's number, and a checkpoint holds all
that one epoch hands to the next: an interrupted run that goes on equals one that never stopped,
bit for bit. What is written after an epoch can be used: `camcli explain --model DIR`.
"""

from __future__ import annotations

import copy
import io
import json
import math
import pickle
import platform
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from camcli import __version__
from camcli.capture.targets import logits
from camcli.engine.explain import surveyed
from camcli.errors import TrainingError, one_line
from camcli.images.preprocess import Preset, preprocess
from camcli.models.folder import CARD, LABELS, WEIGHTS
from camcli.models.load import load, load_for_training
from camcli.models.model import Model
from camcli.models.options import ModelOptions
from camcli.models.torchvision import version as torchvision_version
from camcli.runs.files import prepare, to_json, write
from camcli.training import augment
from camcli.training.data import Dataset, draw, shares, telling
from camcli.training.distillation import EXPLAINERS, Distillation
from camcli.training.recipe import Data, Recipe
from camcli.training.temporary_norm import folded, rectify, with_aids

CHECKPOINT, METRICS = "checkpoint.pt", "metrics.jsonl"


Row = dict[str, Any]
"""What an epoch came to, as it is printed and kept in metrics.jsonl."""


Progress = Callable[[int, int, int], None]
"""Told the epoch, the batches done and the batches in the epoch."""


@dataclass
class Run:
    """A run between two epochs: the network, the average of its weights, and what was measured.

    `start` and `teacher` name the weights begun with and taught by, with their hash, by which a
    resumed run knows them.
    """

    recipe: Recipe
    data: Data
    module: nn.Module
    average: nn.Module
    optimizer: torch.optim.Optimizer
    device: torch.device
    start: str
    distillation: Distillation | None = None
    teacher: str | None = None
    epoch: int = 0
    step: int = 0
    rows: list[Row] = field(default_factory=list)

    @property
    def preset(self) -> Preset:
        """The preprocessing that goes with the latest epoch's size."""
        size = self.recipe.size(max(0, self.epoch - 1))
        return Preset(resize=size, crop=size)


def train(
    recipe: Recipe,
    data: Data,
    output: Path,
    *,
    device: torch.device,
    teacher: Model | None = None,
    progress: Progress = lambda *_: None,
) -> Iterator[Row]:
    """Train, writing into `output` after each epoch; yields a row each epoch, and one at the end.

    Goes on from the checkpoint in `output`, where there is one of the same recipe and data. The
    last row holds the accuracy of what was written on `data.test`. Raises TrainingError.
    """
    _check(data)
    prepare(output)
    run = _prepared(recipe, data, device, teacher)
    _resume(run, output / CHECKPOINT)
    while run.epoch < recipe.epochs:
        row = _one_epoch(run, progress)
        run.rows.append(row)
        if _is_best(run.rows):
            _write_model(run, output)
        _save(run, output)
        yield row
    yield _finished(run, output)


def accuracy(
    module: nn.Module, source: Dataset, preset: Preset, device: torch.device, batch_size: int = 64
) -> float:
    """The share of a source's images whose class scores highest, preprocessed as in `explain`."""
    right = 0
    with torch.no_grad():
        for start in range(0, len(source), batch_size):
            some = source.pixels[start : start + batch_size]
            batch = torch.stack([preprocess(pixels, preset)[0] for pixels in some]).to(device)
            found = logits(module(batch.contiguous(memory_format=torch.channels_last))).argmax(1)
            right += int((found.cpu().numpy() == source.labels[start : start + batch_size]).sum())
    return right / len(source)


def _check(data: Data) -> None:
    if len(data.classes) < 2:
        raise TrainingError(f"only one class, '{data.classes[0]}': expected two folders or more")
    if not any(len(source) for source in data.val):
        raise TrainingError("no images to validate on: give --val a larger share, or a folder")
    if not any(len(source) for source in data.train):
        raise TrainingError("no images left to train on: give --val a smaller share")


def _prepared(recipe: Recipe, data: Data, device: torch.device, teacher: Model | None) -> Run:
    student, start = _student(recipe, data.classes)
    for phase in recipe.phases:
        _check_size(student, phase.size)
    distillation = _distillation(recipe, student, teacher, data.classes, device)
    module = with_aids(student.module, _sample(recipe, data) if start != "none" else None)
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.p = recipe.dropout
    module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy.deepcopy(module).eval().requires_grad_(False)
    matrices = [p for p in module.parameters() if p.ndim > 1]
    vectors = [p for p in module.parameters() if p.ndim <= 1]
    groups: list[dict[str, Any]] = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=recipe.lr, weight_decay=recipe.weight_decay)
    known = _known(teacher) if teacher else None
    return Run(recipe, data, module, average, optimizer, device, start, distillation, known)


def _student(recipe: Recipe, classes: Sequence[str]) -> tuple[Model, str]:
    """The network to train, and what its weights are called."""
    options = ModelOptions(recipe.model, recipe.weights, seed=recipe.seed)
    model = load_for_training(options, classes)
    if recipe.weights == "none":
        return model, "none"
    _check_colours(model)
    return model, _known(model)


def _sample(recipe: Recipe, data: Data, count: int = 256) -> Tensor:
    """Some of the images to train on, (N,3,S,S), evenly taken and preprocessed as in `explain`."""
    size = recipe.phases[0].size
    pixels = [image for source in data.train for image in source.pixels]
    some = pixels[:: -(-len(pixels) // count)]
    return torch.stack([preprocess(image, Preset(size, size))[0] for image in some])


def _known(model: Model) -> str:
    return f"{model.name} {model.weights_hash or model.weights}"


def _check_colours(model: Model) -> None:
    if (model.preset.mean, model.preset.std) != (Preset.mean, Preset.std):
        raise TrainingError(f"{model.name} takes its colours on another scale than ours")


def _check_size(student: Model, size: int) -> None:
    """See that a network takes images of this size at all."""
    student.module.eval()
    try:
        with torch.no_grad():
            logits(student.module(torch.zeros(1, 3, size, size)))
    except (RuntimeError, ValueError, AssertionError) as error:
        reason = one_line(error)
        raise TrainingError(
            f"{student.name} does not take images of {size} pixels ({reason})"
        ) from None


def _distillation(
    recipe: Recipe,
    student: Model,
    teacher: Model | None,
    classes: Sequence[str],
    device: torch.device,
) -> Distillation | None:
    if teacher is None:
        return None
    if teacher.num_classes != len(classes) or (teacher.class_names or classes) != classes:
        theirs = ", ".join((teacher.class_names or ())[:3])
        raise TrainingError(
            f"teacher {teacher.name} has {teacher.num_classes} classes ({theirs}, ...), the data "
            f"{len(classes)} ({', '.join(classes[:3])}, ...): expected the same ones"
        )
    _check_colours(teacher)
    size = recipe.phases[-1].size
    example = (torch.zeros(1, 3, size, size),)
    here, there = (surveyed(m, tuple(x.to(m.device) for x in example)) for m in (student, teacher))
    assert here.layer is not None
    assert there.layer is not None
    return Distillation(
        teacher=teacher.module.to(device),
        layer=there.layer,
        student_layer=here.layer,
        method=EXPLAINERS[recipe.explain_method],
        alpha=recipe.alpha,
        kd_weight=recipe.kd_weight,
        kd_temperature=recipe.kd_temperature,
    )


def _one_epoch(run: Run, progress: Progress) -> Row:
    """Train for an epoch and measure: the row to report."""
    recipe, began = run.recipe, time.monotonic()
    size = recipe.size(run.epoch)
    sums: dict[str, float] = defaultdict(float)
    seen = 0
    run.module.train()
    with torch.random.fork_rng(devices=[run.device] if run.device.type == "cuda" else []):
        torch.manual_seed(recipe.seed * 1_000_003 + run.epoch)
        order = _order(run)
        steps = max(1, len(order) // recipe.batch_size)
        for step, (batch, labels, rivals) in enumerate(_batches(run, order, steps, size)):
            fraction = (run.epoch + step / steps) / recipe.epochs
            for name, value in _step(run, batch, labels, rivals, fraction).items():
                sums[name] += value * len(labels)
            seen += len(labels)
            progress(run.epoch, step + 1, steps)
    run.epoch += 1
    by_source = {
        source.name: round(accuracy(run.average, source, run.preset, run.device), 4)
        for source in run.data.val
        if len(source)
    }
    return {
        "epoch": run.epoch,
        "size": size,
        **{name: round(total / seen, 5) for name, total in sums.items()},
        "val": by_source,
        "val_accuracy": round(sum(by_source.values()) / len(by_source), 4),
        "seconds": round(time.monotonic() - began, 1),
    }


def _order(run: Run) -> Any:
    rng = np.random.default_rng([run.recipe.seed, run.epoch])
    count = sum(map(len, run.data.train))
    return draw(shares(run.data.train, run.recipe.balance), count, rng)


def _batches(run: Run, order: Any, steps: int, size: int) -> Iterator[tuple[Tensor, ...]]:
    """Batches made by a thread ahead of their use.

    Each is images (N,3,S,S), normalised, their labels (N,), and the classes (N,K) that a label
    speaks for or against.
    """
    pixels = [image for source in run.data.train for image in source.pixels]
    labels = np.concatenate([source.labels for source in run.data.train])
    of = np.repeat(np.arange(len(run.data.train)), [len(source) for source in run.data.train])
    told, coarse = telling(run.data.train)
    seed, epoch, n = run.recipe.seed, run.epoch, run.recipe.batch_size

    def make(step: int) -> tuple[Any, ...]:
        rng = np.random.default_rng([seed, epoch, step])
        chosen = order[step * n : (step + 1) * n]
        images, fineness = augment.views([pixels[i] for i in chosen], size, rng)
        return images, labels[chosen], told[of[chosen]] | (fineness <= coarse)[:, None]

    mean, std = (
        torch.tensor(values, device=run.device).mul(255)[:, None, None]
        for values in (run.preset.mean, run.preset.std)
    )
    with ThreadPoolExecutor(1) as thread:
        ahead = deque(thread.submit(make, step) for step in range(min(4, steps)))
        for step in range(steps):
            made = (torch.from_numpy(x).to(run.device) for x in ahead.popleft().result())
            images, truth, rivals = made
            if step + 4 < steps:
                ahead.append(thread.submit(make, step + 4))
            batch = images.permute(0, 3, 1, 2).float()
            yield batch.sub_(mean).div_(std), truth, rivals


def _step(
    run: Run, batch: Tensor, labels: Tensor, rivals: Tensor, fraction: float
) -> dict[str, float]:
    """One step of the optimiser, at a `fraction` of the whole run: the terms of the loss."""
    for group in run.optimizer.param_groups:
        group["lr"] = run.recipe.lr * one_cycle(fraction)
    rectify(run.module, fraction)
    with torch.autocast(run.device.type, torch.bfloat16, enabled=run.recipe.precision == "bf16"):
        scores, terms = _forward(run, batch, labels)
    terms["ce"] = cross_entropy(scores, labels, rivals, run.recipe.smoothing)
    weights = {"ce": 1.0, "explanation": run.recipe.alpha, "kd": run.recipe.kd_weight}
    loss = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
    run.optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    run.optimizer.step()
    run.step += 1
    _follow(run.average, run.module, min(run.recipe.ema, (1 + run.step) / (10 + run.step)))
    right = (scores.argmax(1) == labels).float().mean()
    values = {"loss": loss, **terms, "accuracy": right}
    if not math.isfinite(loss.item()):
        raise TrainingError(f"the loss is {loss.item()}: try a lower --lr, or --precision fp32")
    return {name: value.item() for name, value in values.items()}


def _forward(run: Run, batch: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    if run.distillation is None:
        return logits(run.module(batch)).float(), {}
    terms = run.distillation.terms(run.module, batch, labels)
    return terms.pop("scores"), terms


def cross_entropy(scores: Tensor, labels: Tensor, rivals: Tensor, smoothing: float) -> Tensor:
    """Mean cross-entropy of scores (N,K) among each image's `rivals` (N,K), its class included.

    `smoothing` spreads that share of each label evenly over the rivals.
    """
    logs = scores.masked_fill(~rivals, -math.inf).log_softmax(1)
    of_class = logs.gather(1, labels[:, None])[:, 0]
    spread = logs.masked_fill(~rivals, 0).sum(1) / rivals.sum(1)
    return -((1 - smoothing) * of_class + smoothing * spread).mean()


def one_cycle(fraction: float, warm_up: float = 0.15) -> float:
    """The learning rate's share of its maximum at a fraction of the run: up, then a cosine down."""
    if fraction < warm_up:
        return max(0.02, fraction / warm_up)
    return 0.5 * (1 + math.cos(math.pi * (fraction - warm_up) / (1 - warm_up)))


@torch.no_grad()
def _follow(average: nn.Module, module: nn.Module, decay: float) -> None:
    """Move the average's weights and running statistics towards the network's."""
    for mean, value in zip(
        average.state_dict().values(), module.state_dict().values(), strict=True
    ):
        if mean.is_floating_point():
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)


def _is_best(rows: Sequence[Row]) -> bool:
    """Whether the latest row is the best of its size; a new size, a new model, begins anew."""
    latest = rows[-1]
    alike = [row["val_accuracy"] for row in rows if row["size"] == latest["size"]]
    return bool(latest["val_accuracy"] >= max(alike))


def _configuration(run: Run) -> Row:
    """What must be the same for a run to go on. Names only, so that folders may move."""
    return {
        **asdict(run.recipe),
        "weights": run.start,
        "classes": list(run.data.classes),
        "data": {source.name: f"{len(source)} {source.digest}" for source in run.data.train},
        "val": {source.name: f"{len(source)} {source.digest}" for source in run.data.val},
        "teacher": run.teacher,
    }


def _save(run: Run, output: Path) -> None:
    content = {
        "configuration": json.dumps(_configuration(run)),
        "rows": json.dumps(run.rows),
        "step": run.step,
        "module": run.module.state_dict(),
        "average": run.average.state_dict(),
        "optimizer": run.optimizer.state_dict(),
    }
    stream = io.BytesIO()
    torch.save(content, stream)
    write(output / METRICS, b"".join(map(to_json, run.rows)))
    write(output / CHECKPOINT, stream.getvalue())


def _resume(run: Run, file: Path) -> None:
    if not file.exists():
        return
    try:
        content = torch.load(file, map_location=run.device, weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise TrainingError(f"checkpoint '{file}': not readable ({one_line(error)})") from None
    ours = json.loads(json.dumps(_configuration(run)))
    theirs = json.loads(content["configuration"])
    for name in ours.keys() | theirs.keys():
        if ours.get(name) != theirs.get(name):
            raise TrainingError(
                f"'{file.parent}' holds another run ({name} {theirs.get(name)}, now "
                f"{ours.get(name)}): give another --output, or delete its {file.name}"
            )
    run.module.load_state_dict(content["module"])
    run.average.load_state_dict(content["average"])
    run.optimizer.load_state_dict(content["optimizer"])
    run.rows = json.loads(content["rows"])
    run.epoch, run.step = len(run.rows), content["step"]


def _write_model(run: Run, output: Path) -> None:
    """Write the average as a folder that `models.load` takes.

    Matrices are stored in half precision; vectors, among them variances, stay as they are.
    """
    state = folded(run.average, dict(run.average.state_dict()))
    stored = {
        key: (value.half() if value.ndim > 1 else value).cpu().contiguous()
        for key, value in state.items()
    }
    write(output / WEIGHTS, safetensors.torch.save(stored))
    write(output / LABELS, "".join(f"{c}\n" for c in run.data.classes).encode())
    _write_card(output, _card(run))


def _write_card(output: Path, card: Row) -> None:
    write(output / CARD, to_json(card, indent=2))


def _card(run: Run) -> Row:
    row = run.rows[-1]
    return {
        "architecture": run.recipe.model,
        "preprocessing": asdict(run.preset),
        "classes": list(run.data.classes),
        "accuracy": {"validation": row["val"]},
        "epoch": row["epoch"],
        "seed": run.recipe.seed,
        "training": {**asdict(run.recipe), "weights": run.start, "teacher": run.teacher},
        "images": {source.name: len(source) for source in run.data.train},
        "versions": {
            "camcli": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": torchvision_version,
        },
    }


def _finished(run: Run, output: Path) -> Row:
    """Measure what was written on the test sources, through `load` as a user would."""
    model = load(run.recipe.model, output, device=run.device)
    test = {
        source.name: round(accuracy(model.module, source, model.preset, run.device), 4)
        for source in run.data.test
    }
    card = json.loads((output / CARD).read_text(encoding="utf-8"))
    card["accuracy"] = {"validation": card["accuracy"]["validation"], "test": test}
    _write_card(output, card)
    return {"finished": run.epoch, "best_epoch": card["epoch"], **card["accuracy"]}
