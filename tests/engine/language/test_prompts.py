"""Scores and maps of texts against the library's forward pass and a Grad-CAM from the paper."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from camcli.engine.explain import explain
from camcli.engine.language.load import load_language_model
from camcli.engine.language.prompts import WORDS, Query, caption, question
from tests.engine.language.conftest import QUESTION
from tests.scenes.drawing import normalised, scenes
from tests.scenes.pointing import of_questions, of_words, rates

blips = pytest.importorskip("tests.scenes.blips", reason="needs transformers")


def query_of(folder: Path, skill: str, **options: Any) -> Query:
    """Return a query of a model in float64."""
    model = load_language_model(skill, str(folder))
    model.model.module.double()
    return question(model, QUESTION, **options) if skill == "ask" else caption(model, **options)


def ids(text: str, start: str) -> Tensor:
    """Return the token indices (1,L) of a text with its start and end, read from the vocabulary."""
    words = [start, *text.replace("?", " ?").replace("rings", "ring ##s").split(), "[SEP]"]
    return torch.tensor([[blips.VOCABULARY[word] for word in words]])


def log_probabilities(network: Any, skill: str, images: Tensor, text: str) -> Tensor:
    """Return the log-probability of each token after the first, (L-1,), from the library."""
    tokens = ids(text, "[DEC]")
    if skill == "caption":
        logits = network(pixel_values=images, input_ids=tokens[:, :-1]).logits[0]
        return torch.stack(
            [
                row[token] - row.exp().sum().log()
                for row, token in zip(logits, tokens[0, 1:], strict=True)
            ]
        )
    prompt = ids(QUESTION, "[CLS]")
    found = []
    for at in range(1, tokens.shape[1]):
        labels = torch.full_like(tokens, -100)
        labels[0, at] = tokens[0, at]
        loss = network(
            input_ids=prompt,
            pixel_values=images,
            attention_mask=torch.ones_like(prompt),
            decoder_input_ids=tokens,
            labels=labels,
        ).loss
        found.append(-loss)
    return torch.stack(found)


def paper_gradcam(network: Any, score: Callable[[], Tensor]) -> Tensor:
    """Return Grad-CAM (8,8) of a score at the image tokens, by the paper's equations."""
    seen: list[Tensor] = []

    def keep(_module: Any, _inputs: Any, output: Tensor) -> None:
        if output.ndim == 3:  # not the second run, for the pooled token
            seen.append(output)

    with network.vision_model.post_layernorm.register_forward_hook(keep):
        value = score()
    # The score of an answer sums over several passes.
    grads = torch.autograd.grad(value, seen)
    found = torch.zeros(8, 8, dtype=torch.float64)
    grad = torch.stack(grads).sum(0)
    for channel in range(seen[0].shape[2]):
        alpha = sum(grad[0, 1 + place, channel] for place in range(64)) / 64
        for y in range(8):
            for x in range(8):
                found[y, x] += (alpha * seen[0][0, 1 + 8 * y + x, channel]).detach()
    return found.clamp(min=0)


@pytest.mark.parametrize(
    ("skill", "text"), [("ask", "a green ring"), ("caption", "a red circle and a green rings")]
)
def test_score_and_map_of_a_text(folders: dict[str, Path], skill: str, text: str) -> None:
    options: dict[str, Any] = {"answers": [text]} if skill == "ask" else {"text": text}
    query = query_of(folders[skill], skill, **options)
    images = normalised(scenes(1, 5)).double()
    (shown,) = explain(query.model, images, ["gradcam"], query.targets)
    network = blips.ARCHITECTURES[skill].from_pretrained(folders[skill]).double().eval()

    def score() -> Tensor:
        return log_probabilities(network, skill, images, text)[:-1].sum()  # without the end

    each = log_probabilities(network, skill, images, text)
    assert shown.scores.dtype == torch.float64
    torch.testing.assert_close(shown.scores[0], each[:-1].sum(), rtol=1e-10, atol=1e-10)
    (explained,) = shown.texts or ()
    assert explained.probability == pytest.approx(each.sum().exp().item(), rel=1e-9)
    torch.testing.assert_close(shown.maps[0], paper_gradcam(network, score), rtol=1e-8, atol=1e-12)
    assert shown.maps.any()


