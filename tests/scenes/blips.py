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

from tests.scenes.drawing import COLOURS, SHAPES, SIDE, Scene, questions

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]")
SAYINGS = ("what colour is the ?", "which shape is", "a and")
WORDS = (*dict.fromkeys(" ".join(SAYINGS).split()), *COLOURS, *SHAPES)
VOCABULARY = {word: index for index, word in enumerate((*SPECIAL, *WORDS))}
PAIRS = [(colour, shape) for colour in COLOURS for shape in SHAPES]


def config(width: int = 64, layers: int = 2, patch: int = 8, spread: float = 0.1) -> Any:
    """A configuration as the published models', at a hundredth of their size."""
    both = {
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_attention_heads": 4,
        "initializer_range": spread,
    }
    special = {"bos_token_id": 5, "eos_token_id": 3, "pad_token_id": 0, "sep_token_id": 3}
    return transformers.BlipConfig(
        text_config=both
        | special
        | {
            "vocab_size": len(VOCABULARY),
            "encoder_hidden_size": width,
            "num_hidden_layers": 2,
            "max_position_embeddings": 24,
        },
        vision_config=both | {"num_hidden_layers": layers, "image_size": SIDE, "patch_size": patch},
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

    `pixels` (S,3,H,W), `present` (S,9) which of PAIRS are there, `questions` (S,4,Q) with padding,
    `answers` (S,4,3) and `captions` (S,L) from the start token to the end token, with padding.
    """

    pixels: Tensor
    present: Tensor
    questions: Tensor
    answers: Tensor
    captions: Tensor

    def some(self, which: Tensor) -> Lesson:
        return Lesson(*(each[which] for each in self))


def lesson(scenes: Sequence[Scene]) -> Lesson:
    asked = [questions(one) for one in scenes]
    present = [
        [float((c, s) in [(t.colour, t.shape) for t in one.things]) for c, s in PAIRS]
        for one in scenes
    ]
    return Lesson(
        pixels=normalised(scenes),
        present=torch.tensor(present),
        questions=torch.stack([_ids([q.text for q in of], "[CLS]") for of in asked]),
        answers=torch.stack([_ids([q.answer for q in of], "[DEC]") for of in asked]),
        captions=_ids([one.caption for one in scenes], "[DEC]"),
    )


def normalised(scenes: Sequence[Scene]) -> Tensor:
    """The inputs (N,3,SIDE,SIDE), as the image processor makes them."""
    pixels = torch.from_numpy(np.stack([one.pixels for one in scenes]))
    return pixels.permute(0, 3, 1, 2).float() / 127.5 - 1


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
    network: Any, loss: Loss, pool: Lesson, steps: int, *, seed: int = 0, rate: float = 1.5e-3
) -> Iterator[tuple[int, float]]:
    """Trains a network in place, and gives the loss every 50 steps.

    The tower is helped by a second loss: which shapes of which colours there are, pooled over
    the image's tokens. That says what is in a scene, and never where.
    """
    draw = torch.Generator().manual_seed(seed)
    helper = nn.Linear(network.config.vision_config.hidden_size, len(PAIRS))
    parameters = [*network.parameters(), *helper.parameters()]
    optimiser = torch.optim.AdamW(parameters, rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, steps, pct_start=0.2)
    network.train()
    for step in range(1, steps + 1):
        part = pool.some(torch.randint(len(pool.pixels), (24,), generator=draw))
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
            yield step, float(spoken)
    network.eval()
