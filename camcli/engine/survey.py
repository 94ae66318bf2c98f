"""The survey of a network: its automatic layer, and the layouts and places of its layers' cells.

A traced forward pass finds them where they are not recorded. Its result is kept for each network,
so that explaining another batch does not trace again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from camcli.capture.discover import find_layer_and_head
from camcli.capture.hooks import borrowed
from camcli.capture.readers import Reader, reader_of
from camcli.capture.tracing import Call, Lines, lines_at, trace
from camcli.errors import ModelError
from camcli.images.geometry import Centres
from camcli.models.exclusive import exclusive
from camcli.models.families import check_watchable, recorded_layer, recorded_layout
from camcli.models.head import Head
from camcli.models.layouts import PLAIN, Layout
from camcli.models.model import Model

Key: TypeAlias = tuple[Any, ...]
_SETTINGS = {bool, int, float, str, type(None)}
"""The types of the attributes that may decide how a forward pass runs."""


@dataclass(frozen=True)
class Survey:
    """The facts from one traced pass.

    `layer` and `head` are as `find_layer_and_head` returns them, or it has raised `refusal`. All
    three are empty if they were not searched for. `layouts` has the layout of each layer that gives
    a map, and `shapes` the shapes of all layers' outputs for one image.
    """

    layer: str | None
    head: Head | None
    refusal: str
    layouts: Mapping[str, Layout]
    shapes: Mapping[str, tuple[int, ...]]
    lines: Mapping[str, Lines]


@dataclass
class _Kept:
    """The surveys of a network, by the inputs, while its structure is the same.

    `lines` are the centres of a layer's cells, by its path and, unless they are the same for images
    of all sizes, by the inputs.
    """

    structure: Key
    surveys: dict[Key, Survey] = field(default_factory=dict)
    lines: dict[Key, Lines] = field(default_factory=dict)

    def add_lines(self, found: Mapping[str, Lines], sizes: Key) -> None:
        for path, lines in found.items():
            fixed = all(line is not None and line.fixed for line in lines)
            self.lines[(path,) if fixed else (path, sizes)] = lines

    def lines_at(self, path: str, sizes: Key) -> Lines | None:
        return self.lines.get((path,)) or self.lines.get((path, sizes))


_KEPT: WeakKeyDictionary[nn.Module, _Kept] = WeakKeyDictionary()
_MOST = 32
"""The number of input sizes whose surveys are kept for a network."""


def with_target_layer(model: Model, inputs: tuple[Any, ...]) -> Model:
    """Return the model with its automatic layer and its CAM head.

    A traced forward pass over `inputs` finds them where they are not known. Raises ModelError.
    """
    if model.layer is not None:
        return model
    if (known := recorded_layer(model.module)) is not None:
        return replace(model, layer=known)
    check_watchable(model.module)
    found = survey(model.module, inputs, reader_of(model))
    if found.layer is None:
        raise ModelError(found.refusal)
    return replace(model, layer=found.layer, head=found.head)


def layouts_at(
    module: nn.Module, paths: Sequence[str], inputs: tuple[Any, ...]
) -> dict[str, Layout]:
    """Return the layouts of layers, by their paths. Raises ModelError for one that gives no map."""
    return {path: _layout_at(module, path, inputs) for path in paths}


def _layout_at(module: nn.Module, path: str, inputs: tuple[Any, ...]) -> Layout:
    if (recorded := recorded_layout(module, path)) is not None:
        return recorded
    found = survey(module, inputs)
    if path in found.layouts:
        return found.layouts[path]
    shape = found.shapes.get(path, ())
    if len(shape) in (3, 4, 5) and max(shape[1:]) > 1:
        raise ModelError(
            f"layer '{path}' gives {shape} for an image, which is no map with known rows and "
            f"columns of the image: choose one of `camcli layers`, or use occlusion"
        )
    return PLAIN  # the pass tells what is wrong with this layer


def survey(module: nn.Module, inputs: tuple[Any, ...], reader: Reader | None = None) -> Survey:
    """Return the survey of a network for inputs of these sizes, from a traced pass if needed.

    With the `reader` of the network's outputs, it also searches for the automatic layer and the
    head, which takes a backward pass.
    """
    with exclusive(module):
        kept, sizes = _kept(module), _sizes(inputs)
        endings = reader and reader.endings
        fitting = (one for (of, _), one in kept.surveys.items() if of == sizes)
        known = kept.surveys.get((sizes, endings)) if reader else next(fitting, None)
        if known is None:
            with borrowed(module):
                known = _searched(module, inputs, reader) if reader else _traced(module, inputs)
            kept.surveys[sizes, endings] = known
            kept.add_lines(known.lines, sizes)
        return known


def centres_at(
    module: nn.Module, paths: Sequence[str], inputs: tuple[Any, ...]
) -> dict[str, Centres | None]:
    """Return the centres of the cells of layers in the image, by their paths, in pixels.

    They are None where they cannot be found. A forward pass over the first image finds them, unless
    an earlier one has found that they are the same for images of all sizes.
    """
    with exclusive(module):
        kept, sizes = _kept(module), _sizes(inputs)
        if missing := [path for path in paths if kept.lines_at(path, sizes) is None]:
            kept.add_lines(dict.fromkeys(missing, Lines()), sizes)
            with borrowed(module), suppress(RuntimeError):  # a network that cannot be traced
                kept.add_lines(lines_at(module, missing, inputs), sizes)
        return {path: _centres(kept.lines_at(path, sizes)) for path in paths}


def share_lines(module: nn.Module, copy: nn.Module) -> None:
    """Let a copy of a network have what is known of the places of its layers' cells."""
    with exclusive(module):
        _kept(copy).lines.update(_kept(module).lines)


