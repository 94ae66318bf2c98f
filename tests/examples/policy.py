"""A policy: a Q-network plays a grid world, and camcli explains the value of its next move.

`python -m tests.examples.policy` trains the network, plays one game, and draws an overlay for each
move.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

import camcli
from camcli.images.geometry import Crop
from camcli.render.draw import overlay
from camcli.render.style import Style

CELLS, PIXELS = 5, 8
MOVES = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}
STEPS = torch.tensor([*MOVES.values()])
DISCOUNT = 0.7
"""The discount factor of a reward for each move."""


class State(NamedTuple):
    """N worlds: the row and column (N,2) of the player, the goal and a useless stone."""

    player: Tensor
    goal: Tensor
    stone: Tensor


def random_states(count: int) -> State:
    """Return worlds with the player, the goal and the stone in random, different cells."""
    cells = torch.rand(count, CELLS**2).topk(3).indices
    return State(*torch.stack([cells // CELLS, cells % CELLS], 2).unbind(1))


def images_of(state: State) -> Tensor:
    """Return images (N,3,H,W) of worlds: the player is white, the goal green, the stone red."""
    seen = torch.zeros(len(state.player), 3, CELLS, CELLS)
    worlds = torch.arange(len(seen))
    colours = (1.0, 1.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)
    for cells, colour in zip(state, colours, strict=True):
        seen[worlds, :, cells[:, 0], cells[:, 1]] = torch.tensor(colour)
    return F.interpolate(seen, scale_factor=PIXELS)


def step(state: State, moves: Tensor) -> tuple[State, Tensor]:
    """Return the worlds after one move each (N,), and whether the player is at the goal (N,)."""
    player = (state.player + STEPS[moves]).clamp(0, CELLS - 1)
    return state._replace(player=player), (player == state.goal).all(1)


def q_network() -> nn.Sequential:
    """Return a network from images to the value of each move (N,4)."""
    return nn.Sequential(
        *(nn.Conv2d(3, 16, PIXELS, stride=PIXELS), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(32 * CELLS**2, 128), nn.ReLU(), nn.Linear(128, len(MOVES))),
    )


LAYER = "1"
"""The target layer, behind the first convolution: it has one position for each cell."""


def train(steps: int = 600, seed: int = 0) -> nn.Sequential:
    """Return a network trained by Q-learning with a target network, on random moves."""
    torch.manual_seed(seed)
    net, target = q_network(), q_network()
    optimiser = torch.optim.AdamW(net.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, steps)
    for number in range(steps):
        if number % 25 == 0:
            target.load_state_dict(net.state_dict())
        state, moves = random_states(128), torch.randint(len(MOVES), (128,))
        after, won = step(state, moves)
        with torch.no_grad():
            expected = torch.where(won, 1.0, DISCOUNT * target(images_of(after)).amax(1))
        value = net(images_of(state)).gather(1, moves[:, None])[:, 0]
        optimiser.zero_grad()
        F.mse_loss(value, expected).backward()
        optimiser.step()
        schedule.step()
    return net.eval()


def wins(net: nn.Module, state: State) -> Tensor:
    """Return whether the network's best moves reach the goal by a shortest path (N,)."""
    left = (state.player - state.goal).abs().sum(1)
    won = torch.zeros_like(left, dtype=torch.bool)
    for number in range(int(left.max())):
        with torch.no_grad():
            state, at_goal = step(state, net(images_of(state)).argmax(1))
        won |= at_goal & (number + 1 == left)
    return won


def explain_moves(net: nn.Module, state: State, method: str = "layercam") -> Tensor:
    """Return maps (N,h,w) of the value of the best move.

    Grad-CAM averages its weights over all positions. A head that distinguishes positions, as one
    behind a flattened map does, needs a method that does not average them.
    """
    shown = camcli.explain(
        net, images_of(state), method, target=lambda values: values.amax(1), layer=LAYER
    )
    return shown.maps


def draw(net: nn.Module, state: State, folder: Path) -> list[Path]:
    """Write an overlay for each move of a game that is as long as a shortest path."""
    files, side = [], CELLS * PIXELS
    for number in range(int((state.player - state.goal).abs().sum())):
        seen, values = images_of(state), explain_moves(net, state)[0].numpy()
        pixels = (seen[0].permute(1, 2, 0) * 255).byte().numpy()
        heat = overlay(pixels, values, Crop(0, 0, side, side), Style(), signed=False)
        move = net(seen).argmax(1)
        files.append(folder / f"move-{number}-{[*MOVES][int(move)]}.png")
        Image.fromarray(heat).resize((240, 240), Image.Resampling.NEAREST).save(files[-1])
        state, _ = step(state, move)
    return files


if __name__ == "__main__":
    output = Path("camcli-out")
    output.mkdir(exist_ok=True)
    for file in draw(train(), random_states(1), output):
        sys.stdout.write(f"{file}\n")
