"""Maps as the page holds them."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import pytest

from camcli.errors import CamcliError
from camcli.report.maps import cells_per_map, pack_map


def test_cells_per_map_follow_the_budget() -> None:
    assert cells_per_map([196] * 30_000, 32_000_000) == 196
    assert cells_per_map([], 99) == 1
    shared = cells_per_map([100] * 50 + [50_000] * 50, 1_000_000)
    assert 50 * 100 + 50 * shared <= 1_000_000 * 3 / 16 < 50 * 100 + 50 * (shared + 1)


@pytest.mark.parametrize("shape", [(8, 12), (1, 500), (500, 1), (3, 400), (224, 224)])
def test_large_maps_are_reduced_to_means(shape: tuple[int, int], tmp_path: Path) -> None:
    values = np.random.default_rng(0).random(shape, np.float32)
    np.save(tmp_path / "map.npy", values)
    packed = pack_map(tmp_path / "map.npy", 24)
    assert packed is not None
    rows, columns = packed.shape
    assert rows * columns <= 24
    assert packed.saved_shape == shape
    assert (packed.min, packed.max) == (values.min(), values.max())
    small = np.frombuffer(base64.b64decode(packed.values), "<f4")
    assert small.size == rows * columns
    assert small.mean() == pytest.approx(values.mean(), abs=0.02)
    if shape == (8, 12):
        blocks = values.reshape(rows, 8 // rows, columns, 12 // columns).mean((1, 3))
        assert np.allclose(small.reshape(packed.shape), blocks, atol=1e-6)


def test_images_of_gradients_are_not_packed(tmp_path: Path) -> None:
    np.save(tmp_path / "map.npy", np.zeros((3, 9, 9), np.float32))
    assert pack_map(tmp_path / "map.npy", 99) is None


@pytest.mark.parametrize(
    "values",
    [np.array([{}], object), np.zeros(3), np.zeros((0, 3)), np.array("text")],
    ids=["pickled object", "one dimension", "no rows", "text"],
)
def test_files_that_hold_no_map(values: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "map.npy", values, allow_pickle=True)
    with pytest.raises(CamcliError, match="map not readable"):
        pack_map(tmp_path / "map.npy", 99)


def test_the_range_is_of_finite_values(tmp_path: Path) -> None:
    np.save(tmp_path / "map.npy", np.array([[1, np.nan], [np.inf, 3]], np.float32))
    packed = pack_map(tmp_path / "map.npy", 99)
    assert packed is not None
    assert (packed.min, packed.max) == (1, 3)
