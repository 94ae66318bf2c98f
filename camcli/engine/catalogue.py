"""The catalogue of networks, and the layers of a network.

One forward pass on the meta device finds the facts of a network, in half a second. Those of the
torchvision networks are stored in FACTS, which `python -m camcli.engine.catalogue` writes; so are
their layers, for completion in a shell.
"""

from __future__ import annotations

import fnmatch
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from torch import nn

from camcli.capture.blocks import has_attention
from camcli.capture.guided import GuidedReLU
from camcli.capture.tracing import map_shapes
from camcli.engine.inputs import noise_for
from camcli.engine.survey import with_target_layer
from camcli.errors import ModelError, spelled
from camcli.methods.registry import METHODS
from camcli.models.known import FACTS, write_layers
from camcli.models.load import load_model, outline
from camcli.models.model import Model
from camcli.models.options import ModelOptions, PreprocessOptions
from camcli.models.preprocessing import with_preprocessing
from camcli.models.sources import SOURCES, find_source


@dataclass(frozen=True)
class NetworkFacts:
    """The facts that a forward pass finds: the target layer, and the size (h,w) of its map.

    These two are None if the model records no layer: only a pass with weights can find it then.
    `input` is the side of the preset's input in pixels, `parameters` their number. `head` tells
    whether there is a linear map for CAM, `relus` whether a gradient passes a ReLU, and `attention`
    whether there is attention among all tokens.
    """

    task: str
    layer: str | None
    map: tuple[int, int] | None
    input: int
    parameters: int
    head: bool
    relus: bool
    attention: bool


@dataclass(frozen=True)
class NetworkEntry:
    """A listed network. `cached` are the published weights that need no download."""

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
    """A layer whose output is a map (C,h,w). `auto` marks the automatic target layer."""

    path: str
    type: str
    map: tuple[int, int, int]
    auto: bool


def list_names(pattern: str = "") -> list[str]:
    """Return the listed names that contain a pattern in any case or match it as a glob.

    The names of a source with a prefix are listed if the pattern begins with it. Raises ModelError.
    """
    listed = [source for source in SOURCES if pattern.startswith(source.prefix)]
    every = [name for source in listed for name in source.names()]
    wanted = spelled(pattern, every).casefold()
    found = [n for n in every if wanted in n.casefold() or fnmatch.fnmatch(n.casefold(), wanted)]
    if not found:
        raise ModelError(f"no model has '{pattern}' in its name, or matches it")
    return found


def first_of_families() -> list[str]:
    """Return the first listed name of each family."""
    first: dict[str, str] = {}
    for name in list_names():
        first.setdefault(_family(name), name)
    return list(first.values())


def describe_network(name: str) -> NetworkEntry:
    """Return the entry of a listed network. Nothing is downloaded."""
    facts = _stored_facts().get(name) or find_facts(name)
    return NetworkEntry(
        name=name,
        family=_family(name),
        task=facts.task,
        layer=facts.layer,
        map=facts.map,
        input=facts.input,
        parameters=facts.parameters,
        methods=tuple(_applicable(facts)),
        cached=tuple(find_source(name).cached(name)),
    )


def find_facts(name: str) -> NetworkFacts:
    """Find the facts of a network by a forward pass."""
    model, rule = outline(name), GuidedReLU()
    with rule:
        layers = list(_layers(model))
    target = next((layer for layer in layers if layer.auto), None)
    return NetworkFacts(
        task=model.task,
        layer=model.layer,
        map=None if target is None else target.map[1:],
        input=model.preset.shape[0],
        parameters=sum(p.numel() for p in model.module.parameters()),
        head=model.head is not None,
        relus=rule.relus > 0,
        attention=has_attention(_part_with_maps(model), noise_for(model)),
    )


def families_table(entries: Iterable[NetworkEntry]) -> str:
    """Return a Markdown table with one network of each family, and the methods it lacks."""
    lines = [
        "| family | for example | target layer | map | all methods but |",
        "|---|---|---|---|---|",
    ]
    for _, (one, *_) in itertools.groupby(entries, lambda entry: (entry.task, entry.family)):
        lacking = ", ".join(f"`{name}`" for name in METHODS if name not in one.methods)
        size = "x".join(map(str, one.map or ()))
        cells = (one.family, f"`{one.name}`", f"`{one.layer}`", size, lacking)
        lines.append("| " + " | ".join(cells).rstrip() + " |")
    return "\n".join(lines)


def list_layers(
    name: str,
    arguments: Mapping[str, Any] | None = None,
    preprocessing: PreprocessOptions = PreprocessOptions(),  # noqa: B008 - frozen
) -> list[Layer]:
    """Return the layers that can be explained, in the order in which they run.

    `name` and `arguments` are as for `camcli.load`. Raises ModelError.
    """
    model = outline(name, arguments)
    if model.layer is None and model.device.type == "meta":  # a trace follows values
        model = load_model(ModelOptions(name, "none", arguments=arguments or {}))
    model = with_preprocessing(model, preprocessing)
    if model.layer is None:
        with suppress(ModelError):  # the layers are listed all the same, and none is marked
            model = with_target_layer(model, (noise_for(model),))
    return list(_layers(model))


def _family(name: str) -> str:
    """Return the family of a network, or the name of its source if that has no families."""
    source = find_source(name)
    return source.family(name) if source.family else source.name


def _layers(model: Model) -> Iterator[Layer]:
    """Yield the layers that run once and have a map of several pixels for the preset's input."""
    run = _part_with_maps(model)
    for path, shape in map_shapes(model.module, noise_for(model), run).items():
        kind = type(model.module.get_submodule(path)).__name__
        yield Layer(path, kind, shape, path == model.layer)


def _part_with_maps(model: Model) -> nn.Module:
    """Return the part that gives the maps, also on the meta device: boxes depend on values."""
    run = model.module.backbone if model.task == "detection" else model.module
    assert isinstance(run, nn.Module)
    return run


def _applicable(facts: NetworkFacts) -> Iterator[str]:
    """Yield the methods whose evidence the network can provide."""
    lacking = {
        *([] if facts.head else ["pooled"]),
        *([] if facts.relus else ["guided"]),
        *([] if facts.attention else ["cells"]),
        *(["log_grads"] if facts.task != "classification" else []),
    }
    return (name for name, method in METHODS.items() if not method.needs & lacking)


@cache
def _stored_facts() -> Mapping[str, NetworkFacts]:
    rows = json.loads(FACTS.read_text(encoding="utf-8"))
    return {
        name: NetworkFacts(**{**row, "map": tuple(row["map"]) if row["map"] else None})
        for name, row in rows.items()
    }


def _main() -> None:
    # Facts from an outline do not change with the weights.
    stored = [source for source in SOURCES if source.outline and not source.prefix]
    names = [name for source in stored for name in source.names()]
    rows = [f"{json.dumps(name)}: {json.dumps(asdict(find_facts(name)))}" for name in names]
    layers = {name: [layer.path for layer in list_layers(name)] for name in ("mini", *names)}
    FACTS.write_text("{\n" + ",\n".join(rows) + "\n}\n", encoding="utf-8")
    write_layers(layers)


if __name__ == "__main__":
    _main()
