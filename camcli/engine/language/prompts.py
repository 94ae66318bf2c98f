"""What is asked of a vision-language model, and the explanation of what it says."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from camcli.capture.windows import Window
from camcli.engine.explain import Explanation, Region, Said, explain
from camcli.engine.language.load import Talker
from camcli.engine.language.network import Teller
from camcli.errors import CamcliWarning, TargetError
from camcli.models.load import Model

WORDS = "words"
"""The target that is every word of a caption by itself."""

INNER = "##"
"""How a token begins that goes on with a word, in WordPiece."""

LONGEST = 30
"""Tokens of a text that a network writes by itself, at most."""


class Texts(NamedTuple):
    """Texts (N,K,L) of N images, their parts to be explained (N,P,K,L-1), and the P targets.

    `said` has for each of the first targets what each image's text is. The others are its words,
    and `spelled` are those.
    """

    texts: Tensor
    parts: Tensor
    targets: tuple[str, ...]
    said: tuple[tuple[Said, ...], ...]
    spelled: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Prompt:
    """A question or the wish for a caption, for a model whose module is a Teller.

    `given` (K,L) and `names` are the texts to be explained; without any it is the network's own
    best. `top` is how many of its own answers are told. `words` explains a caption's words too.
    """

    model: Model
    tokenizer: Any
    question: str = ""
    names: tuple[str, ...] = ()
    given: Tensor | None = None
    top: int = 1
    words: bool = False

    @property
    def targets(self) -> tuple[str, ...]:
        """What is explained, by the names in files: the answers given, or `pred`; and WORDS."""
        whole = self.names if self.question and self.names else ("pred",)
        return (*whole, WORDS) if self.words else whole

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the texts."""
        return {"question": self.question or None, "texts": list(self.names), "top": self.top}

    def explain(
        self,
        model: Model,
        images: Tensor,
        methods: Sequence[str],
        _targets: Sequence[str],
        layers: Sequence[str | None],
        *,
        window: Window = Window(),  # noqa: B008 - frozen
        fuse: str | None = None,
        region: Region | None = None,
    ) -> list[Explanation]:
        """As `engine.explain`, of what is said about images (N,3,H,W): these are the targets.

        The maps of WORDS are (N,W,h,w), one for each word of the longest caption.
        """
        texts = self._texts(images)
        inputs = (images, texts.texts, texts.parts)
        functions = [_part(number) for number in range(len(texts.targets))]
        found = explain(
            model, inputs, methods, functions, layers, window=window, fuse=fuse, region=region
        )
        return [
            shown
            for _, of_method in itertools.groupby(found, key=lambda shown: shown.method)
            for shown in _named([*of_method], texts)
        ]

    def _texts(self, images: Tensor) -> Texts:
        teller = self.model.module
        assert isinstance(teller, Teller)
        with torch.no_grad():
            memory = teller.memory(images)
            if self.given is not None:
                texts = self.given.to(images.device).expand(len(images), -1, -1)
                probabilities = teller.probabilities(memory, texts)
            if self.question or self.given is None:
                own = teller.proposals(memory, self.top, LONGEST)
        ranked: list[tuple[tuple[str, float], ...]] = [()] * len(images)
        if self.question:
            ranked = [self._ranked(*of_image) for of_image in zip(*own, strict=True)]
        if self.given is None:
            texts, probabilities = own.texts[:, :1], own.probabilities[:, :1]
        said = [
            tuple(
                Said(name or self._read(text), float(probability), answers)
                for text, probability, answers in zip(of_each, chances, ranked, strict=True)
            )
            for name, of_each, chances in zip(
                self.names or [""], texts.unbind(1), probabilities.unbind(1), strict=True
            )
        ]
        words = teller.words(texts)
        own_words = torch.eye(texts.shape[1], device=words.device, dtype=torch.bool)
        whole = Texts(texts, own_words[:, :, None] & words[:, None], self.targets, tuple(said))
        return self._with_words(whole) if self.words else whole

    def _with_words(self, whole: Texts) -> Texts:
        """The words of the texts (N,1,L) as parts too."""
        rows = [self.tokenizer.convert_ids_to_tokens(ids.tolist()) for ids in whole.texts[:, 0, 1:]]
        words = whole.parts[:, 0, 0]  # (N,L-1)
        spelled = [_spelled(*of_image) for of_image in zip(rows, words.tolist(), strict=True)]
        inner = torch.tensor([[token.startswith(INNER) for token in row] for row in rows])
        number = (words & ~inner.to(words.device)).cumsum(1) * words  # of each token's word
        count = torch.arange(1, max(map(len, spelled)) + 1, device=words.device)
        each = (number[:, None] == count[:, None])[:, :, None]
        return Texts(
            texts=whole.texts,
            parts=torch.cat([whole.parts, each], 1),
            targets=(*whole.targets[:-1], *[WORDS] * len(count)),
            said=whole.said,
            spelled=tuple(spelled),
        )

    def _ranked(self, texts: Tensor, probabilities: Tensor) -> tuple[tuple[str, float], ...]:
        """An image's own answers (K,L), each once, and their probabilities (K,)."""
        found: dict[str, float] = {}
        for text, probability in zip(texts, probabilities.tolist(), strict=True):
            found.setdefault(self._read(text), probability)
        return tuple(found.items())

    def _read(self, text: Tensor) -> str:
        """The words of a text (L,), without what marks its start and end."""
        return str(self.tokenizer.decode(text[1:], skip_special_tokens=True)).strip()


