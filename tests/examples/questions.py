"""The Grad-CAM paper's network for questions about images: a CNN, an LSTM and a linear layer.

`python -m tests.examples.questions` trains it on scenes and draws an overlay for each question.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

import camcli
from camcli.images.geometry import Crop
from camcli.render.draw import overlay
from camcli.render.style import Style
from tests.scenes.drawing import (
    COLOURS,
    SHAPES,
    SIDE,
    Question,
    Scene,
    normalised,
    questions,
    scene,
    scenes,
)

ANSWERS = (*COLOURS, *SHAPES)
WORDS = ("", *dict.fromkeys(" ".join(["what colour is the which shape", *ANSWERS]).split()))


class Answerer(nn.Module):
    """A network from images (N,3,H,W) and questions (N,Q) to scores for each answer (N,A).

    After Lu et al. 2015, whose network the paper explains in section 8.2: the maximum of each
    channel of the image's map, multiplied by the encoded question.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.encode_image = nn.Sequential(
            *(nn.Conv2d(3, 24, 4, stride=4), nn.BatchNorm2d(24), nn.ReLU()),
            *(nn.Conv2d(24, 48, 3, padding=1), nn.BatchNorm2d(48), nn.ReLU()),
            *(nn.Conv2d(48, width, 3, stride=2, padding=1), nn.BatchNorm2d(width), nn.ReLU()),
        )
        self.embed = nn.Embedding(len(WORDS), 32)
        self.encode_question = nn.LSTM(32, width, batch_first=True)
        self.answer = nn.Linear(width, len(ANSWERS))

    def forward(self, images: Tensor, asked: Tensor) -> Tensor:
        image = self.encode_image(images).amax((2, 3))
        _, (question, _) = self.encode_question(self.embed(asked))
        return self.answer(image * question[-1])


def indices(asked: Sequence[str]) -> Tensor:
    """Return questions as word indices (N,Q). Shorter ones are padded in front with empty words."""
    split = [text.strip("?").split() for text in asked]
    return torch.tensor([[0] * (5 - len(s)) + [WORDS.index(word) for word in s] for s in split])


def train(steps: int = 300, seed: int = 0) -> Answerer:
    """Return a network trained on every question about new scenes in each step."""
    torch.manual_seed(seed)
    draw, net = np.random.default_rng(seed), Answerer()
    optimiser = torch.optim.AdamW(net.parameters(), 5e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 5e-3, steps)
    for _ in range(steps):
        seen = [scene(draw) for _ in range(24)]
        asked = [(number, each) for number, one in enumerate(seen) for each in questions(one)]
        images = normalised(seen)[[number for number, _ in asked]]
        answers = torch.tensor([ANSWERS.index(each.answer) for _, each in asked])
        scores = net(images, indices([each.text for _, each in asked]))
        optimiser.zero_grad()
        F.cross_entropy(scores, answers).backward()
        optimiser.step()
        schedule.step()
    return net.eval()


def explain_answers(
    net: Answerer, scenes: Sequence[Scene], asked: Sequence[Question], method: str = "gradcam"
) -> Tensor:
    """Return maps (N,h,w) of the log-probability of each best answer."""
    arguments = normalised(scenes), indices([question.text for question in asked])
    shown = camcli.explain(
        net,
        arguments,
        method,
        target=lambda scores: scores.log_softmax(1).amax(1),
        layer="encode_image.8",
    )
    return shown.maps


def draw(net: Answerer, one: Scene, folder: Path) -> list[Path]:
    """Write an overlay of a scene for each question about it."""
    asked, files = questions(one), []
    for question, values in zip(
        asked, explain_answers(net, [one] * len(asked), asked), strict=True
    ):
        heat = overlay(one.pixels, values.numpy(), Crop(0, 0, SIDE, SIDE), Style(), signed=False)
        files.append(folder / f"{question.text.strip('?').replace(' ', '-')}.png")
        Image.fromarray(heat).resize((256, 256)).save(files[-1])
    return files


if __name__ == "__main__":
    output = Path("camcli-out")
    output.mkdir(exist_ok=True)
    for file in draw(train(), *scenes(1, seed=1), output):
        sys.stdout.write(f"{file}\n")
