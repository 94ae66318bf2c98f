"""The files of a run: the model folder that `camcli explain --model` loads, and the checkpoint."""

from __future__ import annotations

import contextlib
import io
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from camcli import __version__
from camcli.errors import TrainingError, one_line
from camcli.images.regular import check_regular
from camcli.models.folder import CARD, LABELS, WEIGHTS
from camcli.models.torchvision import version as torchvision_version
from camcli.runs.files import to_json, write
from camcli.schema import NUMBER, WHOLE, Kind, Record, list_of, parse_json
from camcli.training.data import Dataset
from camcli.training.state import TrainingState
from camcli.training.temporary_norm import fold_temporary_layers

CHECKPOINT, EPOCH_METRICS = "checkpoint.pt", "metrics.jsonl"
_EPOCH = Record(
    "an epoch",
    required={"epoch": WHOLE, "size": WHOLE, "val": Kind("anything"), "val_accuracy": NUMBER},
)


def write_model(state: TrainingState, output: Path) -> None:
    """Write the averaged network as a folder that `models.load` accepts. Raises WriteError.

    Matrices are stored in half precision. Vectors, which include variances, keep theirs.
    """
    weights = fold_temporary_layers(state.average, dict(state.average.state_dict()))
    stored = {
        key: (value.half() if value.ndim > 1 else value).cpu().contiguous()
        for key, value in weights.items()
    }
    write(output / WEIGHTS, safetensors.torch.save(stored))
    write(output / LABELS, "".join(f"{name}\n" for name in state.data.classes).encode())
    write(output / CARD, to_json(_card(state), indent=2))


def add_test_accuracy(output: Path, accuracy: Mapping[str, float]) -> dict[str, Any]:
    """Add the accuracy on each test source to a folder's card and return the card."""
    card: dict[str, Any] = json.loads((output / CARD).read_text(encoding="utf-8"))
    card["accuracy"] = {"validation": card["accuracy"]["validation"], "test": dict(accuracy)}
    write(output / CARD, to_json(card, indent=2))
    return card


def save_checkpoint(state: TrainingState, output: Path) -> None:
    """Write the checkpoint and the records of all epochs. Raises WriteError."""
    content = {
        "configuration": json.dumps(_configuration(state)),
        "rows": json.dumps(state.records),
        "step": state.step,
        "module": state.module.state_dict(),
        "average": state.average.state_dict(),
        "optimizer": state.optimizer.state_dict(),
    }
    stream = io.BytesIO()
    torch.save(content, stream)
    write(output / EPOCH_METRICS, b"".join(map(to_json, state.records)))
    write(output / CHECKPOINT, stream.getvalue())


def load_checkpoint(state: TrainingState, output: Path) -> None:
    """Load the checkpoint of an output folder into `state`, if there is one.

    Raises TrainingError if it is not readable or belongs to a run with another recipe or data.
    """
    file = output / CHECKPOINT
    if not file.is_file():
        return
    with _read_errors(file):
        check_regular(file)
        content = torch.load(file, map_location=state.device, weights_only=True)
        theirs = Record("a configuration").parse(content["configuration"])
        records = parse_json(content["rows"])
        if problem := list_of(_EPOCH).problem(records, "rows"):
            raise ValueError(problem)
    ours = json.loads(json.dumps(_configuration(state)))
    for name in ours.keys() | theirs.keys():
        if ours.get(name) != theirs.get(name):
            raise TrainingError(
                f"'{output}' holds another run ({name} {theirs.get(name)}, now "
                f"{ours.get(name)}): give another --output, or delete its {CHECKPOINT}"
            )
    with _read_errors(file):
        state.module.load_state_dict(content["module"])
        state.average.load_state_dict(content["average"])
        state.optimizer.load_state_dict(content["optimizer"])
        state.records, state.epoch, state.step = records, len(records), int(content["step"])


@contextlib.contextmanager
def _read_errors(file: Path) -> Iterator[None]:
    """Turn an error inside into a TrainingError with the checkpoint's name."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - a damaged pickle can raise any error
        reason = getattr(error, "strerror", None) or one_line(error)
        raise TrainingError(f"checkpoint '{file}': not readable ({reason})") from None


def _card(state: TrainingState) -> dict[str, Any]:
    record, recipe = state.records[-1], state.recipe
    return {
        "architecture": recipe.model,
        "preprocessing": asdict(state.preset),
        "classes": list(state.data.classes),
        "accuracy": {"validation": record["val"]},
        "epoch": record["epoch"],
        "seed": recipe.seed,
        "training": {
            **asdict(recipe),
            "weights": state.initial_weights,
            "teacher": state.teacher,
        },
        "images": {source.name: len(source) for source in state.data.train},
        "versions": {
            "camcli": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": torchvision_version,
        },
    }


def _configuration(state: TrainingState) -> dict[str, Any]:
    """Return everything that must be equal to resume a run. It has no paths: folders may move."""
    return {
        **asdict(state.recipe),
        "weights": state.initial_weights,
        "classes": list(state.data.classes),
        "data": _identities(state.data.train),
        "val": _identities(state.data.val),
        "teacher": state.teacher,
    }


def _identities(sources: Sequence[Dataset]) -> dict[str, str]:
    return {source.name: f"{len(source)} {source.digest}" for source in sources}
