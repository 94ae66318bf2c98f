"""Verdicts and reasons for results in two output folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from camcli.snapshots import tables
from camcli.snapshots.compare import Comparison, compare
from camcli.snapshots.measures import Tolerance
from tests.support.files import manifest
from tests.support.snapshots import PEAK, verdicts, write_output, write_rows


@pytest.mark.parametrize(
    ("new", "reasons"),
    [
        (PEAK, ()),
        (PEAK * 1.009, ()),
        (PEAK * 1.02, ("values",)),
        (PEAK + 0.02 * (np.arange(81).reshape(9, 9) == 40), ("values",)),
        (np.roll(PEAK, 2, axis=1), ("values", "correlation", "hottest point")),
        (1 - PEAK, ("values", "correlation", "hottest point")),
        (PEAK[:7], ("shape 9x9 -> 7x9",)),
        (PEAK * 0, ("values", "correlation")),
        (np.where(PEAK > 0.9, np.nan, PEAK), ("NaN or infinity 0 cells -> 1 cells",)),
        (None, ("status ok -> error",)),
    ],
)
def test_reasons_for_a_changed_map(new: Any, reasons: tuple[str, ...], tmp_path: Path) -> None:
    folders = [
        write_output(tmp_path / name, {"a.jpg": values})
        for name, values in (("new", new), ("old", PEAK))
    ]
    assert verdicts(*folders) == {"a.jpg": ("changed" if reasons else "alike", *reasons)}


@pytest.mark.parametrize(
    "values",
    [
        *(np.zeros((5, 5)), np.full((5, 5), 3.0), np.ones((1, 1)), np.zeros((0, 3))),
        *(np.where(PEAK > 0.9, np.nan, PEAK), np.where(PEAK > 0.9, -np.inf, PEAK), PEAK * 1e-30),
        *(np.full((3, 3), np.nan), np.stack([PEAK, -PEAK, PEAK * 0]), None),
    ],
    ids=str,
)
def test_any_map_is_alike_to_itself_without_a_warning(values: Any, tmp_path: Path) -> None:
    new, old = (write_output(tmp_path / name, {"a.b": values}) for name in ("new", "old"))
    strict = {"atol": 0, "rtol": 0, "min_correlation": 1 - 1e-9, "max_shift": 0}
    assert verdicts(new, old, **strict) == {"a.b": ("alike",)}


def test_map_against_a_zero_or_flat_baseline(tmp_path: Path) -> None:
    new = {"zero.jpg": PEAK, "flat.jpg": PEAK, "noise.jpg": PEAK * 1e-8}
    old = {"zero.jpg": PEAK * 0, "flat.jpg": PEAK * 0 + 2, "noise.jpg": PEAK * 0}
    assert verdicts(write_output(tmp_path / "new", new), write_output(tmp_path / "old", old)) == {
        "zero.jpg": ("changed", "values", "correlation"),
        "flat.jpg": ("changed", "values", "correlation"),
        "noise.jpg": ("alike",),
    }


def test_infinities_of_opposite_sign_differ(tmp_path: Path) -> None:
    up, down = (np.where(PEAK > 0.9, sign * np.inf, PEAK) for sign in (1, -1))
    new = write_output(tmp_path / "new", {"a.b": up})
    old = write_output(tmp_path / "old", {"a.b": down})
    assert verdicts(new, old) == {"a.b": ("changed", "NaN or infinity 1 cells -> 1 cells")}


def test_missing_extra_and_changed_rows(tmp_path: Path) -> None:
    dog = {"class_index": 4, "class_name": "dog"}
    new = write_output(tmp_path / "new", {"b.jpg": PEAK, "c.jpg": PEAK}, **dog)
    old = write_output(tmp_path / "old", {"a.jpg": PEAK, "b.jpg": PEAK})
    assert verdicts(new, old) == {
        "a.jpg": ("missing", "missing"),
        "b.jpg": ("changed", "class cat -> dog"),
        "c.jpg": ("extra", "extra"),
    }


def test_unreadable_map_is_a_reason(tmp_path: Path) -> None:
    new, old = (write_output(tmp_path / name, {"b.jpg": PEAK}) for name in ("new", "old"))
    (old / "b.gradcam.npy").write_bytes(b"not a map")
    _, reason = verdicts(new, old)["b.jpg"]
    assert "b.gradcam.npy not readable" in reason
    (new / "b.gradcam.npy").unlink()
    _, reason = verdicts(new, old)["b.jpg"]
    assert "not readable (No such file or directory)" in reason


def write_layers(folder: Path, *layers: str) -> Path:
    """Write an output folder with one result at each layer; the maps differ by a factor."""
    rows = []
    for layer in layers:
        write_output(folder / layer, {f"{layer}.jpg": PEAK * len(layer)})
        (row,) = manifest(folder / layer)
        rows.append(row | {"image": "a.jpg", "layer": layer, "map": f"{layer}/{row['map']}"})
    write_rows(folder, rows)
    return folder


def compare_layers(tmp_path: Path, new: list[str], old: list[str]) -> list[Comparison]:
    folders = write_layers(tmp_path / "new", *new), write_layers(tmp_path / "old", *old)
    return compare(*folders, Tolerance())


def test_several_layers_are_paired_by_name(tmp_path: Path) -> None:
    found = compare_layers(tmp_path, ["three", "one"], ["one", "three"])
    assert [(one.layer, one.verdict) for one in found] == [("one", "alike"), ("three", "alike")]


def test_missing_layer_is_shown_with_its_name(tmp_path: Path) -> None:
    found = compare_layers(tmp_path, ["one"], ["one", "three"])
    assert [(one.layer, one.verdict) for one in found] == [("one", "alike"), ("three", "missing")]
    assert "gradcam three" in tables.difference_table(found)


def test_a_single_layer_is_compared_with_another_one(tmp_path: Path) -> None:
    (found,) = compare_layers(tmp_path, ["three"], ["one"])
    assert found.reasons == ("layer one -> three", "values")


def test_another_crop_is_named_where_the_map_changed(tmp_path: Path) -> None:
    new = write_output(tmp_path / "new", {"a.jpg": PEAK * 2, "b.jpg": PEAK}, crop=[0, 0, 9, 9])
    old = write_output(tmp_path / "old", {"a.jpg": PEAK, "b.jpg": PEAK}, crop=[1, 0, 8, 9])
    reason = "crop [1, 0, 8, 9] -> [0, 0, 9, 9]"
    assert verdicts(new, old) == {"a.jpg": ("changed", reason, "values"), "b.jpg": ("alike",)}
