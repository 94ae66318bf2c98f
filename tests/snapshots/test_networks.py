"""Results of two networks: pairs of rows, and their maps on a common grid."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from camcli.errors import CamcliError
from camcli.snapshots.networks import Contrast, contrasts
from tests.support.files import manifest
from tests.support.snapshots import PEAK, write_output, write_rows

Array = NDArray[np.float64]
WHOLE = [0, 0, 90, 60]
A_CROP, B_CROP = [15, 0, 75, 60], [0, 0, 90, 60]


def only(a: Path, b: Path) -> Contrast:
    (found,) = contrasts(a, b)
    return found


def compared(tmp_path: Path, a: Any, b: Any, a_row: Any = (), b_row: Any = ()) -> Contrast:
    """Compare two maps of one image, with fields of their rows."""
    folders = [
        write_output(tmp_path / name, {"x.jpg": values}, **{"crop": WHOLE} | dict(fields))
        for name, values, fields in (("a", a, a_row), ("b", b, b_row))
    ]
    return only(*folders)


def sampled(values: Array, crop: list[int], box: list[int], fine: int = 320) -> Array:
    """Return a map on a grid (20,20) over a box: means of points interpolated one by one."""
    height, width = values.shape
    x = box[0] + (np.arange(fine) + 0.5) / fine * (box[2] - box[0])
    y = box[1] + (np.arange(fine) + 0.5) / fine * (box[3] - box[1])
    xs = crop[0] + (np.arange(width) + 0.5) / width * (crop[2] - crop[0])
    ys = crop[1] + (np.arange(height) + 0.5) / height * (crop[3] - crop[1])
    rows = np.stack([np.interp(x, xs, row) for row in values])
    points = np.stack([np.interp(y, ys, column) for column in rows.T], axis=1)
    return points.reshape(20, fine // 20, 20, fine // 20).mean((1, 3))


def test_correlation_and_shift_against_numpy(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    a, b = (rng.random(shape).astype(np.float32).astype(float) for shape in ((5, 7), (9, 8)))
    found = compared(tmp_path, a, b, {"crop": A_CROP}, {"crop": B_CROP})
    box = [15, 0, 75, 60]
    ours, theirs = sampled(a, A_CROP, box), sampled(b, B_CROP, box)
    correlation = np.corrcoef(ours.ravel(), theirs.ravel())[0, 1]
    assert found.correlation == pytest.approx(correlation, abs=1e-5)  # places have six digits
    place = np.unravel_index(theirs.argmax(), theirs.shape)
    hottest = np.argwhere(ours >= 0.98 * ours.max())
    assert found.shift == pytest.approx(np.hypot(*(hottest - place).T).min() / 20)


def test_the_shift_is_a_share_of_the_longer_side(tmp_path: Path) -> None:
    """Move a peak by two of ten cells, each 90 pixels wide and 6 high."""
    a = np.zeros((10, 10))
    a[4, 4] = 1
    for moved, shift in ((np.roll(a, 2, axis=1), 0.2), (np.roll(a, 2, axis=0), 0.2 * 6 / 90)):
        fields = {"crop": [0, 0, 900, 60]}
        found = compared(tmp_path, a, moved, fields, fields)
        assert found.shift == pytest.approx(shift)


def bump(x: Array, y: Array) -> Array:
    return np.asarray(np.exp(-((x - 50) ** 2 + (y - 25) ** 2) / 600) + 0.2 * np.sin(x / 15))


def of_image(shape: tuple[int, int], centres: tuple[float, float, float, float]) -> Array:
    """Return a map whose cells are the values of `bump` at their centres."""
    x, y, dx, dy = centres
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return bump(x + dx * columns, y + dy * rows)


@pytest.mark.parametrize(
    ("shape", "crop", "cells"),
    [
        ((13, 13), WHOLE, None),
        ((20, 30), A_CROP, None),
        ((9, 12), [10, 5, 90, 60], None),
        ((14, 14), WHOLE, [2.0, 1.0, 6.6, 4.4]),
    ],
)
def test_maps_of_the_same_content_correlate_whatever_their_layout(
    shape: tuple[int, int], crop: list[int], cells: Any, tmp_path: Path
) -> None:
    width, height = (crop[2] - crop[0]) / shape[1], (crop[3] - crop[1]) / shape[0]
    parts = (crop[0] + width / 2, crop[1] + height / 2, width, height)
    a = of_image((60, 90), (0.5, 0.5, 1, 1))
    found = compared(
        tmp_path, a, of_image(shape, cells or parts), (), {"crop": crop, "cells": cells}
    )
    assert found.correlation is not None
    assert found.correlation > 0.985
    assert found.shift is not None
    assert found.shift <= 0.06


def test_cells_are_taken_into_account(tmp_path: Path) -> None:
    """Without its cells, a map of the middle of the image would seem stretched over all of it."""
    cells = [25, 0.5, 60 / 6, 59 / 6]
    values, whole = of_image((7, 7), tuple(cells)), of_image((60, 90), (0.5, 0.5, 1, 1))  # type: ignore[arg-type]
    placed = compared(tmp_path / "1", whole, values, (), {"cells": cells}).correlation
    parts = compared(tmp_path / "2", whole, values).correlation
    assert placed is not None
    assert parts is not None
    assert placed > 0.9 > parts + 0.05


def test_images_of_gradients_count_by_the_sum_of_their_absolute_values(tmp_path: Path) -> None:
    signs = np.where(np.mgrid[:9, :9].sum(0) % 2, 1, -1)
    gradients = np.stack([PEAK * signs, -PEAK, PEAK * 0])
    found = compared(tmp_path, PEAK, gradients)
    assert found.correlation == pytest.approx(1)
    assert found.shift == 0


@pytest.mark.parametrize("scale", [1e-300, 1e300, 0.01])
def test_the_unit_of_a_map_does_not_matter(scale: float, tmp_path: Path) -> None:
    a, b = (write_output(tmp_path / name, {"x.jpg": PEAK}, crop=WHOLE) for name in "ab")
    np.save(b / "x.gradcam.npy", PEAK * scale)
    assert only(a, b).correlation == pytest.approx(1)


@pytest.mark.parametrize("flat", [PEAK * 0, PEAK * 0 + 3])
def test_a_flat_map_has_no_correlation(flat: Array, tmp_path: Path) -> None:
    for maps in ((flat, PEAK), (PEAK, flat), (flat, flat)):
        found = compared(tmp_path, *maps)
        assert (found.correlation, found.shift, found.note) == (None, None, None)


NAN = np.where(PEAK > 0.99, np.nan, PEAK)


@pytest.mark.parametrize(
    ("b", "fields", "note"),
    [
        (None, {}, "failed in B"),
        (PEAK, {"map": None}, "no map saved in B"),
        (PEAK, {"crop": None}, "no crop in the row of B"),
        (PEAK, {"crop": [5, 5, 5, 9]}, "no crop in the row of B"),
        (PEAK, {"crop": [100, 0, 200, 60]}, "no part of the image that both saw"),
        (PEAK, {"size": [91, 60]}, "images of other sizes or frames"),
        (PEAK, {"frame": 2}, "images of other sizes or frames"),
        (PEAK, {"map": "gone.npy"}, "map of B not readable (No such file or directory)"),
        (PEAK[:0], {}, "map of B not readable (it is empty)"),
        (NAN, {}, "map of B has cells that are not finite"),
        (PEAK * np.inf, {}, "map of B has cells that are not finite"),
        (np.stack([PEAK] * 4), {"words": [["a", 0.5]] * 4}, "maps of words"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # of the map that is written
def test_maps_that_cannot_be_compared_have_the_reason(
    b: Any, fields: dict[str, Any], note: str, tmp_path: Path
) -> None:
    found = compared(tmp_path, PEAK, b, {"size": [90, 60], "frame": 1}, fields)
    assert (found.note, found.correlation, found.shift) == (note, None, None)


def test_rows_of_a_then_rows_that_only_b_has(tmp_path: Path) -> None:
    """The layers of both may have other names."""
    a = write_output(tmp_path / "a", dict.fromkeys(("2", "1", "3"), PEAK), crop=WHOLE, layer="x")
    b = write_output(tmp_path / "b", dict.fromkeys(("4", "3", "2"), PEAK), crop=WHOLE, layer="y")
    found = [(one.a and one.a["image"], one.b and one.b["image"]) for one in contrasts(a, b)]
    assert found == [("2", "2"), ("1", None), ("3", "3"), (None, "4")]


@pytest.mark.parametrize("name", ["c", "d"])
def test_folders_that_cannot_be_compared(name: str, tmp_path: Path) -> None:
    a = write_output(tmp_path / "a", {"1": PEAK})
    write_output(tmp_path / "c", {"2": PEAK})
    message = {"c": r"no result of '.*a' is in '.*c': expected", "d": r"'.*d' has no readable"}[
        name
    ]
    with pytest.raises(CamcliError, match=message):
        contrasts(a, tmp_path / name)


CAT, DOG = ({"class_index": 0, "class_name": "cat"}, {"class_index": 1, "class_name": "dog"})


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (CAT, DOG, False),
        (CAT, CAT, True),
        (CAT, DOG | {"class_name": "cat"}, True),
        (CAT, CAT | {"class_name": "dog"}, False),
        (CAT, CAT | {"class_name": None}, True),
        (CAT | {"class_name": None}, DOG | {"class_name": None}, False),
        (CAT, {"class_index": None, "class_name": None}, None),
        (CAT, {"class_index": None, "class_name": "a cat"}, False),
    ],
)
def test_classes_are_compared_by_name_or_else_by_index(
    a: dict[str, Any], b: dict[str, Any], same: bool | None, tmp_path: Path
) -> None:
    found = compared(tmp_path, PEAK, PEAK, a, b)
    assert (found.same_class, found.same_explained) == (same, same)
    swapped = compared(tmp_path, PEAK, PEAK, b, a)
    assert (swapped.same_class, swapped.same_explained) == (same, same)


def test_the_predicted_class_is_not_the_explained_one(tmp_path: Path) -> None:
    best = {"predicted_index": 1, "predicted_name": "dog", "confidence": 0.5, "target": "cat"}
    found = compared(tmp_path, PEAK, PEAK, CAT | best, CAT | best | {"predicted_name": "fox"})
    assert (found.same_class, found.same_explained) == (False, True)
    assert [str(label) for label in found.predicted] == ["dog 50%", "fox 50%"]
    old = compared(tmp_path, PEAK, PEAK, CAT | {"target": "cat"}, CAT | {"target": "cat"})
    assert (old.same_class, old.predicted) == (None, (None, None))


def test_the_strongest_disagreement_comes_first(tmp_path: Path) -> None:
    """One network right, then other classes, then the same class, by ascending correlation."""
    moved = {n: np.roll(PEAK, n, 0) for n in range(4)}
    facts: list[tuple[str, Any, Any, Any, Any]] = [
        ("a is right, like", "cat", "dog", (True, False), 0),
        ("b is right, unlike", "cat", "dog", (False, True), 3),
        ("both wrong, like", "cat", "dog", (False, False), 0),
        ("same, unlike", "cat", "cat", (True, True), 2),
        ("same, like", "cat", "cat", (True, True), 1),
        ("same, flat", "cat", "cat", (None, None), None),
    ]
    for side, folder in enumerate((tmp_path / "a", tmp_path / "b")):
        maps = {f"{name}.jpg": PEAK * 0 if n is None else moved[n * side] for name, *_, n in facts}
        write_output(folder, maps, crop=WHOLE)
        rows = manifest(folder)
        for row, (_, *names, correct, _) in zip(rows, facts, strict=True):
            row |= {"class_name": names[side], "correct": correct[side]}
        write_rows(folder, rows)
    found = sorted(contrasts(tmp_path / "a", tmp_path / "b"), key=lambda one: one.rank)
    order = [facts[n][0] for n in (1, 0, 2, 3, 4, 5)]
    assert [one.row["image"] for one in found] == [f"{name}.jpg" for name in order]


@pytest.mark.parametrize(
    "damage",
    [
        lambda row: row | {"crop": [0, 0, 2**53, 1]},
        lambda row: row | {"cells": [1e308, 1e308, 1e-308, 1e-308]},
        lambda row: row | {"cells": [0, 0, 1e308, 1e308]},
        lambda row: row | {"cells": [-1e308, 0, 1e-300, 1]},
        lambda row: row | {"size": [0, 0]},
    ],
)
def test_numbers_that_make_no_sense_give_no_nan(
    damage: Callable[[dict[str, Any]], dict[str, Any]], tmp_path: Path
) -> None:
    a, b = (write_output(tmp_path / name, {"x.jpg": PEAK}, crop=WHOLE) for name in "ab")
    (b / "manifest.jsonl").write_text(json.dumps(damage(manifest(b)[0])) + "\n")
    for folders in ((a, b), (b, a), (b, b)):
        found = only(*folders)
        for value in (found.correlation, found.shift):
            assert value is None or np.isfinite(value)
