"""A policy: a Q-network plays a grid world, and the value of its next move is explained.

`python -m tests.examples.policy` trains it, lets it play, and draws what its moves were for.
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
from camcli.render.draw import Style, overlay

CELLS, PIXELS = 5, 8
MOVES = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}
STEPS = torch.tensor([*MOVES.values()])
FADE = 0.7
"""What a reward is worth a move later."""


class State(NamedTuple):
    """N worlds: the rows and columns (N,2) of the player, of the goal, and of a useless stone."""

    player: Tensor
    goal: Tensor
    stone: Tensor


def drawn_states(count: int) -> State:
    """Worlds with the three in different cells."""
    cells = torch.rand(count, CELLS**2).topk(3).indices
    return State(*torch.stack([cells // CELLS, cells % CELLS], 2).unbind(1))


def pictures(state: State) -> Tensor:
    """What the player sees, (N,3,H,W): itself white, the goal green and the stone red."""
    seen = torch.zeros(len(state.player), 3, CELLS, CELLS)
    worlds = torch.arange(len(seen))
    colours = (1.0, 1.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)
    for cells, colour in zip(state, colours, strict=True):
        seen[worlds, :, cells[:, 0], cells[:, 1]] = torch.tensor(colour)
    return F.interpolate(seen, scale_factor=PIXELS)


def moved(state: State, moves: Tensor) -> tuple[State, Tensor]:
    """The worlds after a move each (N,), and whether it has reached the goal (N,)."""
    player = (state.player + STEPS[moves]).clamp(0, CELLS - 1)
    return state._replace(player=player), (player == state.goal).all(1)


def q_network() -> nn.Sequential:
    """The value of each move (N,4), from pictures."""
    return nn.Sequential(
        *(nn.Conv2d(3, 16, PIXELS, stride=PIXELS), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(32 * CELLS**2, 128), nn.ReLU(), nn.Linear(128, len(MOVES))),
    )


LAYER = "1"
"""The first convolution, of one place for each cell."""


def trained(steps: int = 600, seed: int = 0) -> nn.Sequential:
    """Q-learning with a network of targets, from random moves in random worlds."""
    torch.manual_seed(seed)
    net, old = q_network(), q_network()
    optimiser = torch.optim.AdamW(net.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, steps)
    for step in range(steps):
        if step % 25 == 0:
            old.load_state_dict(net.state_dict())
        state, moves = drawn_states(128), torch.randint(len(MOVES), (128,))
        after, won = moved(state, moves)
        with torch.no_grad():
            worth = torch.where(won, 1.0, FADE * old(pictures(after)).amax(1))
        value = net(pictures(state)).gather(1, moves[:, None])[:, 0]
        optimiser.zero_grad()
        F.mse_loss(value, worth).backward()
        optimiser.step()
        schedule.step()
    return net.eval()


def wins(net: nn.Module, state: State) -> Tensor:
    """Whether the network's best moves reach the goal by a shortest way (N,)."""
    left = (state.player - state.goal).abs().sum(1)
    won = torch.zeros_like(left, dtype=torch.bool)
    for number in range(int(left.max())):
        with torch.no_grad():
            state, there = moved(state, net(pictures(state)).argmax(1))
        won |= there & (number + 1 == left)
    return won


def explained(net: nn.Module, state: State, method: str = "layercam") -> Tensor:
    """Maps (N,h,w) of the best move's value.

    Grad-CAM's weights are means over all places; a head that knows its places, as a flattened map
    is, needs a method that keeps them.
    """
    shown = camcli.explain(
        net, pictures(state), method, target=lambda values: values.amax(1), layer=LAYER
    )
    return shown.maps


def draw(net: nn.Module, state: State, folder: Path) -> list[Path]:
    """What each move of a game was for, until the goal is reached or could have been."""
    files, side = [], CELLS * PIXELS
    for number in range(int((state.player - state.goal).abs().sum())):
        seen, values = pictures(state), explained(net, state)[0].numpy()
        pixels = (seen[0].permute(1, 2, 0) * 255).byte().numpy()
        heat = overlay(pixels, values, Crop(0, 0, side, side), Style(), signed=False)
        move = net(seen).argmax(1)
        files.append(folder / f"move-{number}-{[*MOVES][int(move)]}.png")
        Image.fromarray(heat).resize((240, 240), Image.Resampling.NEAREST).save(files[-1])
        state, _ = moved(state, move)
    return files


if __name__ == "__main__":
    output = Path("camcli-out")
    output.mkdir(exist_ok=True)
    for file in draw(trained(), drawn_states(1), output):
        sys.stdout.write(f"{file}\n")
