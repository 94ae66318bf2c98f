"""Compute the maps of a comparison figure and their common colour scales."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from camcli.capture.forms import FORMS
from camcli.capture.target_parser import parse_target
from camcli.capture.targets import Target
from camcli.capture.windows import Window
from camcli.engine.explain import explain
from camcli.engine.explanation import Explanation
from camcli.errors import CamcliError, ImageError, ModelError, TargetError, one_line
from camcli.images.geometry import Crop, Pixels, Size
from camcli.images.preprocess import preprocess
from camcli.methods.registry import METHODS
from camcli.models.families import find_layer
from camcli.models.model import Model
from camcli.render.draw import ceiling
from camcli.report.figure.sheet import (
    FIRST_MODEL_METHODS,
    OTHER_MODEL_METHODS,
    Column,
    EmptyCell,
    MapCell,
    Sheet,
    SheetCell,
    trim,
)
from camcli.runs.batches import REFUSALS
from camcli.runs.names import Wanted, every_result


@dataclass(frozen=True)
class SheetOptions:
    """The contents of a figure.

    Without `methods`, the first model has the columns FIRST_MODEL_METHODS and the others
    OTHER_MODEL_METHODS. A layer of None is the automatic one. `scale` is one of SCALE_SCOPES. With
    `trim`, only the parts of the photos that a network saw are shown.
    """

    methods: tuple[str, ...] = ()
    targets: tuple[str, ...] = ("pred",)
    layers: tuple[str | None, ...] = (None,)
    fit: str = "preset"
    window: Window = field(default_factory=Window)
    scale: str = "image"
    trim: bool = False


def make_sheet(
    photos: Mapping[str, Pixels], models: Sequence[Model], options: SheetOptions
) -> Sheet:
    """Explain photos, given by name, by each model, method and layer, for each target.

    A default method that does not apply to a model gives empty cells, and so does a target that
    only the first model has. Raises MethodError for a named method that does not apply to a model,
    ModelError for a layer that a model does not have, and TargetError for a target that the first
    model does not have.
    """
    columns: list[Column] = []
    for name, model in zip(_distinct_names(models), models, strict=True):
        _check_layers(name, model, options.layers)
        columns += _columns(name, model, photos, options, first=not columns)
    sheet = Sheet(tuple(photos.values()), tuple(_share_scales(columns, options.scale)))
    return trim(sheet) if options.trim else sheet


def _check_layers(name: str, model: Model, layers: Sequence[str | None]) -> None:
    for path in filter(None, layers):
        try:
            find_layer(model.module, path)
        except ModelError as error:
            raise ModelError(f"{name}: {error}") from None


def _columns(
    name: str, model: Model, photos: Mapping[str, Pixels], options: SheetOptions, *, first: bool
) -> list[Column]:
    methods = options.methods or (FIRST_MODEL_METHODS if first else OTHER_MODEL_METHODS)
    known, unknown = _split_targets(model, options.targets, strict=first)
    rows = [
        _sheet_cells(model, photo, pixels, methods, known, options)
        for photo, pixels in photos.items()
    ]
    return [
        Column(
            name,
            method,
            tuple(
                unknown.get(target) or cells[Wanted(method, target, layer)]
                for cells in rows
                for target in options.targets
            ),
        )
        for method, _, layer in every_result(methods, ("",), options.layers)
    ]


def _distinct_names(models: Sequence[Model]) -> list[str]:
    """Return a name for each model, with weights or a number where names would be equal."""
    names = [model.name for model in models]
    if len(set(names)) < len(names):
        names = [f"{model.name}, {model.weights}" for model in models]
    if len(set(names)) < len(names):
        names = [f"{name} ({number})" for number, name in enumerate(names, 1)]
    return names


def _split_targets(
    model: Model, targets: Sequence[str], strict: bool
) -> tuple[list[str], dict[str, EmptyCell]]:
    """Return the targets that a model has, and an empty cell for each of the others.

    Raises TargetError for the first of the others if `strict`.
    """
    unknown: dict[str, EmptyCell] = {}
    for target in targets:
        try:
            parsed = parse_target(target, model.class_names, model.num_classes)
            _check_one_map(parsed)
        except TargetError as error:
            if strict:
                raise
            unknown[target] = EmptyCell(str(error))
    return [target for target in targets if target not in unknown], unknown


def _check_one_map(target: Target) -> None:
    if target.several:
        raise TargetError(f"target '{target.spec}' has several maps: name a class for a row")


def _sheet_cells(
    model: Model,
    photo: str,
    pixels: Pixels,
    methods: Sequence[str],
    targets: Sequence[str],
    options: SheetOptions,
) -> dict[Wanted, SheetCell]:
    """Return a cell for each result of a photo. Raises ImageError with its name."""
    if not targets:
        return {}
    try:
        tensor, crop = preprocess(pixels, model.preset, options.fit)
        images = tensor[None].to(model.device, model.dtype, memory_format=torch.channels_last)
        found = _explain_image(model, images, methods, targets, options.layers, options)
    except ImageError as error:
        raise ImageError(f"{photo}: {error}") from None
    size = (tensor.shape[2], tensor.shape[1])
    return {
        wanted: EmptyCell(str(one))
        if isinstance(one, CamcliError)
        else _sheet_cell(model, one, crop, size)
        for wanted, one in found.items()
    }


def _explain_image(
    model: Model,
    images: torch.Tensor,
    methods: Sequence[str],
    targets: Sequence[str],
    layers: Sequence[str | None],
    options: SheetOptions,
) -> Mapping[Wanted, Explanation | CamcliError]:
    """Explain images (1,C,H,W) in one forward pass.

    If a default method does not apply, each method and layer gets its own pass and may fail on its
    own.
    """
    results = every_result(methods, targets, layers)
    try:
        found = explain(
            model, images, list(methods), list(targets), list(layers), window=options.window
        )
    except CamcliError as error:
        if options.methods:
            raise
        if len(methods) == len(layers) == 1:
            return dict.fromkeys(results, error)
        parts = (
            _explain_image(model, images, [method], targets, [layer], options)
            for method, layer in itertools.product(methods, layers)
        )
        return {wanted: one for part in parts for wanted, one in part.items()}
    except REFUSALS as error:
        raise ImageError(f"{model.name} failed ({one_line(error)})") from None
    return dict(zip(results, found, strict=True))


def _sheet_cell(model: Model, explanation: Explanation, crop: Crop, size: Size) -> SheetCell:
    """Return the cell of an explanation of one image. `size` is the network input's."""
    shares = explanation.probabilities
    maps = explanation.maps if explanation.drawn is None else explanation.drawn
    values, crop = maps[0].float().cpu().numpy(), crop.placed(explanation.centres, size)
    if not np.isfinite(values).all():
        return EmptyCell("the map holds NaN or infinity")
    signed = METHODS[explanation.method].signed
    box = None if explanation.boxes is None else tuple(explanation.boxes[0].tolist())
    return MapCell(
        values=values,
        crop=crop,
        signed=signed,
        top=ceiling(values, signed=signed),
        box=crop.corners(box, size),
        label=_label(model, explanation),
        probability=None if shares is None else float(shares[0]),
        layer=explanation.layer,
    )


