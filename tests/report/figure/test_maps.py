"""The contents of a figure: its maps, its empty cells and its colour scales."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from camcli import Model, explain
from camcli.capture.windows import Window
from camcli.errors import CamcliError, MethodError, TargetError
from camcli.images.geometry import Pixels
from camcli.images.preprocess import Preset, preprocess
from camcli.render.draw import ceiling
from camcli.report.figure.maps import SheetOptions, make_sheet
from camcli.report.figure.sheet import (
    FIRST_MODEL_METHODS,
    OTHER_MODEL_METHODS,
    Column,
    EmptyCell,
    MapCell,
)

WINDOW = Window(12, 10)


def test_maps_are_those_of_explain(model: Model, pixels: Pixels) -> None:
    targets = ("pred", "top2", "not:bee")
    sheet = make_sheet(pixels, [model], SheetOptions(targets=targets, window=WINDOW))
    assert [column.method for column in sheet.columns] == list(FIRST_MODEL_METHODS)
    assert sheet.empty_reasons == []
    inputs, crop = preprocess(pixels, model.preset)
    assert model.class_names is not None
    for column in sheet.columns:
        for target, cell in zip(targets, column.cells, strict=True):
            expected = explain(model, inputs[None], column.method, target, window=WINDOW)
            assert isinstance(cell, MapCell)
            maps = expected.maps if expected.drawn is None else expected.drawn
            np.testing.assert_allclose(cell.values, maps[0].numpy(), rtol=1e-4, atol=1e-7)
            assert cell.crop == crop.placed(expected.centres, (inputs.shape[2], inputs.shape[1]))
            assert cell.probability == pytest.approx(float(expected.probabilities[0]))
            assert cell.top == ceiling(cell.values, signed=cell.signed)
            name = model.class_names[int(expected.classes[0])]
            assert cell.label == ("not: bee" if target == "not:bee" else name)


def test_a_default_method_that_does_not_apply_is_an_empty_cell(
    deep_head_model: Model, pixels: Pixels
) -> None:
    sheet = make_sheet(pixels, [deep_head_model], SheetOptions(window=WINDOW))
    empty = {c.method for c in sheet.columns for cell in c.cells if isinstance(cell, EmptyCell)}
    assert empty == {"cam"}
    (reason,) = sheet.empty_reasons
    assert reason.startswith("deep, cam: cam needs")


def test_a_named_method_that_does_not_apply_is_an_error(
    deep_head_model: Model, pixels: Pixels
) -> None:
    with pytest.raises(MethodError, match="cam needs"):
        make_sheet(pixels, [deep_head_model], SheetOptions(methods=("gradcam", "cam")))


def test_other_models_have_their_own_columns_and_crops(
    model: Model, deep_head_model: Model, pixels: Pixels
) -> None:
    options = SheetOptions(targets=("elk",), window=WINDOW)
    sheet = make_sheet(pixels, [model, deep_head_model], options)
    assert sheet.models == ["small", "deep"]
    first, *_, last = sheet.columns
    assert [c.method for c in sheet.columns if c.model == "deep"] == list(OTHER_MODEL_METHODS)
    (one,), (other,) = first.cells, last.cells
    assert isinstance(one, MapCell)
    assert isinstance(other, MapCell)
    assert one.crop != other.crop


def test_named_methods_are_columns_of_every_model(
    model: Model, deep_head_model: Model, pixels: Pixels
) -> None:
    options = SheetOptions(methods=("layercam",), targets=("elk",))
    sheet = make_sheet(pixels, [model, deep_head_model], options)
    columns = [(column.model, column.method) for column in sheet.columns]
    assert columns == [("small", "layercam"), ("deep", "layercam")]


def test_a_target_that_only_the_first_model_has_is_an_empty_cell(
    model: Model, deep_head_model: Model, pixels: Pixels
) -> None:
    options = SheetOptions(methods=("gradcam",), targets=("cat",))
    _, deep = make_sheet(pixels, [model, deep_head_model], options).columns
    (cell,) = deep.cells
    assert isinstance(cell, EmptyCell)
    assert "unknown target 'cat'" in cell.reason
    with pytest.raises(TargetError, match="unknown target 'cow'"):
        make_sheet(pixels, [model, deep_head_model], replace(options, targets=("cow",)))


def test_a_model_with_two_weights_is_two_models(model: Model, pixels: Pixels) -> None:
    tuned, options = replace(model, weights="tuned.pth"), SheetOptions(methods=("gradcam",))
    sheet = make_sheet(pixels, [model, tuned], options)
    assert sheet.models == ["small, given", "small, tuned.pth"]
    sheet = make_sheet(pixels, [model, model], options)
    assert sheet.models == ["small, given (1)", "small, given (2)"]


@pytest.mark.parametrize(
    ("scale", "group_of"),
    [
        ("image", lambda column, row: (column.model, column.method, row)),
        ("row", lambda column, row: (column.method, row)),
        ("figure", lambda column, row: column.method),
    ],
)
def test_maps_of_a_method_share_a_scale(
    scale: str,
    group_of: Callable[[Column, int], object],
    model: Model,
    deep_head_model: Model,
    pixels: Pixels,
) -> None:
    methods, targets = ("gradcam++", "guided-backprop"), ("ant", "bee")
    options = SheetOptions(methods=methods, targets=targets, scale=scale)
    groups: dict[object, list[MapCell]] = defaultdict(list)
    for column in make_sheet(pixels, [model, deep_head_model], options).columns:
        for row, cell in enumerate(column.cells):
            assert isinstance(cell, MapCell)
            groups[group_of(column, row)].append(cell)
    for cells in groups.values():
        top = max(ceiling(cell.values, signed=cell.signed) for cell in cells)
        assert [cell.top for cell in cells] == [top] * len(cells)


def test_a_map_with_nan_is_an_empty_cell(model: Model, pixels: Pixels) -> None:
    nn.init.constant_(model.module.get_submodule("fc").weight, torch.nan)  # type: ignore[arg-type]
    sheet = make_sheet(pixels, [model], SheetOptions(methods=("hirescam",), targets=("ant",)))
    assert sheet.empty_reasons == ["small, hirescam: the map holds NaN or infinity"]


def test_an_input_that_is_too_small_for_the_network(model: Model, pixels: Pixels) -> None:
    tiny = replace(model, preset=Preset(2, 2))
    with pytest.raises(CamcliError, match=r"small failed \(Calculated padded input size"):
        make_sheet(pixels, [tiny], SheetOptions())
