"""The networks of the examples learn their tasks, and their maps point at the right objects."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.examples import policy, questions
from tests.scenes import drawing, pointing

pytestmark = pytest.mark.scenes


def test_maps_of_answers_point_at_the_object_asked_about(tmp_path: Path) -> None:
    net, others = questions.train(120), drawing.scenes(60, seed=99, clear=True)
    found = pointing.rates(others, pointing.of_example(net, others))
    assert found.right >= 0.9
    assert found.hits >= 0.8
    assert max(found.other, found.centre, found.chance) <= 0.3
    files = questions.draw(net, others[0], tmp_path)
    assert len({file.read_bytes() for file in files}) == 4


def test_maps_of_moves_point_at_the_player_or_the_goal(tmp_path: Path) -> None:
    net = policy.train(300)
    torch.manual_seed(1)
    state = policy.random_states(200)
    found = pointing.of_policy(net, state)
    assert found.right >= 0.9
    assert found.hits >= 0.8
    assert max(found.other, found.centre, found.chance) <= 0.15
    assert policy.draw(net, policy.random_states(1), tmp_path)
