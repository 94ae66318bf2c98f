"""Targets made of texts: answers to a question, captions, and the words of a caption."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from camcli.capture.targets import ExplainedText, Target
from camcli.engine.language.load import LanguageModel
from camcli.engine.language.network import Memory, TextScorer, Tokens
from camcli.errors import CamcliWarning, TargetError
from camcli.models.model import Model

WORDS = "words"
"""The target that explains every word of a caption by itself."""
CONTINUATION = "##"
"""The first characters of a WordPiece token that continues a word."""
LONGEST = 30
"""The most tokens of a text that a network proposes."""


@dataclass(frozen=True)
class Prompt:
    """A question or a request for captions, shared by the targets of a run.

    `names` are the user's texts. `top` is the number of the network's own answers to record with
    each target; 0 records none.
    """

    tokenizer: Any
    question: str = ""
    names: tuple[str, ...] = ()
    top: int = 1

    @property
    def record(self) -> dict[str, Any]:
        """The settings of the texts, for run.json."""
        return {"question": self.question or None, "texts": list(self.names), "top": self.top}

    def read(self, text: Tensor) -> str:
        """Return the words of a text (L,) without its special tokens."""
        return str(self.tokenizer.decode(text[1:], skip_special_tokens=True)).strip()

    def answers(self, memory: Memory) -> list[tuple[tuple[str, float], ...]]:
        """Return the network's own answers for each image, each once, with probabilities."""
        if not self.question:
            return [()] * len(memory.states)
        return [
            self._distinct(*of_image)
            for of_image in zip(*memory.proposals(self.top, LONGEST), strict=True)
        ]

    def _distinct(self, texts: Tensor, probabilities: Tensor) -> tuple[tuple[str, float], ...]:
        found: dict[str, float] = {}
        for text, probability in zip(texts, probabilities.tolist(), strict=True):
            found.setdefault(self.read(text), probability)
        return tuple(found.items())


@dataclass(frozen=True)
class TokenScore(Target):
    """A resolved text target: the summed log-probability of some tokens of each image's text.

    `ids` (N,L) are the texts' tokens, and `counted` (N,L-1) is 1 for the tokens that are summed.
    """

    spec: str
    ids: Tensor
    counted: Tensor
    said: tuple[ExplainedText, ...]

    def score(self, output: Memory) -> Tensor:
        each = output.log_probabilities(self.ids[:, None])[:, 0]
        return (each * self.counted.to(each)).sum(1)

    def select(self, which: Tensor) -> TokenScore:
        return replace(self, ids=self.ids[which], counted=self.counted[which])

    @property
    def texts(self) -> tuple[ExplainedText, ...]:
        return self.said


@dataclass(frozen=True)
class TextTarget(Target):
    """A text, given as tokens `ids` (L,), or the network's own best one for each image."""

    spec: str
    prompt: Prompt
    ids: Tensor | None = None
    name: str = ""

    @property
    def record(self) -> Mapping[str, Any]:
        return self.prompt.record

    def resolve(self, output: Memory) -> tuple[TokenScore, ...]:
        ids, probabilities = self._texts(output)
        said = tuple(
            ExplainedText(self.name or self.prompt.read(text), probability, answers)
            for text, probability, answers in zip(
                ids, probabilities.tolist(), self.prompt.answers(output), strict=True
            )
        )
        return (TokenScore(self.spec, ids, output.is_word(ids[:, None])[:, 0], said),)

    @torch.no_grad()
    def _texts(self, output: Memory) -> tuple[Tensor, Tensor]:
        """Return the text (N,L) of each image and its probability (N,)."""
        if self.ids is None:
            own = output.proposals(self.prompt.top, LONGEST)
            return own.texts[:, 0], own.probabilities[:, 0]
        texts = self.ids.to(output.states.device).expand(len(output.states), 1, -1)
        return texts[:, 0], output.probabilities(texts)[:, 0]