def test_score_and_map_of_a_word(folders: dict[str, Path]) -> None:
    text = "a red circle and a green rings"
    query = query_of(folders["caption"], "caption", text=text, words=True)
    images = normalised(scenes(1, 5)).double()
    _, shown = explain(query.model, images, ["gradcam"], query.targets)
    network = blips.ARCHITECTURES["caption"].from_pretrained(folders["caption"]).double().eval()

    def rings() -> Tensor:
        return log_probabilities(network, "caption", images, text)[6:8].sum()  # `ring` and `##s`

    assert shown.maps.shape == (1, 7, 8, 8)
    torch.testing.assert_close(
        shown.maps[0, 6], paper_gradcam(network, rings), rtol=1e-8, atol=1e-12
    )
    (explained,) = shown.texts or ()
    assert explained.words[6] == ("rings", pytest.approx(rings().exp().item(), rel=1e-9))


@pytest.mark.parametrize("words", [False, True], ids=["whole", "words"])
def test_a_batch_equals_single_images(folders: dict[str, Path], words: bool) -> None:
    """The generated captions differ in length."""
    query = query_of(folders["caption"], "caption", words=words)
    torch.manual_seed(3)
    images = torch.cat([normalised(scenes(2, 5)), torch.randn(2, 3, 64, 64)]).double()
    methods = ["gradcam", "layercam"]

    def explained(part: Tensor) -> list[Any]:
        return explain(query.model, part, methods, query.targets)

    batch, single = explained(images), [explained(image[None]) for image in images]
    for number, shown in enumerate(batch):
        for at, alone in enumerate(one[number] for one in single):
            assert alone.texts == (close(shown.texts[at]),)
            maps = (
                shown.maps[at, : alone.maps.shape[1]] if shown.target == WORDS else shown.maps[at]
            )
            torch.testing.assert_close(maps, alone.maps[0], rtol=1e-8, atol=1e-12)


def close(text: Any) -> Any:
    """Return a text that equals one with nearly the same probabilities."""

    def near(pairs: Iterable[tuple[str, float]]) -> Any:
        return tuple((text, pytest.approx(share, rel=1e-8)) for text, share in pairs)

    probability = pytest.approx(text.probability, rel=1e-8)
    return (text.text, probability, near(text.answers), near(text.words))


def test_generated_answers_have_the_probabilities_of_given_texts(folders: dict[str, Path]) -> None:
    """No answer of one word is more probable than the best generated answer."""
    every = [*blips.VOCABULARY.keys() - {*blips.SPECIAL, "##s"}]
    query = query_of(folders["ask"], "ask", answers=every, top=5)
    images = normalised(scenes(1, 5)).double()
    found = explain(query.model, images, ["gradcam"], query.targets)
    chances = {shown.texts[0].text: shown.texts[0].probability for shown in found if shown.texts}
    ranked = found[0].texts[0].answers if found[0].texts else ()
    assert [share for _, share in ranked] == sorted((s for _, s in ranked), reverse=True)
    # A random network also generates special tokens, which are not part of the text.
    same = [share / chances[text] for text, share in ranked if text in chances]
    assert min(same) == pytest.approx(1, rel=1e-8)
    assert np.isclose(same, 1, rtol=1e-8).sum() >= 2
    assert max(chances.values()) <= ranked[0][1] * (1 + 1e-8)


@pytest.mark.scenes
@pytest.mark.parametrize(("skill", "steps"), [("ask", 300), ("caption", 300)])
def test_maps_of_a_trained_network_point_at_the_object(
    skill: str, steps: int, tmp_path: Path
) -> None:
    folder = blips.save(blips.trained(skill, steps), tmp_path / "model")
    model, test_scenes = load_language_model(skill, str(folder)), scenes(60, 99, clear=True)
    point = of_questions if skill == "ask" else of_words
    found = rates(test_scenes, point(model, test_scenes, ["hirescam"])["hirescam"])
    assert found.right >= 0.7
    assert found.hits >= 0.6
    assert max(found.other, found.centre, found.chance) <= 0.3
