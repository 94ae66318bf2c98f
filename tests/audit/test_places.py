"""Places in the network's frame."""

from __future__ import annotations

import math

import numpy as np
import pytest

from camcli.audit.places import AREAS, REGIONS, SHARES, place_name, shares_of
from camcli.runs.grids import SIDE


def test_even_heat_has_the_areas_and_full_entropy() -> None:
    found = shares_of(np.full((SIDE, SIDE), 1 / SIDE**2))
    assert found == pytest.approx(AREAS | {"entropy": 1.0})
    assert pytest.approx({"border": 0.36, "corners": 0.25, "centre": 0.25}) == AREAS


def test_heat_in_one_cell_has_no_entropy() -> None:
    heat = np.zeros((SIDE, SIDE))
    heat[0, -1] = 1
    assert shares_of(heat) == {"border": 1, "corners": 1, "centre": 0, "entropy": 0}


def test_no_heat_has_no_shares() -> None:
    assert [*shares_of(None)] == [*SHARES]
    assert all(map(math.isnan, shares_of(None).values()))


@pytest.mark.parametrize(
    ("cells", "name"),
    [
        (np.s_[:4, -4:], "top right corner"),
        (np.s_[-3:, :5], "bottom left corner"),
        (np.s_[:3, :], "top edge"),
        (np.s_[4:16, :3], "left edge"),
        (np.s_[8:12, 8:12], "centre"),
    ],
)
def test_places_have_names(cells: tuple[slice, slice], name: str) -> None:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[cells] = True
    assert place_name(mask) == name


def test_a_ring_is_the_border() -> None:
    assert place_name(REGIONS["border"]) == "border"
    assert place_name(REGIONS["centre"]) == "centre"


def test_scattered_parts_are_several_places() -> None:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[2:4, 2:4] = mask[9:11, 2:4] = mask[14:16, 12:14] = True
    assert place_name(mask) == "several places"
