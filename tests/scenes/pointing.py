"""Measure whether maps point at the thing that a question is about, compared with chance."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from camcli.engine.explain import Explanation, explain
from camcli.engine.language.load import LanguageModel
from camcli.engine.language.prompts import WORDS, caption
from camcli.engine.language.prompts import question as ask
from camcli.models.model import Model
from tests.examples import policy
from tests.examples import questions as questions_example
from tests.scenes.drawing import KINDS, SIDE, Question, Scene, Thing, normalised, questions

Place = tuple[int, int, int, int]
"""The square x0, y0, x1, y1 of a map's cell, in pixels of the scene."""
CELL = 8
"""The side of a cell in pixels. In maps of occlusion, a cell is a pixel."""
MIDDLE = ((SIDE - CELL) // 2, (SIDE - CELL) // 2, (SIDE + CELL) // 2, (SIDE + CELL) // 2)


class Shot(NamedTuple):
    """The place of a map's maximum, the thing it explains, and whether the network was right."""

    scene: int
    about: int
    kind: str
    place: Place
    right: bool


class Rates(NamedTuple):
    """The share of right answers, and among these the shares of maps that hit a thing.

    The thing is the one that the question is about. `hits` is for its own map, `other` for the map
    of the other thing in the scene, `centre` for the middle of the scene, `chance` for any cell.
    """

    right: float
    hits: float
    other: float
    centre: float
    chance: float


def highest(values: Tensor) -> Place:
    """Return the cell of the maximum of a map (h,w)."""
    side = SIDE // values.shape[1]
    y, x = divmod(int(values.argmax()), values.shape[1])
    return x * side, y * side, (x + 1) * side, (y + 1) * side


def overlaps(thing: Thing, place: Place) -> bool:
    """Return whether a thing overlaps a place. The edge of a shape is what identifies it."""
    x0, y0, x1, y1 = thing.box
    return x0 < place[2] and place[0] < x1 and y0 < place[3] and place[1] < y1


def share_of_cells(thing: Thing) -> float:
    """Return the share of a map's cells that a thing overlaps."""
    corners = itertools.product(range(0, SIDE, CELL), repeat=2)
    return float(np.mean([overlaps(thing, (x, y, x + CELL, y + CELL)) for x, y in corners]))


def rates(scenes: Sequence[Scene], shots: Iterable[Shot]) -> Rates:
    """Return the rates of shots, which include one per thing of a scene for each kind."""
    found = {(shot.scene, shot.kind, shot.about): shot for shot in shots}
    right = [shot for shot in found.values() if shot.right]
    things = [scenes[shot.scene].things[shot.about] for shot in right]
    others = [found[shot.scene, shot.kind, 1 - shot.about].place for shot in right]
    hits = [overlaps(thing, shot.place) for thing, shot in zip(things, right, strict=True)]
    return Rates(
        right=len(right) / len(found),
        hits=float(np.mean(hits)),
        other=float(np.mean([overlaps(*pair) for pair in zip(things, others, strict=True)])),
        centre=float(np.mean([overlaps(thing, MIDDLE) for thing in things])),
        chance=float(np.mean([*map(share_of_cells, things)])),
    )


def of_questions(
    language: LanguageModel,
    scenes: Sequence[Scene],
    methods: Sequence[str] = ("gradcam",),
    layer: str | None = None,
) -> dict[str, list[Shot]]:
    """Return the shots of the maps of a network's answers to all questions, for each method."""
    by_text: dict[str, list[tuple[int, Question]]] = defaultdict(list)
    for number, one in enumerate(scenes):
        for question in questions(one):
            by_text[question.text].append((number, question))
    shots: dict[str, list[Shot]] = {method: [] for method in methods}
    for text, each in by_text.items():
        images, prompt = normalised([scenes[number] for number, _ in each]), ask(language, text)
        found = explain(prompt.model, images, methods, prompt.targets, [layer])
        for shown in found:
            facts = zip(each, shown.maps, shown.texts or (), strict=True)
            shots[shown.method] += [
                Shot(
                    *(number, question.about, text.split()[1]),
                    *(highest(values), said.text == question.answer),
                )
                for (number, question), values, said in facts
            ]
    return shots


def of_words(
    language: LanguageModel,
    scenes: Sequence[Scene],
    methods: Sequence[str] = ("gradcam",),
    layer: str | None = None,
) -> dict[str, list[Shot]]:
    """Return the shots of the colours and shapes in a network's captions, for each method."""
    prompt = caption(language, words=True)
    found = explain(prompt.model, normalised(scenes), methods, prompt.targets, [layer])
    of_each = {shown.method: shown for shown in found if shown.target == WORDS}
    return {method: [*_of_words(shown, scenes)] for method, shown in of_each.items()}


def _of_words(shown: Explanation, scenes: Sequence[Scene]) -> Iterable[Shot]:
    for number, (one, maps, said) in enumerate(
        zip(scenes, shown.maps, shown.texts or (), strict=True)
    ):
        right = said.text in one.captions
        words = (said.text if right else one.captions[0]).split()
        for about, thing in enumerate(one.things):
            for kind in ("colour", "shape"):
                at = min(words.index(getattr(thing, kind)), len(maps) - 1)
                yield Shot(number, about, kind, highest(maps[at]), right)


def of_prompts(
    model: Model,
    scenes: Sequence[Scene],
    methods: Sequence[str] = ("gradcam",),
) -> dict[str, list[Shot]]:
    """Return the shots of the texts that name the things, for a network whose classes are KINDS.

    It is right about a thing whose text is one of the two best.
    """
    kinds = torch.tensor([[KINDS.index(thing.words) for thing in one.things] for one in scenes])
    shots: dict[str, list[Shot]] = {method: [] for method in methods}
    found = explain(model, normalised(scenes), methods, [*kinds.unbind(1)])
    for number, shown in enumerate(found):
        assert shown.ranking is not None
        about = number % 2
        best = shown.ranking.topk(2, dim=1).indices
        right = (best == kinds[:, about, None]).any(1).tolist()
        shots[shown.method] += [
            Shot(scene, about, "text", highest(values), right[scene])
            for scene, values in enumerate(shown.maps)
        ]
    return shots


def of_example(
    net: questions_example.Answerer, scenes: Sequence[Scene], method: str = "gradcam"
) -> list[Shot]:
    """Return the shots of the example network's answers to all questions."""
    each = [(number, question) for number, one in enumerate(scenes) for question in questions(one)]
    seen, asked = [scenes[number] for number, _ in each], [question for _, question in each]
    texts = questions_example.indices([question.text for question in asked])
    best = net(normalised(seen), texts).argmax(1).tolist()
    maps = questions_example.explain_answers(net, seen, asked, method)
    return [
        Shot(
            *(number, question.about, question.text.split()[1], highest(values)),
            questions_example.ANSWERS[answer] == question.answer,
        )
        for (number, question), values, answer in zip(each, maps, best, strict=True)
    ]


def of_policy(net: nn.Module, state: policy.State, method: str = "layercam") -> Rates:
    """Return the rates of the example policy, whose moves depend on the player and the goal.

    `right` is the share of worlds won by a shortest path, and `other` that of maps that hit the
    stone.
    """
    at = policy.explain_moves(net, state, method).flatten(1).argmax(1)
    cells = torch.stack([at // policy.CELLS, at % policy.CELLS], 1)
    won = policy.wins(net, state)

    def share(place: Tensor, *things: Tensor) -> float:
        return float(
            torch.stack([(place == one).all(1) for one in things]).any(0)[won].float().mean()
        )

    middle = torch.full_like(cells, policy.CELLS // 2)
    return Rates(
        right=float(won.float().mean()),
        hits=share(cells, state.player, state.goal),
        other=share(cells, state.stone),
        centre=share(middle, state.player, state.goal),
        chance=2 / policy.CELLS**2,
    )
