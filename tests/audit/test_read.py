"""Reading the samples of an output folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from camcli.audit.read import Selection, read_samples
from camcli.errors import CamcliError
from camcli.images.geometry import Crop
from camcli.runs.grids import heat_of, on_grid
from tests.support.audit import blob, result, write_heat


def test_samples_are_what_rows_say(tmp_path: Path) -> None:
    rows = [
        result("b/1.png", blob(0.2, 0.2), confidence=0.9),
        result("a/1.png", blob(0.8, 0.5), predicted_name="b", correct=False, top5=None,
               class_index=1, true_index=0),
        result("a/2.png", -blob(0.8, 0.5)),
    ]  # fmt: skip
    found = read_samples(write_heat(tmp_path, rows))
    assert found.key == ("gradcam", "pred", "last")
    assert (found.classes, found.names) == (["a", "b"], ["a", "b"])
    np.testing.assert_array_equal(found.labels, [1, 0, 0])
    np.testing.assert_array_equal(found.predicted, [1, 1, 0])
    np.testing.assert_array_equal(found.correct, [True, False, True])
    np.testing.assert_array_equal(found.top5, [1, np.nan, 1])
    np.testing.assert_array_equal(found.confidence, [0.9, 0.8, 0.8])
    np.testing.assert_array_equal(found.heated, [True, True, False])
    assert [*map(list, found.by_class)] == [[1, 2], [0]]
    assert found.left_out == {"no positive heat": 1}
    assert found.images([2, 0]) == ["a/2.png", "b/1.png"]


def test_heat_is_that_of_the_maps(tmp_path: Path) -> None:
    maps = [blob(0.2, 0.3), blob(0.7, 0.9)]
    found = read_samples(write_heat(tmp_path, [*map(result, ("a/1", "a/2"), maps)]))
    expected = [heat_of(on_grid(values, Crop(0, 0, 100, 100))) for values in maps]
    np.testing.assert_allclose(found.heat, np.stack(expected), rtol=1e-3, atol=1e-6)  # type: ignore[arg-type]
    np.testing.assert_allclose(
        found.mean_heat(np.array([0, 1])), np.mean(expected, 0), rtol=1e-3, atol=1e-6  # type: ignore[arg-type]
    )  # fmt: skip
    assert [*found.peak] == [heat.argmax() for heat in expected if heat is not None]


def test_a_label_of_several_classes_keeps_all_that_were_seen(tmp_path: Path) -> None:
    rows = [
        result("dog/1", blob(0.5, 0.5), true_index=151, predicted_index=151),
        result("dog/2", blob(0.5, 0.5), true_index=200, predicted_index=200),
        result("dog/3", blob(0.5, 0.5), true_index=151, predicted_index=7, correct=False),
    ]
    assert read_samples(write_heat(tmp_path, rows)).indices == [frozenset({151, 200})]


def test_results_that_are_left_out_are_counted(tmp_path: Path) -> None:
    rows = [
        result("a/1", blob(0.5, 0.5)),
        result("a/2", blob(0.5, 0.5), true_name=None, true_index=None, correct=None),
        result("a/3", None, status="error", layer=None),
        result("a/4", blob(0.5, 0.5), method="cam"),
    ]
    found = read_samples(write_heat(tmp_path, rows), Selection(method="gradcam"))
    assert len(found) == 1
    assert found.left_out == {"no true class": 1, "failed": 1}


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"method": "cam"}, "2 methods, targets or layers (gradcam pred last; cam pred last)"),
        ({"target": "true"}, "choose one with --method, --target and --layer"),
        ({"map": None}, "no map of a/2: expected camcli explain --save map"),
        ({"crop": None}, "no map of a/2"),
    ],
)
def test_results_that_do_not_fit_are_one_line(
    tmp_path: Path, facts: dict[str, Any], message: str
) -> None:
    other, values = result("a/2", blob(0.5, 0.5), **facts)
    rows = [result("a/1", blob(0.5, 0.5)), (other, values if other["map"] else None)]
    with pytest.raises(CamcliError) as raised:
        read_samples(write_heat(tmp_path, rows))
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_folder_without_truth_is_refused(tmp_path: Path) -> None:
    write_heat(tmp_path, [result("a/1", blob(0.5, 0.5), true_name=None, correct=None)])
    with pytest.raises(CamcliError, match=r"no result with a true class \(1 no true class\)"):
        read_samples(tmp_path)


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CamcliError, match=r"has no readable manifest\.jsonl"):
        read_samples(tmp_path)


def test_a_damaged_map_is_one_line(tmp_path: Path) -> None:
    write_heat(tmp_path, [result("a/1", blob(0.5, 0.5))])
    (tmp_path / "a/1.npy").write_bytes(b"no map")
    with pytest.raises(CamcliError, match=r"a/1\.npy' not readable"):
        read_samples(tmp_path)
