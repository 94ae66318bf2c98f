"""Whether maps point at what was asked about, beside chance and other places."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from torch import Tensor

from camcli.language.loading import Talker
from camcli.language.prompts import asked, captioned
from tests.scenes.blips import normalised
from tests.scenes.drawing import SIDE, Question, Scene, Thing, questions

Place = tuple[int, int]
"""x and y, in pixels."""


class Shot(NamedTuple):
    """Where a map is highest, for what thing of a scene, and whether the network was right."""

    scene: int
    about: int
    kind: str
    place: Place
    right: bool


class Rates(NamedTuple):
    """Shares of the shots: of right answers, and of hits on the thing that was meant.

    `centre` and `chance` are of the scene's middle and of any place; `other` is of the map for the
    other thing of the same scene.
    """

    right: float
    hits: float
    other: float
    centre: float
    chance: float


def highest(values: Tensor) -> Place:
    """Where a map (h,w) is highest, as it is drawn over a scene."""
    large = cv2.resize(values.detach().numpy(), (SIDE, SIDE))
    y, x = np.unravel_index(int(large.argmax()), large.shape)
    return int(x), int(y)


def on(thing: Thing, place: Place) -> bool:
    x0, y0, x1, y1 = thing.box
    return x0 <= place[0] < x1 and y0 <= place[1] < y1


def rates(scenes: Sequence[Scene], shots: Iterable[Shot]) -> Rates:
    found = {(shot.scene, shot.kind, shot.about): shot for shot in shots}
    things = [scenes[shot.scene].things[shot.about] for shot in found.values()]
    others = [found[shot.scene, shot.kind, 1 - shot.about].place for shot in found.values()]
    areas = [(x1 - x0) * (y1 - y0) / SIDE**2 for x0, y0, x1, y1 in (t.box for t in things)]
    hits = [on(thing, shot.place) for thing, shot in zip(things, found.values(), strict=True)]
    return Rates(
        right=float(np.mean([shot.right for shot in found.values()])),
        hits=float(np.mean(hits)),
        other=float(np.mean([on(*pair) for pair in zip(things, others, strict=True)])),
        centre=float(np.mean([on(thing, (SIDE // 2, SIDE // 2)) for thing in things])),
        chance=float(np.mean(areas)),
    )


def of_questions(
    talker: Talker, scenes: Sequence[Scene], method: str = "gradcam", layer: str | None = None
) -> list[Shot]:
    """Every question about every scene, and the map of the network's own answer."""
    by_text: dict[str, list[tuple[int, Question]]] = defaultdict(list)
    for number, one in enumerate(scenes):
        for question in questions(one):
            by_text[question.text].append((number, question))
    shots = []
    for text, each in by_text.items():
        images = normalised([scenes[number] for number, _ in each])
        prompt = asked(talker, text)
        (shown,) = prompt.explain(prompt.model, images, [method], prompt.targets, [layer])
        shots += [
            Shot(
                number,
                question.about,
                text.split()[1],
                highest(values),
                said.text == question.answer,
            )
            for (number, question), values, said in zip(
                each, shown.maps, shown.said or (), strict=True
            )
        ]
    return shots


def of_words(
    talker: Talker, scenes: Sequence[Scene], method: str = "gradcam", layer: str | None = None
) -> list[Shot]:
    """The colours and shapes in the network's own captions, where these are right."""
    prompt = captioned(talker, words=True)
    images = normalised(scenes)
    _, shown = prompt.explain(prompt.model, images, [method], prompt.targets, [layer])
    shots = []
    for number, (one, maps, said) in enumerate(
        zip(scenes, shown.maps, shown.said or (), strict=True)
    ):
        right = said.text == one.caption
        for kind, at in (("colour", (1, -2)), ("shape", (2, -1))) if right else ():
            count = len(said.words)
            shots += [
                Shot(number, about, kind, highest(maps[where % count]), right)
                for about, where in enumerate(at)
            ]
    return shots