@dataclass(frozen=True)
class WordsTarget(Target):
    """Every word of a caption by itself: one map for each word of the longest caption."""

    caption: TextTarget
    spec: str = WORDS
    several: ClassVar[bool] = True

    @property
    def record(self) -> Mapping[str, Any]:
        return self.caption.record

    def resolve(self, output: Memory) -> tuple[TokenScore, ...]:
        (whole,) = self.caption.resolve(output)
        tokenizer = self.caption.prompt.tokenizer
        rows = [tokenizer.convert_ids_to_tokens(ids.tolist()) for ids in whole.ids[:, 1:]]
        words = whole.counted
        spelled = [_spelled(*of_image) for of_image in zip(rows, words.tolist(), strict=True)]
        inner = torch.tensor([[token.startswith(CONTINUATION) for token in row] for row in rows])
        number = (words & ~inner.to(words.device)).cumsum(1) * words  # the word of each token
        counted = [number == count for count in range(1, max(map(len, spelled)) + 1)]
        with torch.no_grad():
            each = output.log_probabilities(whole.ids[:, None])[:, 0]
            chances = torch.stack([(each * one).sum(1) for one in counted], 1).exp().tolist()
        said = tuple(
            text._replace(words=tuple(zip(of_image, shares, strict=False)))
            for text, of_image, shares in zip(whole.said, spelled, chances, strict=True)
        )
        return tuple(TokenScore(self.spec, whole.ids, one, said) for one in counted)


class Query(NamedTuple):
    """A model and the targets to explain."""

    model: Model
    targets: tuple[Target, ...]


def question(
    language: LanguageModel, text: str, answers: Iterable[str] = (), top: int = 1
) -> Query:
    """Return a question and its targets: the `answers`, or without any the best answer.

    Raises TargetError for empty or unknown words.
    """
    text, names = " ".join(text.split()), _clean_texts("answer", answers)
    tokenizer, scorer = language.tokenizer, language.scorer
    inner = _token_ids(tokenizer, "question", text, scorer.tokens.longest - 2, strict=False)
    ids = torch.tensor([tokenizer.cls_token_id, *inner, tokenizer.sep_token_id])
    module = TextScorer(scorer.network, ids.to(language.model.device)).eval()
    prompt = Prompt(tokenizer, text, names, top)
    targets = [
        TextTarget(name, prompt, _text_ids(tokenizer, "answer", name, scorer.tokens), name)
        for name in names
    ]
    model = replace(language.model, module=module)
    return Query(model, tuple(targets) or (TextTarget("pred", prompt),))


def caption(language: LanguageModel, text: str | None = None, *, words: bool = False) -> Query:
    """Return the targets of a caption, the network's own or `text`, and with `words` its words.

    Raises TargetError for empty or unknown words.
    """
    names = () if text is None else _clean_texts("caption", [text])
    prompt, target = Prompt(language.tokenizer, "", names), None
    for name in names:
        ids = _text_ids(language.tokenizer, "caption", name, language.scorer.tokens)
        target = TextTarget("pred", prompt, ids, name)
    target = target or TextTarget("pred", prompt)
    return Query(language.model, (target, WordsTarget(target)) if words else (target,))


def _clean_texts(what: str, texts: Iterable[str]) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(" ".join(text.split()) for text in texts))
    if "" in found:
        raise TargetError(f"an empty {what}: expected words")
    return found


def _text_ids(tokenizer: Any, what: str, name: str, tokens: Tokens) -> Tensor:
    ids = _token_ids(tokenizer, what, name, tokens.longest - 1)
    return torch.tensor([tokens.start, *ids, tokens.end])


def _token_ids(
    tokenizer: Any, what: str, text: str, most: int, *, strict: bool = True
) -> list[int]:
    """Return the tokens of a text. A word outside the vocabulary raises if `strict`, else warns."""
    found: list[int] = tokenizer(text, add_special_tokens=False, verbose=False).input_ids
    if not found:
        raise TargetError(f"an empty {what}: expected words")
    if len(found) > most:
        raise TargetError(
            f"{what} '{text[:40]}...' has {len(found)} tokens: expected {most} at most"
        )
    if tokenizer.unk_token_id in found:
        unknown = next(
            word
            for word in text.split()
            if tokenizer.unk_token_id in tokenizer(word, add_special_tokens=False).input_ids
        )
        line = f"{what} '{text}': '{unknown}' is not in the model's vocabulary"
        if strict:
            raise TargetError(line)
        warnings.warn(line, CamcliWarning, stacklevel=3)
    return found


def _spelled(tokens: Sequence[str], counted: Sequence[bool]) -> tuple[str, ...]:
    """Return the words that the counted tokens spell; one empty word for an empty text."""
    words: list[str] = []
    for token in itertools.compress(tokens, counted):
        if words and token.startswith(CONTINUATION):
            words[-1] += token.removeprefix(CONTINUATION)
        else:
            words.append(token)
    return tuple(words) or ("",)
