"""Run the measurement of methods for transformers with little work."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from camcli.engine.explain import explain
from camcli.engine.language.prompts import question as ask
from tests.scenes import answers, detectors, tokens
from tests.scenes.blips import VOCABULARY
from tests.scenes.drawing import normalised, questions, scenes

pytestmark = pytest.mark.scenes


def test_the_table_has_each_method_and_both_controls(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    arguments = ["--count", "4", "--steps", "2", "--method", "hirescam", "--keep", str(tmp_path)]
    networks = ("vit", "clip")  # a BLIP without training answers nothing
    arguments += [f"--network={name}" for name in networks]
    shown = CliRunner().invoke(tokens.main, arguments, catch_exceptions=False).output
    for name in networks:
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


def test_answers_to_questions_are_measured(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    language = answers.network(tmp_path, 2)
    asked = [(scene, questions(scene)[0]) for scene in scenes(3, seed=5, clear=True)]
    assert [*dict(answers.refused(language, asked[0], ["hirescam", "rollout"]))] == ["rollout"]
    found = answers.evaluated(language, asked, ["hirescam"], tokens.METRICS, tokens.ENLARGED)
    for metric in tokens.METRICS:
        rows = found["metrics"][metric]["rows"]
        assert [*rows] == ["hirescam", "random", "centre"]
        assert all(row["images"] == 3 and row["mean"] is not None for row in rows.values())


@pytest.mark.filterwarnings(f"ignore:{answers.EXPLAINED}")
def test_an_answer_as_a_class_has_the_map_and_the_probability_of_the_answer(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    language, seen = answers.network(tmp_path, 2), normalised(scenes(3, seed=5))
    question = "which shape is red?"
    model, (target,) = ask(language, question, ["ring"])
    expected = explain(model, seen, "hirescam", target)
    shown = explain(answers.classifier(language, question), seen, "hirescam", VOCABULARY["ring"])
    torch.testing.assert_close(shown.maps, expected.maps)
    assert shown.probabilities is not None
    torch.testing.assert_close(shown.probabilities, expected.scores.exp())
