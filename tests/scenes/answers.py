"""Measure the maps of a BLIP's answers to questions about scenes, by the metrics of `evaluate`.

`camcli evaluate` takes classifiers. For one question, a network of `camcli ask` is one: its classes
are the words of its vocabulary, of which an answer about a scene is one.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from camcli.engine.explain import explain
from camcli.engine.language.load import LanguageModel, load_language_model
from camcli.engine.language.network import TextScorer
from camcli.engine.language.prompts import question as ask
from camcli.errors import CamcliError, CamcliWarning
from camcli.evaluation.export import metrics_record
from camcli.evaluation.ground_truth import ANNOTATED, Annotation
from camcli.evaluation.measurer import Measurer, Sample
from camcli.evaluation.objects import Object
from camcli.evaluation.scores import Scores
from camcli.evaluation.study import Study
from camcli.evaluation.summary import Summary
from camcli.images.geometry import Crop
from camcli.images.source import Source
from camcli.models.model import Model
from tests.scenes import blips
from tests.scenes.drawing import SIDE, Question, Scene, normalised, questions
from tests.scenes.pointing import of_questions

Asked: TypeAlias = tuple[Scene, Question]
EXPLAINED = "the network gives probabilities"
"""The warning that logs of probabilities are explained, which is what `camcli ask` does."""


class Words(nn.Module):
    """Scores each word of the vocabulary as the answer to a scorer's question, (N,V).

    A score is the log-probability of the word, as `camcli ask --answer WORD` explains it. The
    softmax over all words returns the probabilities themselves.
    """

    texts: Tensor

    def __init__(self, scorer: TextScorer) -> None:
        super().__init__()
        self.scorer = scorer
        words = torch.arange(len(blips.VOCABULARY))
        starts = torch.full_like(words, scorer.tokens.start)
        self.register_buffer("texts", torch.stack([starts, words], 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        texts = self.texts.expand(len(images), -1, -1)
        found: Tensor = self.scorer(images).log_probabilities(texts)[..., 0]
        return found


def network(folder: Path, steps: int) -> LanguageModel:
    """Train a network that answers questions about scenes, and load it from a folder."""
    return load_language_model("ask", str(blips.save(blips.trained("ask", steps), folder)))


def answered(language: LanguageModel, seen: Sequence[Scene]) -> list[Asked]:
    """Return one question about each scene, in turns, where the network's own answer is right."""
    right = {
        (shot.scene, shot.kind, shot.about)
        for shot in of_questions(language, seen, ["hirescam"])["hirescam"]
        if shot.right
    }
    each = ((number, questions(one)) for number, one in enumerate(seen))
    turns = ((number, of_scene[number % len(of_scene)]) for number, of_scene in each)
    return [
        (seen[number], one)
        for number, one in turns
        if (number, one.text.split()[1], one.about) in right
    ]


def refused(
    language: LanguageModel, asked: Asked, methods: Sequence[str]
) -> Iterator[tuple[str, str]]:
    """Yield the methods that `camcli ask` refuses for an answer, with the reason."""
    query = ask(language, asked[1].text)
    for method in methods:
        try:
            explain(query.model, normalised([asked[0]]), method, query.targets)
        except CamcliError as error:
            yield method, str(error)


def evaluated(
    language: LanguageModel,
    asked: Sequence[Asked],
    methods: Sequence[str],
    metrics: Sequence[str],
    side: int,
) -> dict[str, Any]:
    """Return what `camcli evaluate` writes as `metrics.json`, of the answers to questions.

    Maps are placed on photos of `side` pixels.
    """
    sources = [Source(Path(f"{number}.png"), f"{number}.png") for number in range(len(asked))]
    study = Study(sources, language.model, (*methods,), (*metrics,), target=ANNOTATED)
    scores = Scores(study)
    for text in dict.fromkeys(question.text for _, question in asked):
        samples = [
            _sample(number, *one, side) for number, one in enumerate(asked) if one[1].text == text
        ]
        model = classifier(language, text)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", EXPLAINED, CamcliWarning)
            for result, _ in Measurer(replace(study, model=model), model)(samples):
                scores.add(result)
    if scores.failures:
        raise next(iter(scores.failures.values()))
    return metrics_record(Summary(scores))


def classifier(language: LanguageModel, text: str) -> Model:
    """Return a network for one question, whose classes are the words of the vocabulary."""
    asking = ask(language, text).model
    assert isinstance(asking.module, TextScorer)
    words = Words(asking.module).eval()
    names = tuple(blips.VOCABULARY)
    layer = f"scorer.{asking.layer}"
    return replace(asking, module=words, layer=layer, class_names=names, task="classification")


def _sample(number: int, scene: Scene, question: Question, side: int) -> Sample:
    label, scale = blips.VOCABULARY[question.answer], side / SIDE
    x0, y0, x1, y1 = scene.things[question.about].box
    thing = Object(question.answer, (scale * x0, scale * y0, scale * x1, scale * y1))
    annotation = Annotation((side, side), Crop(0, 0, side, side), {label: (thing,)})
    return Sample(number, normalised([scene])[0], annotation, label)
