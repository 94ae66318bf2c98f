"""What there is to explain with: torchvision's networks, and the layers of one."""

from __future__ import annotations

import fnmatch
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torchvision.models as zoo
from torch import Tensor, nn

from camcli.capture.guided import GuidedReLU
from camcli.errors import ModelError
from camcli.methods import METHODS
from camcli.models import TASKS, Model, family, grid_of, hollow, load, model_names


@dataclass(frozen=True)
class Entry:
    """A network as it comes: its target layer, and the map (h,w) there of an input of its preset.

    These two are None for a family without a row, where only a pass with weights can tell. `input`
    is that input's side in pixels, `parameters` their number, `cached` the names of the published
    weights that are on this machine.
    """

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
    model = _hollow(name)
    rule, side = GuidedReLU(), _side(model)
    with rule:
        layers = list(_layers(model))
    target = next((layer for layer in layers if layer.auto), None)
    return Entry(
        name=name,
        family=family(name),
        task=model.task,
        layer=model.layer,
        map=None if target is None else target.map[1:],
        input=side,
        parameters=sum(p.numel() for p in model.module.parameters()),
        methods=tuple(_methods(model, rule)),
        cached=tuple(_cached(name)),
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
    model.module.to("meta").requires_grad_(False)  # what a constructor has computed as well
    return model


def _layers(model: Model) -> Iterator[Layer]:
    """Runs an empty image of the preset's size through the network."""
    shapes: dict[str, tuple[int, ...]] = {}
    runs: Counter[str] = Counter()
    module = model.module

    def note(path: str) -> Callable[..., None]:
        def hook(_part: nn.Module, _args: Any, output: Any) -> None:
            runs[path] += 1
            grid = grid_of(module, path)
            if isinstance(output, Tensor) and output.ndim == grid.ndim:
                shapes[path] = tuple(grid.to_map(output).shape[1:])

        return hook

    handles = [
        part.register_forward_hook(note(path)) for path, part in module.named_modules() if path
    ]
    try:
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
    device = next((p.device for p in model.module.parameters()), torch.device("cpu"))
    image = torch.zeros(1, 3, _side(model), _side(model), device=device)
    image.requires_grad_(device.type == "meta")  # only there: for guided's ReLUs, and it is free
    # A detector's boxes depend on values, and its maps on its backbone alone.
    whole = model.module.backbone if model.task == "detection" else model.module
    assert isinstance(whole, nn.Module)
    with torch.set_grad_enabled(image.requires_grad):
        whole(image)


def _side(model: Model) -> int:
    return model.preset.crop or model.preset.resize


def _methods(model: Model, rule: GuidedReLU) -> Iterator[str]:
    lacking = {
        *(["pooled"] if model.head is None else []),
        *([] if rule.relus else ["guided"]),
        *(["log_grads"] if model.task != "classification" else []),
    }
    return (name for name, method in METHODS.items() if not method.needs & lacking)


def _cached(name: str) -> Iterator[str]:
    folder = Path(torch.hub.get_dir(), "checkpoints")
    for weights in zoo.get_model_weights(name):
        if (folder / weights.url.rpartition("/")[2]).exists():
            yield weights.name
