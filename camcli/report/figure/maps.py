"""The maps of a comparison figure, made and brought to common scales."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from camcli.capture.targets import FORMS, parse_target
from camcli.capture.windows import Window
from camcli.engine.explain import explain
from camcli.engine.explanation import Explanation
from camcli.errors import CamcliError, ImageError, TargetError, one_line
from camcli.images.geometry import Crop, Pixels
from camcli.images.preprocess import preprocess
from camcli.methods.registry import METHODS
from camcli.models.model import Model
from camcli.render.draw import ceiling
from camcli.report.figure.sheet import BESIDE, DEFAULT, Cell, Column, Gap, Map, Sheet


def make(
    pixels: Pixels,
    models: Sequence[Model],
    methods: Sequence[str],
    targets: Sequence[str],
    *,
    fit: str = "preset",
    window: Window = Window(),  # noqa: B008 - frozen
    scale: str = "image",
) -> Sheet:
    """Explain an image by methods and models, for each of the targets.

    Of no `methods` the first model has those in DEFAULT and the others those in BESIDE, and what a
    model does not take is a gap. Methods that are given are every model's, and one that does not
    apply raises MethodError; so does a target that is not the first model's raise TargetError. One
    that the others do not have is a gap. `scale` is one of SCALES.
    """
    columns: list[Column] = []
    for name, model in zip(_names(models), models, strict=True):
        wanted = methods or (BESIDE if columns else DEFAULT)
        known, gaps = _known(model, targets, strict=not columns)
        found = _cells(model, pixels, wanted, known, fit, window, strict=bool(methods))
        columns += [
            Column(name, method, tuple(gaps.get(t) or found[method, t] for t in targets))
            for method in wanted
        ]
    return Sheet(pixels, tuple(_on_scales(columns, scale)))


def _names(models: Sequence[Model]) -> list[str]:
    """A name for each model; one network with several weights has theirs in its names."""
    names = [model.name for model in models]
    if len(set(names)) < len(names):
        names = [f"{model.name}, {model.weights}" for model in models]
    again = len(set(names)) < len(names)
    return [f"{name} ({n})" if again else name for n, name in enumerate(names, 1)]


def _known(model: Model, targets: Sequence[str], strict: bool) -> tuple[list[str], dict[str, Gap]]:
    """The targets that a model has, and gaps for the others, which if strict there must not be."""
    gaps: dict[str, Gap] = {}
    for target in targets:
        try:
            parse_target(target, model.class_names, model.num_classes)
        except TargetError as error:
            if strict:
                raise
            gaps[target] = Gap(str(error))
    return [target for target in targets if target not in gaps], gaps


def _cells(
    model: Model,
    pixels: Pixels,
    methods: Sequence[str],
    targets: Sequence[str],
    fit: str,
    window: Window,
    strict: bool,
) -> dict[tuple[str, str], Cell]:
    """A cell for each method and target."""
    if not targets:
        return {}
    tensor, crop = preprocess(pixels, model.preset, fit)
    images = tensor[None].to(model.device, model.dtype, memory_format=torch.channels_last)
    size = (tensor.shape[2], tensor.shape[1])
    found = _explained(model, images, methods, targets, window, strict)
    return {
        key: Gap(str(shown)) if isinstance(shown, CamcliError) else _cell(model, shown, crop, size)
        for key, shown in found.items()
    }


def _explained(
    model: Model,
    images: torch.Tensor,
    methods: Sequence[str],
    targets: Sequence[str],
    window: Window,
    strict: bool,
) -> Mapping[tuple[str, str], Explanation | CamcliError]:
    """All from one forward pass; where a method does not apply, from one for each method."""
    pairs = list(itertools.product(methods, targets))
    try:
        shown = explain(model, images, list(methods), list(targets), window=window)
    except CamcliError as error:
        if strict:
            raise
        if len(methods) == 1:
            return dict.fromkeys(pairs, error)
        parts = (_explained(model, images, [m], targets, window, strict) for m in methods)
        return {pair: found for part in parts for pair, found in part.items()}
    # Of torch: an input of another size than the network takes, or no memory for it.
    except (RuntimeError, AssertionError) as error:
        raise ImageError(f"{model.name} failed ({one_line(error)})") from None
    return dict(zip(pairs, shown, strict=True))


def _cell(model: Model, shown: Explanation, crop: Crop, size: tuple[int, int]) -> Cell:
    assert shown.classes is not None  # a target is text here, never a function
    assert shown.probabilities is not None
    values = shown.maps[0].float().cpu().numpy()
    if not np.isfinite(values).all():
        return Gap("the map holds NaN or infinity")
    index, signed = int(shown.classes[0]), METHODS[shown.method].signed
    box = None if shown.boxes is None else tuple(shown.boxes[0].tolist())
    name = model.class_names[index] if model.class_names else f"class {index}"
    form = shown.target.partition(":")[0]
    return Map(
        values=values,
        crop=crop,
        signed=signed,
        top=ceiling(values, signed=signed),
        box=crop.corners(box, size),
        label=f"{form}: {name}" if form in FORMS else name,
        probability=float(shown.probabilities[0]),
    )


def _on_scales(columns: Sequence[Column], scale: str) -> list[Column]:
    """The columns with one top for all maps of a method that share a scale."""
    tops: dict[Hashable, float] = {}

    def key(number: int, row: int) -> Hashable:
        method = columns[number].method
        return {"image": (number, row), "row": (method, row), "figure": method}[scale]

    for number, column in enumerate(columns):
        for row, cell in enumerate(column.cells):
            if isinstance(cell, Map):
                tops[key(number, row)] = max(cell.top, tops.get(key(number, row), 0.0))

    def on_scale(cell: Cell, number: int, row: int) -> Cell:
        return replace(cell, top=tops[key(number, row)]) if isinstance(cell, Map) else cell

    return [
        replace(
            column,
            cells=tuple(on_scale(cell, number, row) for row, cell in enumerate(column.cells)),
        )
        for number, column in enumerate(columns)
    ]
