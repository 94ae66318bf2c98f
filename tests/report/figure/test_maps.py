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
from camcli.errors import CamcliError, MethodError, ModelError, TargetError
from camcli.images.geometry import Crop, Pixels
from camcli.images.preprocess import Preset, preprocess
from camcli.render.draw import ceiling
from camcli.report.figure.maps import SheetOptions, make_sheet
from camcli.report.figure.sheet import (
    FIRST_MODEL_METHODS,
    OTHER_MODEL_METHODS,
    Column,
    EmptyCell,
    MapCell,
    Sheet,
    trim,
)

WINDOW = Window(12, 10)


def test_maps_are_those_of_explain(model: Model, pixels: Pixels) -> None:
    targets = ("pred", "top2", "not:bee")
    sheet = make_sheet({"photo.jpg": pixels}, [model], SheetOptions(targets=targets, window=WINDOW))
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
    sheet = make_sheet({"photo.jpg": pixels}, [deep_head_model], SheetOptions(window=WINDOW))
    empty = {c.method for c in sheet.columns for cell in c.cells if isinstance(cell, EmptyCell)}
    assert empty == {"cam"}
    (reason,) = sheet.empty_reasons
    assert reason.startswith("deep, cam: cam needs")


def test_a_named_method_that_does_not_apply_is_an_error(
    deep_head_model: Model, pixels: Pixels
) -> None:
    with pytest.raises(MethodError, match="cam needs"):
        make_sheet(
            {"photo.jpg": pixels}, [deep_head_model], SheetOptions(methods=("gradcam", "cam"))
        )


def test_other_models_have_their_own_columns_and_crops(
    model: Model, deep_head_model: Model, pixels: Pixels
) -> None:
    options = SheetOptions(targets=("elk",), window=WINDOW)
    sheet = make_sheet({"photo.jpg": pixels}, [model, deep_head_model], options)
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
    sheet = make_sheet({"photo.jpg": pixels}, [model, deep_head_model], options)
    columns = [(column.model, column.method) for column in sheet.columns]
    assert columns == [("small", "layercam"), ("deep", "layercam")]


def test_a_target_that_only_the_first_model_has_is_an_empty_cell(
    model: Model, deep_head_model: Model, pixels: Pixels
) -> None:
    options = SheetOptions(methods=("gradcam",), targets=("cat",))
    _, deep = make_sheet({"photo.jpg": pixels}, [model, deep_head_model], options).columns
    (cell,) = deep.cells
    assert isinstance(cell, EmptyCell)
    assert "unknown target 'cat'" in cell.reason
    with pytest.raises(TargetError, match="unknown target 'cow'"):
        make_sheet(
            {"photo.jpg": pixels}, [model, deep_head_model], replace(options, targets=("cow",))
        )


def test_a_model_with_two_weights_is_two_models(model: Model, pixels: Pixels) -> None:
    tuned, options = replace(model, weights="tuned.pth"), SheetOptions(methods=("gradcam",))
    sheet = make_sheet({"photo.jpg": pixels}, [model, tuned], options)
    assert sheet.models == ["small, given", "small, tuned.pth"]
    sheet = make_sheet({"photo.jpg": pixels}, [model, model], options)
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
    for column in make_sheet({"photo.jpg": pixels}, [model, deep_head_model], options).columns:
        for row, cell in enumerate(column.cells):
            assert isinstance(cell, MapCell)
            groups[group_of(column, row)].append(cell)
    for cells in groups.values():
        top = max(ceiling(cell.values, signed=cell.signed) for cell in cells)
        assert [cell.top for cell in cells] == [top] * len(cells)


def test_a_map_with_nan_is_an_empty_cell(model: Model, pixels: Pixels) -> None:
    nn.init.constant_(model.module.get_submodule("fc").weight, torch.nan)  # type: ignore[arg-type]
    sheet = make_sheet(
        {"photo.jpg": pixels}, [model], SheetOptions(methods=("hirescam",), targets=("ant",))
    )
    assert sheet.empty_reasons == ["small, hirescam: the map holds NaN or infinity"]


def test_rows_are_photos_and_targets(model: Model, pixels: Pixels) -> None:
    photos, targets = {"a.jpg": pixels, "b.jpg": pixels[::-1, :60]}, ("ant", "top2")
    options = SheetOptions(methods=("gradcam", "layercam"), targets=targets)
    sheet = make_sheet(photos, [model], options)
    for number, (name, photo) in enumerate(photos.items()):
        alone = make_sheet({name: photo}, [model], options)
        rows = slice(2 * number, 2 * number + 2)
        for column, expected in zip(sheet.columns, alone.columns, strict=True):
            for cell, other in zip(column.cells[rows], expected.cells, strict=True):
                assert isinstance(cell, MapCell)
                assert isinstance(other, MapCell)
                assert (cell.label, cell.crop) == (other.label, other.crop)
                np.testing.assert_allclose(cell.values, other.values, rtol=1e-5)
    assert [sheet.photo_number(row) for row in sheet.rows] == [0, 0, 1, 1]
    assert [row for row in sheet.rows if sheet.starts_photo(row)] == [0, 2]


