"""Mean heat as small pictures, and means with intervals as text and bars."""

from __future__ import annotations

import base64
import re
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from camcli.report.estimates import decimal, difference, number, percent, range_bar
from camcli.report.mean_maps import MOST, in_words, mean_map, outlined_map

SIDE = 20
Grid = list[list[float]]


def spot(y: int, x: int, times: float = MOST, side: int = 1) -> Grid:
    """Return a heat of `times` the even one in a square of cells."""
    cells = SIDE**2
    grid = np.full((SIDE, SIDE), (1 - side**2 * times / cells) / (cells - side**2))
    grid[y : y + side, x : x + side] = times / cells
    rows: Grid = grid.tolist()
    return rows


def pixels_of(grid: Grid) -> np.ndarray:
    url = mean_map(grid, 3).attrib["src"]
    kind, _, data = url.partition(";base64,")
    assert kind == "data:image/webp"
    return np.asarray(Image.open(BytesIO(base64.b64decode(data))).convert("RGB"), int)


def test_a_cell_is_a_pixel_and_more_heat_is_lighter() -> None:
    pixels = pixels_of(spot(2, 17))
    assert pixels.shape == (SIDE, SIDE, 3)
    light = pixels.sum(-1)
    assert np.unravel_index(light.argmax(), light.shape) == (2, 17)
    assert len(np.unique(np.delete(light.ravel(), 2 * SIDE + 17))) == 1


def test_all_maps_have_one_scale() -> None:
    lights = [pixels_of(spot(0, 0, times))[0, 0].sum() for times in (0, 1, 4, MOST, 2 * MOST)]
    assert lights[:-1] == sorted(set(lights[:-1]))
    assert lights[-1] == lights[-2]


@pytest.mark.parametrize(
    ("grid", "words"),
    [
        (spot(0, 17, MOST, 3), "most in the top right corner"),
        (spot(17, 1, MOST, 3), "most in the bottom left corner"),
        (spot(9, 0, MOST, 3), "most at the left edge"),
        (spot(1, 9, MOST, 3), "most at the top edge"),
        (spot(9, 9, MOST, 3), "most in the centre"),
        (spot(0, 0, 1), "spread over the picture"),
        ([[0.0] * SIDE] * SIDE, "none"),
        ([[1.0]], "spread over the picture"),
    ],
)
def test_a_map_in_words(grid: Grid, words: str) -> None:
    assert in_words(np.asarray(grid)) == words
    assert mean_map(grid, 1200).attrib["alt"] == f"mean heat of 1,200 images: {words}"
    assert mean_map(grid, 1).attrib["alt"] == f"mean heat of 1 image: {words}"


def test_the_outline_goes_around_the_region() -> None:
    region = np.zeros((SIDE, SIDE))
    region[0:2, 17:20] = 1
    made = outlined_map(spot(0, 19), 3, region.tolist())
    (path, _) = made.iter("path")
    edges = re.findall("M[^M ]+ [^M ]+", path.attrib["d"])
    assert len(edges) == len(set(edges)) == 2 * (2 + 3)
    assert {"M17 0h1", "M17 0v1", "M20 1v1", "M19 2h1"} <= set(edges)
    assert not [*outlined_map(spot(0, 19), 3, None).iter("path")]


@pytest.mark.parametrize(
    ("mean", "low", "high", "in_percent", "in_decimals"),
    [
        (0.842, 0.801, 0.88, "84% [80, 88]", "0.84 [0.80, 0.88]"),
        (0.95, 0.84, 1.06, "95% [84, 100]", "0.95 [0.84, 1.06]"),
        (1.0, None, None, "100%", "1.00"),
    ],
)
def test_estimates_in_words(
    mean: float, low: float | None, high: float | None, in_percent: str, in_decimals: str
) -> None:
    estimate = {"mean": mean, "low": low, "high": high, "images": 9}
    assert percent(estimate) == in_percent
    assert decimal(estimate) == in_decimals


def test_nothing_is_a_dash() -> None:
    assert percent(None) == decimal(None) == number(None)
    assert len(number(None)) == 1


@pytest.mark.parametrize(
    ("value", "control", "low", "high", "crosses"),
    [(0.7, 0.1, 0.5, 0.7, False), (0.2, 0.15, -0.1, 0.2, True), (-0.3, 0.2, -0.7, -0.3, False)],
)
def test_the_interval_crosses_the_control_where_there_may_be_no_difference(
    value: float, control: float, low: float, high: float, crosses: bool
) -> None:
    test = {"value": value, "control": control, "low": low, "high": high}
    bar = range_bar(test)
    places = {
        one.attrib["class"]: [
            float(one.attrib[x].rstrip("%")) for x in ("x1", "x2", "cx") if x in one.attrib
        ]
        for one in bar
    }
    (dot,), (stroke, _), (start, end) = (places[name] for name in ("value", "control", "interval"))
    assert (start <= stroke <= end) == crosses
    assert start < dot < end
    assert (dot > stroke) == (value > control)
    assert all(0 <= place <= 100 for ends in places.values() for place in ends)
    assert re.fullmatch(r"-?[\d.]+ \[-?[\d.]+, -?[\d.]+\]", difference(test))


def test_a_bar_without_an_interval() -> None:
    test = {"value": 0.5, "control": 0.5, "low": None, "high": None}
    assert {one.attrib["class"] for one in range_bar(test)} == {"axis", "control", "value"}
    assert difference(test) == "0.00"
