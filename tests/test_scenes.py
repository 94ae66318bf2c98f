"""Run the measurement of methods for transformers with little work."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.scenes import detectors, tokens

pytestmark = pytest.mark.scenes


def test_the_table_has_each_method_and_both_controls(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    arguments = ["--count", "4", "--steps", "2", "--method", "hirescam", "--keep", str(tmp_path)]
    shown = CliRunner().invoke(tokens.main, arguments, catch_exceptions=False).output
    for name in tokens.NETWORKS:
        assert name in shown
        found = json.loads((tmp_path / f"{name}-quality" / "metrics.json").read_text())
        for method in ("hirescam", "random", "centre"):
            assert found["metrics"]["pointing"]["rows"][method]["mean"] is not None
            assert f"| `{method}` |" in shown


def test_each_object_of_a_scene_has_a_shot() -> None:
    seen = detectors.same_shapes(3, seed=5)
    assert all(len({thing.shape for thing in one.things}) == 1 for one in seen)
    shots = detectors.of_objects(detectors.trained(1), seen, ["hirescam"])["hirescam"]
    assert [(shot.scene, shot.about) for shot in shots] == [
        (i, k) for i in range(3) for k in (0, 1)
    ]
