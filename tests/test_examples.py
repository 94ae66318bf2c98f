"""The examples do what they say: networks that learn, and maps on what they are about."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.examples import policy, questions
from tests.scenes import drawing, pointing

pytestmark = pytest.mark.scenes


def test_an_answer_is_where_the_thing_is(tmp_path: Path) -> None:
    net, others = questions.trained(120), drawing.scenes(60, seed=99, clear=True)
    found = pointing.rates(others, pointing.of_example(net, others))
    assert found.right >= 0.9
    assert found.hits >= 0.8
    assert max(found.other, found.centre, found.chance) <= 0.3
    files = questions.draw(net, others[0], tmp_path)
    assert len({file.read_bytes() for file in files}) == 4


def test_a_move_is_for_the_goal(tmp_path: Path) -> None:
    net = policy.trained(300)
    torch.manual_seed(1)
    state = policy.drawn_states(200)
    found = pointing.of_policy(net, state)
    assert found.right >= 0.9
    assert found.hits >= 0.8
    assert max(found.other, found.centre, found.chance) <= 0.15
    assert policy.draw(net, policy.drawn_states(1), tmp_path)