def test_layers_are_columns_of_the_methods_that_use_one(model: Model, pixels: Pixels) -> None:
    methods, layers = ("gradcam", "guided-backprop"), ("trunk.1", None)
    options = SheetOptions(methods=methods, targets=("ant",), layers=layers)
    sheet = make_sheet({"photo.jpg": pixels}, [model], options)
    last = sheet.columns[1].layer
    assert last not in ("trunk.1", None)
    assert [(c.method, c.layer) for c in sheet.columns] == [
        *(("gradcam", "trunk.1"), ("gradcam", last)),
        ("guided-backprop", None),
    ]
    titles = ["Grad-CAM\ntrunk.1", f"Grad-CAM\n{last}", "Guided Backpropagation"]
    assert sheet.titles == titles
    one = make_sheet({"photo.jpg": pixels}, [model], replace(options, layers=("trunk.1",)))
    assert one.titles == ["Grad-CAM", "Guided Backpropagation"]


def test_a_layer_that_a_model_lacks(model: Model, deep_head_model: Model, pixels: Pixels) -> None:
    """It is an error, also with the default methods, which may leave cells empty."""
    with pytest.raises(ModelError, match=r"small: .*'trunk\.9'"):
        make_sheet(
            {"photo.jpg": pixels}, [model, deep_head_model], SheetOptions(layers=("trunk.9",))
        )


def test_a_default_method_that_takes_no_layer_is_an_empty_cell(
    model: Model, pixels: Pixels
) -> None:
    options = SheetOptions(targets=("ant",), layers=("trunk.1", None), window=WINDOW)
    sheet = make_sheet({"photo.jpg": pixels}, [model], options)
    empty = [c.method for c in sheet.columns if isinstance(c.cells[0], EmptyCell)]
    assert empty == ["cam"]
    assert [c.method for c in sheet.columns].count("cam") == 2


def test_trimmed_photos_are_what_the_networks_saw(
    model: Model, deep_head_model: Model, pixels: Pixels
) -> None:
    options = SheetOptions(methods=("gradcam",), targets=("elk",))
    models, photos = [model, deep_head_model], {"photo.jpg": pixels}
    whole = make_sheet(photos, models, options)
    trimmed = make_sheet(photos, models, replace(options, trim=True))
    crops = [cell.crop for c in whole.columns for cell in c.cells if isinstance(cell, MapCell)]
    x0, y0 = min(crop.x0 for crop in crops), min(crop.y0 for crop in crops)
    x1, y1 = max(crop.x1 for crop in crops), max(crop.y1 for crop in crops)
    assert (trimmed.photos[0] == pixels[y0:y1, x0:x1]).all()
    assert trimmed.photos[0].shape != pixels.shape
    for crop, column in zip(crops, trimmed.columns, strict=True):
        (cell,) = column.cells
        assert isinstance(cell, MapCell)
        assert cell.crop.box == (crop.x0 - x0, crop.y0 - y0, crop.x1 - x0, crop.y1 - y0)
        centres, moved = crop.centres((4, 4)), cell.crop.centres((4, 4))
        assert (moved.x, moved.y) == pytest.approx((centres.x - x0, centres.y - y0), abs=0.5)


def test_a_trimmed_photo_without_a_map_is_whole(pixels: Pixels) -> None:
    sheet = Sheet((pixels,), (Column("small", "cam", (EmptyCell("no map"),)),))
    assert (trim(sheet).photos[0] == pixels).all()


def test_a_box_moves_with_the_trimmed_photo(pixels: Pixels) -> None:
    crop, values = Crop(10, 5, 60, 45), np.ones((4, 4), np.float32)
    cell = MapCell(values, crop, False, 1.0, [12, 7, 20, 30], "ant", 0.5)
    (column,) = trim(Sheet((pixels,), (Column("small", "gradcam", (cell,)),))).columns
    (moved,) = column.cells
    assert isinstance(moved, MapCell)
    assert moved.box == [2, 2, 10, 25]


def test_an_input_that_is_too_small_for_the_network(model: Model, pixels: Pixels) -> None:
    tiny = replace(model, preset=Preset(2, 2))
    with pytest.raises(
        CamcliError, match=r"photo.jpg: small failed \(Calculated padded input size"
    ):
        make_sheet({"photo.jpg": pixels}, [tiny], SheetOptions())
