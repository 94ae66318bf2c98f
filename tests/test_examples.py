"""The examples do what they say: networks that learn, and maps on what they are about."""

from __future__ import annotations

import torch

from tests.examples import policy


def test_a_move_is_for_the_goal() -> None:
    net = policy.trained(300)
    torch.manual_seed(1)
    state = policy.drawn_states(200)
    assert policy.wins(net, state).float().mean() >= 0.9
    at = policy.explained(net, state).flatten(1).argmax(1)
    cell = torch.stack([at // policy.CELLS, at % policy.CELLS], 1)
    on_each = {name: (cell == getattr(state, name)).all(1) for name in state._fields}
    assert (on_each["goal"] | on_each["player"]).float().mean() >= 0.8
    assert on_each["stone"].float().mean() <= 0.05
