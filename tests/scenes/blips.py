"""Tiny BLIPs of the library's own classes, and a vocabulary for scenes, made here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn

from tests.scenes.drawing import COLOURS, SHAPES, SIDE, Scene, normalised, questions, scene

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]")
SAYINGS = ("what colour is the ?", "which shape is", "a and")
WORDS = (*dict.fromkeys(" ".join(SAYINGS).split()), *COLOURS, *SHAPES, "##s")
VOCABULARY = {word: index for index, word in enumerate((*SPECIAL, *WORDS))}
TRAITS = (*COLOURS, *SHAPES)


def config(width: int = 64, patch: int = 8, layers: int = 1) -> Any:
    """A configuration as the published models', at a hundredth of their size."""
    both = {
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_attention_heads": 4,
        "num_hidden_layers": layers,
        "initializer_range": 0.1,
    }
    special = {"bos_token_id": 5, "eos_token_id": 3, "pad_token_id": 0, "sep_token_id": 3}
    return transformers.BlipConfig(
        text_config=both
        | special
        | {
            "vocab_size": len(VOCABULARY),
            "encoder_hidden_size": width,
            "max_position_embeddings": 24,
        },
        vision_config=both | {"image_size": SIDE, "patch_size": patch},
    )


def processor() -> Any:
    """A tokenizer of VOCABULARY, and the image processor of SIDE pixels."""
    tokenizer = transformers.BertTokenizer(vocab=VOCABULARY)
    images = transformers.BlipImageProcessor(
        size={"height": SIDE, "width": SIDE}, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    return transformers.BlipProcessor(images, tokenizer)


def save(network: Any, folder: Path) -> Path:
    """As a model's folder on the hub."""
    network.save_pretrained(folder)
    processor().save_pretrained(folder)
    return folder


class Lesson(NamedTuple):
    """Scenes as tensors, with all that can be said of them.

    `pixels` (S,3,H,W), `present` (S,6) which of TRAITS are there, `questions` (S,4,Q) with padding,
    `answers` (S,4,3) and `captions` (S,L) from the start token to the end token, with padding.
    """

    pixels: Tensor
    present: Tensor
    questions: Tensor
    answers: Tensor
    captions: Tensor


def lesson(scenes: Sequence[Scene]) -> Lesson:
    asked = [(questions(one) * 2)[:4] for one in scenes]  # of some there are but two
    present = [
        [float(any(trait in thing.words.split() for thing in one.things)) for trait in TRAITS]
        for one in scenes
    ]
    return Lesson(
        pixels=normalised(scenes),
        present=torch.tensor(present),
        questions=torch.stack([_ids([q.text for q in of], "[CLS]") for of in asked]),
        answers=torch.stack([_ids([q.answer for q in of], "[DEC]") for of in asked]),
        captions=_ids([one.captions[0] for one in scenes], "[DEC]"),
    )


def _ids(texts: Sequence[str], start: str) -> Tensor:
    """Texts (N,L) between `start` and the end token, with padding behind."""
    split = [[start, *text.replace("?", " ?").split(), "[SEP]"] for text in texts]
    length = 10
    return torch.tensor(
        [[VOCABULARY[word] for word in one] + [0] * (length - len(one)) for one in split]
    )


def answering(network: Any, seen: Tensor, part: Lesson) -> Tensor:
    """The loss of the answers, given the image's tokens (S,T,D)."""
    asked, answers = part.questions.flatten(0, 1), part.answers.flatten(0, 1)[:, :3]
    mask = (asked != 0).long()
    memory = network.text_encoder(
        input_ids=asked, attention_mask=mask, encoder_hidden_states=seen.repeat_interleave(4, 0)
    ).last_hidden_state
    found = network.text_decoder(
        input_ids=answers[:, :-1], encoder_hidden_states=memory, encoder_attention_mask=mask
    )
    return F.cross_entropy(found.logits.flatten(0, 1), answers[:, 1:].flatten())


def captioning(network: Any, seen: Tensor, part: Lesson) -> Tensor:
    """The loss of the captions, given the image's tokens (S,T,D)."""
    texts = part.captions
    found = network.text_decoder(input_ids=texts[:, :-1], encoder_hidden_states=seen)
    return F.cross_entropy(found.logits.flatten(0, 1), texts[:, 1:].flatten(), ignore_index=0)


Loss = Callable[[Any, Tensor, Lesson], Tensor]


def taught(
    network: Any, loss: Loss, steps: int, *, seed: int = 0, rate: float = 1.5e-3
) -> Iterator[tuple[int, float]]:
    """Trains a network in place, on new scenes in every step, and gives the loss every 50 steps.

    The tower is helped by a second loss: which colours and which shapes there are, pooled over the
    image's tokens. That says what is in a scene, never where, nor what belongs together.
    """
    draw = np.random.default_rng(seed)
    helper = nn.Linear(network.config.vision_config.hidden_size, len(TRAITS))
    parameters = [*network.parameters(), *helper.parameters()]
    optimiser = torch.optim.AdamW(parameters, rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, steps, pct_start=0.2)
    network.train()
    for step in range(1, steps + 1):
        part = lesson([scene(draw) for _ in range(24)])
        seen = network.vision_model(part.pixels).last_hidden_state
        sight = helper(seen[:, 1:])
        there = sight.logsumexp(1) - float(np.log(sight.shape[1]))
        spoken = loss(network, seen, part)
        total = spoken + 2 * F.binary_cross_entropy_with_logits(there, part.present)
        optimiser.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        if step % 50 == 0:
            yield step, spoken.item()
    network.eval()


ARCHITECTURES = {
    "ask": transformers.BlipForQuestionAnswering,
    "caption": transformers.BlipForConditionalGeneration,
}
LOSSES: dict[str, Loss] = {"ask": answering, "caption": captioning}


def trained(skill: str, steps: int, *, seed: int = 0) -> Any:
    """A network that has learnt to answer questions about scenes, or to caption them."""
    torch.manual_seed(seed)
    network = ARCHITECTURES[skill](config())
    for _ in taught(network, LOSSES[skill], steps, seed=seed):
        pass
    return network
