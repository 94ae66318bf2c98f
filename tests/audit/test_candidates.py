"""Candidates for shortcuts, and their controls."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import fisher_exact

from camcli.audit import candidates
from camcli.audit.candidates import Candidate, find_candidates, region_of
from camcli.audit.groups import find_groups
from camcli.audit.read import Coverage, read_samples
from camcli.images.geometry import Box
from camcli.runs.grids import SIDE, area_of
from tests.support.audit import Map, fixed, scattered, write_heat

Results = list[tuple[dict[str, object], Map]]


def _found(folder: Path, rows: Results, coverage: Coverage | None = None) -> list[Candidate]:
    samples = read_samples(write_heat(folder, rows), coverage=coverage)
    return find_candidates(samples, [find_groups(samples, n) for n in samples.by_class])


def _classes(count: int, seed: int, images: int = 40) -> Results:
    """Return results of classes whose heat is at random places."""
    return [
        row
        for label in range(count)
        for row in scattered(f"class{label}", label, images, seed * 10 + label)
    ]


def test_heat_in_a_corner_of_one_class_is_a_candidate(tmp_path: Path) -> None:
    (found,) = _found(tmp_path, [*_classes(3, 0), *fixed("z", 3, 40, (0.9, 0.1))])
    assert (found.label, found.group, found.place) == (3, None, "top right corner")
    (test,) = found.tests
    assert test.passed
    assert test.value == 1
    assert test.control < 0.1
    assert test.low <= test.value - test.control <= test.high


@pytest.mark.parametrize("share", [0.5, 0.3])
def test_heat_in_a_corner_of_some_images_is_a_candidate(tmp_path: Path, share: float) -> None:
    planted = round(60 * share)
    rows = [*_classes(3, 1, 60), *fixed("z", 3, planted, (0.9, 0.1))]
    rows += scattered("z", 3, 60 - planted, 5, planted)
    found = _found(tmp_path, rows)
    assert [(one.label, one.place) for one in found] == [(3, "top right corner")]
    assert found[0].tests[0].value == pytest.approx(share, abs=0.1)


def test_classes_whose_heat_is_anywhere_have_no_candidates(tmp_path: Path) -> None:
    """Of thirty folders without a shortcut, one may have a candidate."""
    found = [_found(tmp_path / str(seed), _classes(4, seed)) for seed in range(30)]
    assert sum(map(bool, found)) <= 1


def test_two_classes_may_have_the_same_shortcut(tmp_path: Path) -> None:
    rows = [*_classes(11, 0, 20), *fixed("y", 11, 20, (0.9, 0.1)), *fixed("z", 12, 20, (0.9, 0.1))]
    found = _found(tmp_path, rows)
    places = {(one.label, one.place) for one in found}
    assert places == {(11, "top right corner"), (12, "top right corner")}


def test_a_planted_class_makes_no_other_class_suspicious(tmp_path: Path) -> None:
    """Most heat of three classes is in the centre, and that of the fourth never."""
    rows = [
        row
        for label in range(3)
        for row in (
            *fixed(f"class{label}", label, 20, (0.5, 0.5)),
            *scattered(f"class{label}", label, 20, label, 20),
        )
    ]
    found = _found(tmp_path, [*rows, *fixed("z", 3, 40, (0.9, 0.1))])
    assert [(one.label, one.place) for one in found] == [(3, "top right corner")]


def test_a_place_that_all_classes_share_is_no_candidate(tmp_path: Path) -> None:
    rows = [row for label in range(3) for row in fixed(f"c{label}", label, 30, (0.5, 0.5))]
    assert _found(tmp_path, rows) == []


def test_one_class_has_no_control(tmp_path: Path) -> None:
    assert _found(tmp_path, [*fixed("z", 0, 30, (0.9, 0.1))]) == []


def _objects(*boxes: Box) -> Coverage:
    """Return the coverage by boxes that all images share."""
    return lambda row, crop: area_of(boxes, crop)


def test_heat_on_the_objects_is_no_candidate(tmp_path: Path) -> None:
    """A class whose objects are always in a corner has its heat there for a good reason."""
    rows = [*_classes(3, 0), *fixed("z", 3, 40, (0.9, 0.1))]
    on = _found(tmp_path / "on", rows, _objects((70, 0, 100, 30)))
    assert 3 not in [one.label for one in on]
    off = _found(tmp_path / "off", rows, _objects((0, 50, 50, 100)))
    assert (3, "top right corner") in [(one.label, one.place) for one in off]


def _box_at_heat(shift: float) -> Coverage:
    """Return the coverage by a box around the hottest point, or moved away from it."""

    def covered(row: dict[str, object], crop: object) -> np.ndarray:
        values = np.load(str(row["file"]))
        y, x = (10 * place + 5 for place in np.unravel_index(values.argmax(), values.shape))
        x = (x + shift) % 100
        return area_of([(x - 15, y - 15, x + 15, y + 15)], crop)  # type: ignore[arg-type]

    return covered  # type: ignore[return-value]


@pytest.mark.parametrize(("shift", "count"), [(0, 0), (50, 2)])
def test_heat_outside_of_the_objects_is_a_candidate(
    tmp_path: Path, shift: float, count: int
) -> None:
    rows = [
        (row | {"file": str(tmp_path / str(row["map"]))}, values) for row, values in _classes(2, 3)
    ]
    found = [one for one in _found(tmp_path, rows, _box_at_heat(shift)) if one.region is None]
    assert [one.place for one in found] == ["outside the object"] * count
    assert all(one.tests[0].value < one.tests[0].control + 0.05 for one in found)


@pytest.mark.parametrize("counts", [(9, 3), (5, 5), (20, 0)])
def test_the_test_is_fishers(counts: Sequence[int]) -> None:
    sizes = 20, 60
    table = [[counts[0], sizes[0] - counts[0]], [counts[1], sizes[1] - counts[1]]]
    expected = fisher_exact(table, alternative="greater")[1]
    assert candidates._fisher(counts, sizes) == pytest.approx(expected)


def test_a_region_is_where_most_of_the_excess_is() -> None:
    excess = np.zeros((SIDE, SIDE))
    excess[:4, :5], excess[10, 10] = 1, 0.3
    found = region_of(excess)
    assert found is not None
    assert found.sum() == 20
    assert region_of(-excess) is None


def test_a_region_leaves_room_for_its_control() -> None:
    excess = np.random.default_rng(0).uniform(0.9, 1, (SIDE, SIDE))
    found = region_of(excess)
    assert found is not None
    assert found.mean() <= candidates.LARGEST_REGION + 0.01
