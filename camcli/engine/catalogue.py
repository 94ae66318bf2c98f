"""What there is to explain with: torchvision's networks, and the layers of one.

A pass without numbers tells what a network is, in half a second. For the networks of the
torchvision that camcli was made with it is kept in FACTS, written by `python -m camcli.catalogue`.
"""

from __future__ import annotations

import fnmatch
import itertools
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from camcli.capture.guided import GuidedReLU
from camcli.capture.hooks import borrowed
from camcli.errors import ModelError
from camcli.methods.registry import METHODS
from camcli.models.families import TASKS, family, layout_of, model_names, task_of
from camcli.models.load import Model, hollow, load
from camcli.models.torchvision import models as zoo
from camcli.models.weights import file_of

FACTS = Path(__file__).parents[1] / "assets" / "zoo.json"


@dataclass(frozen=True)
class Facts:
    """What a pass tells of a network: its target layer, and the map (h,w) there.

    These two are None for a family without a row, where only a pass with weights can tell. `input`
    is the side in pixels of what its preset makes, `parameters` their number, `head` whether CAM
    has one to read, `relus` whether a gradient passes any.
    """

    layer: str | None
    map: tuple[int, int] | None
    input: int
    parameters: int
    head: bool
    relus: bool


@dataclass(frozen=True)
class Entry:
    """A network as it comes; `cached` are the published weights that are on this machine."""

    name: str
    family: str
    task: str
    layer: str | None
    map: tuple[int, int] | None
    input: int
    parameters: int
    methods: tuple[str, ...]
    cached: tuple[str, ...]


@dataclass(frozen=True)
class Layer:
    """A layer that gives a map (C,h,w); `auto` is the one that is looked at unless one is named."""

    path: str
    type: str
    map: tuple[int, int, int]
    auto: bool


def first_of_families() -> list[str]:
    """The first network of each family."""
    first: dict[str, str] = {}
    for name in names():
        first.setdefault(family(name), name)
    return list(first.values())


def names(pattern: str = "") -> list[str]:
    """The networks whose names have this in them, or match it as a glob. Raises ModelError."""
    every = model_names(*TASKS)
    found = [n for n in every if pattern in n or fnmatch.fnmatch(n, pattern)]
    if not found:
        raise ModelError(f"no model has '{pattern}' in its name, or matches it")
    return found


def entry(name: str) -> Entry:
    """What is known of a torchvision network; nothing is downloaded, and no weights are made."""
    known, task = _kept().get(name) or facts(name), task_of(name)
    return Entry(
        name=name,
        family=family(name),
        task=task,
        layer=known.layer,
        map=known.map,
        input=known.input,
        parameters=known.parameters,
        methods=tuple(_methods(task, known)),
        cached=tuple(_cached(name)),
    )


def facts(name: str) -> Facts:
    """What a pass on the meta device tells of a torchvision network."""
    model, rule = _hollow(name), GuidedReLU()
    with rule:
        layers = list(_layers(model))
    target = next((layer for layer in layers if layer.auto), None)
    return Facts(
        layer=model.layer,
        map=None if target is None else target.map[1:],
        input=_side(model),
        parameters=sum(p.numel() for p in model.module.parameters()),
        head=model.head is not None,
        relus=rule.relus > 0,
    )


def by_family(entries: Iterable[Entry]) -> str:
    """The families as a Markdown table: one network of each, and which methods it refuses."""
    lines = [
        "| family | for example | target layer | map | all methods but |",
        "|---|---|---|---|---|",
    ]
    for _, (one, *_) in itertools.groupby(entries, lambda entry: (entry.task, entry.family)):
        refused = ", ".join(f"`{name}`" for name in METHODS if name not in one.methods)
        size = "x".join(map(str, one.map or ()))
        cells = (one.family, f"`{one.name}`", f"`{one.layer}`", size, refused)
        lines.append("| " + " | ".join(cells).rstrip() + " |")
    return "\n".join(lines)


def layers(name: str) -> list[Layer]:
    """The layers of a network that can be looked at, in the order in which they run.

    `name` is one that `load` takes. Raises ModelError.
    """
    known = name in model_names(*TASKS)
    return list(_layers(_hollow(name) if known else load(name)))


def _hollow(name: str) -> Model:
    model = hollow(name)
    model.module.to("meta")  # what a constructor has computed as well
    return model


def _layers(model: Model) -> Iterator[Layer]:
    """Runs an empty image of the preset's size through the network."""
    shapes: dict[str, tuple[int, ...]] = {}
    runs: Counter[str] = Counter()
    module = model.module

    def note(path: str) -> Callable[..., None]:
        def hook(_part: nn.Module, _args: Any, output: Any) -> None:
            runs[path] += 1
            layout = layout_of(module, path)
            if isinstance(output, Tensor) and output.ndim == layout.ndim:
                shapes[path] = tuple(layout.to_map(output).shape[1:])

        return hook

    handles = [
        part.register_forward_hook(note(path)) for path, part in module.named_modules() if path
    ]
    try:
        with borrowed(module):
            _run(model)
    finally:
        for handle in handles:
            handle.remove()
    for path, shape in shapes.items():
        channels, height, width = shape
        if runs[path] == 1 and height * width > 1:
            kind = type(module.get_submodule(path)).__name__
            yield Layer(path, kind, (channels, height, width), path == model.layer)


def _run(model: Model) -> None:
    # A gradient tells GuidedReLU which activations lie between image and score.
    image = torch.zeros(1, 3, _side(model), _side(model), device=model.device, requires_grad=True)
    # A detector's boxes depend on values, and its maps on its backbone alone.
    whole = model.module.backbone if model.task == "detection" else model.module
    assert isinstance(whole, nn.Module)
    whole(image)


def _side(model: Model) -> int:
    return model.preset.crop or model.preset.resize


def _methods(task: str, known: Facts) -> Iterator[str]:
    lacking = {
        *([] if known.head else ["pooled"]),
        *([] if known.relus else ["guided"]),
        *(["log_grads"] if task != "classification" else []),
    }
    return (name for name, method in METHODS.items() if not method.needs & lacking)


def _cached(name: str) -> Iterator[str]:
    for weights in zoo.get_model_weights(name):
        if file_of(weights).exists():
            yield weights.name


@cache
def _kept() -> Mapping[str, Facts]:
    rows = json.loads(FACTS.read_text(encoding="utf-8"))
    return {
        name: Facts(**{**row, "map": tuple(row["map"]) if row["map"] else None})
        for name, row in rows.items()
    }


def _main() -> None:
    rows = (f"{json.dumps(name)}: {json.dumps(asdict(facts(name)))}" for name in names())
    sys.stdout.write("{\n" + ",\n".join(rows) + "\n}\n")


if __name__ == "__main__":
    _main()