def asked(talker: Talker, question: str, answers: Iterable[str] = (), top: int = 1) -> Prompt:
    """A question, and the answers to be explained instead of the best one. Raises TargetError."""
    question, names = " ".join(question.split()), _names("answer", answers)
    tokenizer, network = talker.tokenizer, talker.model.module
    assert isinstance(network, Teller)
    inner = _tokens(tokenizer, "question", question, network.facts.longest - 2, strict=False)
    ids = torch.tensor([tokenizer.cls_token_id, *inner, tokenizer.sep_token_id])
    module = Teller(network.network, ids.to(talker.model.device)).eval()
    given = _given(tokenizer, "answer", names, network)
    model = replace(talker.model, module=module, class_names=names or None)
    return Prompt(model, tokenizer, question, names, given, top)


def captioned(talker: Talker, text: str | None = None, *, words: bool = False) -> Prompt:
    """A caption, the network's own or `text`, and each of its words. Raises TargetError."""
    network, tokenizer = talker.model.module, talker.tokenizer
    assert isinstance(network, Teller)
    names = () if text is None else _names("caption", [text])
    given = _given(tokenizer, "caption", names, network)
    return Prompt(talker.model, tokenizer, "", names, given, words=words)


def _names(what: str, texts: Iterable[str]) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(" ".join(text.split()) for text in texts))
    if "" in found:
        raise TargetError(f"an empty {what}: expected words")
    return found


def _given(tokenizer: Any, what: str, names: Sequence[str], network: Teller) -> Tensor | None:
    """Texts as (K,L), or None where there is none."""
    facts = network.facts
    rows = [
        torch.tensor([facts.start, *_tokens(tokenizer, what, name, facts.longest - 1), facts.end])
        for name in names
    ]
    if not rows:
        return None
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=facts.padding)


def _tokens(tokenizer: Any, what: str, text: str, most: int, *, strict: bool = True) -> list[int]:
    """The tokens of a text, all known to the model if `strict`, else with a warning."""
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


def _part(number: int) -> Callable[[Tensor], Tensor]:
    return lambda scores: scores[:, number]


def _named(found: Sequence[Explanation], texts: Texts) -> list[Explanation]:
    """A method's explanations, target by target and layer by layer, with what they explain."""
    layers, whole = len(found) // len(texts.targets), len(texts.said)
    named = [
        replace(shown, target=texts.targets[number // layers], said=texts.said[number // layers])
        for number, shown in enumerate(found[: whole * layers])
    ]
    words = found[whole * layers :]
    return named + [_stacked(words[at::layers], texts) for at in range(layers) if words]


def _spelled(tokens: Sequence[str], counted: Sequence[bool]) -> tuple[str, ...]:
    """The words that tokens make up."""
    words: list[str] = []
    for token in itertools.compress(tokens, counted):
        if words and token.startswith(INNER):
            words[-1] += token.removeprefix(INNER)
        else:
            words.append(token)
    return tuple(words) or ("",)  # a network may have nothing to say


def _stacked(words: Sequence[Explanation], texts: Texts) -> Explanation:
    """One explanation, with maps (N,W,h,w), of those of W words."""
    chances = torch.stack([shown.scores for shown in words], 1).exp().tolist()
    said = tuple(
        said._replace(words=tuple(zip(spelled, of_image, strict=False)))
        for said, spelled, of_image in zip(texts.said[0], texts.spelled, chances, strict=True)
    )
    return replace(
        words[0],
        target=WORDS,
        maps=torch.stack([shown.maps for shown in words], 1),
        scores=torch.stack([shown.scores for shown in words]).sum(0),
        said=said,
    )