def _centres(lines: Lines | None) -> Centres | None:
    if lines is None or lines.y is None or lines.x is None:
        return None
    spread = max(line.spread / line.step for line in (lines.x, lines.y))
    return Centres(lines.x.start, lines.y.start, lines.x.step, lines.y.step, spread)


def _kept(module: nn.Module) -> _Kept:
    structure, kept = _structure(module), _KEPT.get(module)
    if kept is None or kept.structure != structure or len(kept.surveys) >= _MOST:
        kept = _KEPT[module] = _Kept(structure)
    return kept


def _searched(module: nn.Module, inputs: tuple[Any, ...], reader: Reader) -> Survey:
    """Survey a network by a pass with a graph; without one where the network does not allow it."""
    try:
        calls, output = trace(module, inputs, reader)
        return _surveyed(calls, *_search(calls, output))
    except RuntimeError:  # such as an operation in place that is valid without a graph only
        calls, output = trace(module, inputs, reader, differentiable=False)
        return _surveyed(calls, *_search(calls, output))


def _traced(module: nn.Module, inputs: tuple[Any, ...]) -> Survey:
    return _surveyed(trace(module, inputs, differentiable=False)[0])


def _search(calls: Sequence[Call], output: Any) -> tuple[str | None, Head | None, str]:
    try:
        return *find_layer_and_head(calls, output), ""
    except ModelError as error:
        return None, None, str(error)


def _surveyed(
    calls: Sequence[Call], layer: str | None = None, head: Head | None = None, refusal: str = ""
) -> Survey:
    layouts = {call.path: call.layout for call in calls if call.once and call.layout is not None}
    shapes = {call.path: tuple(call.output.shape) for call in calls if call.once}
    lines = {call.path: call.lines for call in calls if call.once}
    return Survey(layer, head, refusal, layouts, shapes, lines)


def _sizes(inputs: tuple[Any, ...]) -> Key:
    return tuple((x.shape[1:], x.dtype, x.device) for x in inputs if isinstance(x, Tensor))


def _structure(module: nn.Module) -> Key:
    """Return what decides how a forward pass runs, except for the weights: parts and settings."""
    return tuple(
        (
            id(part),
            len(part._forward_hooks) + len(part._forward_pre_hooks),
            [
                (name, value)
                for name, value in vars(part).items()
                if type(value) in _SETTINGS and name != "training"
            ],
        )
        for part in module.modules()
    )