def _label(model: Model, explanation: Explanation) -> str:
    """Return the class with its form, or the target where that is no class with a name."""
    if explanation.classes is None:
        return explanation.target
    index, form = int(explanation.classes[0]), explanation.target.partition(":")[0]
    if model.class_names is None:
        return explanation.target if explanation.probabilities is None else f"class {index}"
    name = model.class_names[index]
    return f"{form}: {name}" if form in FORMS else name


def _share_scales(columns: Sequence[Column], scale: str) -> list[Column]:
    """Return the columns with one `top` for all maps of a method that share a scale."""

    def group(number: int, row: int) -> Hashable:
        method = columns[number].method
        return {"image": (number, row), "row": (method, row), "figure": method}[scale]

    tops: dict[Hashable, float] = defaultdict(float)
    for number, column in enumerate(columns):
        for row, cell in enumerate(column.cells):
            if isinstance(cell, MapCell):
                tops[group(number, row)] = max(cell.top, tops[group(number, row)])

    def rescale(cell: SheetCell, number: int, row: int) -> SheetCell:
        return replace(cell, top=tops[group(number, row)]) if isinstance(cell, MapCell) else cell

    return [
        replace(column, cells=tuple(rescale(c, number, row) for row, c in enumerate(column.cells)))
        for number, column in enumerate(columns)
    ]
