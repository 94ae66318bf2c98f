"""Tiny BLIP networks of the transformers library, with a vocabulary for scenes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    """Return the configuration of a network of about a hundredth of the published size."""
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
    """Return a processor: a tokenizer of VOCABULARY, and image inputs of SIDE pixels."""
    tokenizer = transformers.BertTokenizer(vocab=VOCABULARY)
    images = transformers.BlipImageProcessor(
        size={"height": SIDE, "width": SIDE}, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    return transformers.BlipProcessor(images, tokenizer)


def save(network: Any, folder: Path) -> Path:
    """Save a network and its processor in the form of a folder of the Hugging Face hub."""
    network.save_pretrained(folder)
    processor().save_pretrained(folder)
    return folder


class Batch(NamedTuple):
    """A training batch of S scenes with their questions, answers and captions.

    `pixels` (S,3,H,W), `present` (S,6): which of TRAITS a scene contains, `questions` (S,4,Q) with
    padding, `answers` (S,4,3), and `captions` (S,L) from the start token to the end token, padded.
    """

    pixels: Tensor
    present: Tensor
    questions: Tensor
    answers: Tensor
    captions: Tensor


def make_batch(scenes: Sequence[Scene]) -> Batch:
    """Return scenes as a training batch."""
    asked = [(questions(one) * 2)[:4] for one in scenes]  # some scenes have only two
    present = [
        [float(any(trait in thing.words.split() for thing in one.things)) for trait in TRAITS]
        for one in scenes
    ]
    return Batch(
        pixels=normalised(scenes),
        present=torch.tensor(present),
        questions=torch.stack([_ids([q.text for q in of], "[CLS]") for of in asked]),
        answers=torch.stack([_ids([q.answer for q in of], "[DEC]") for of in asked]),
        captions=_ids([one.captions[0] for one in scenes], "[DEC]"),
    )


def _ids(texts: Sequence[str], start: str) -> Tensor:
    """Return texts as token indices (N,L) between `start` and the end token, padded at the end."""
    split = [[start, *text.replace("?", " ?").split(), "[SEP]"] for text in texts]
    length = 10
    return torch.tensor(
        [[VOCABULARY[word] for word in one] + [0] * (length - len(one)) for one in split]
    )


def answering(network: Any, seen: Tensor, batch: Batch) -> Tensor:
    """Return the loss of the answers, given the image tokens (S,T,D)."""
    asked, answers = batch.questions.flatten(0, 1), batch.answers.flatten(0, 1)[:, :3]
    mask = (asked != 0).long()
    memory = network.text_encoder(
        input_ids=asked, attention_mask=mask, encoder_hidden_states=seen.repeat_interleave(4, 0)
    ).last_hidden_state
    found = network.text_decoder(
        input_ids=answers[:, :-1], encoder_hidden_states=memory, encoder_attention_mask=mask
    )
    return F.cross_entropy(found.logits.flatten(0, 1), answers[:, 1:].flatten())


def captioning(network: Any, seen: Tensor, batch: Batch) -> Tensor:
    """Return the loss of the captions, given the image tokens (S,T,D)."""
    texts = batch.captions
    found = network.text_decoder(input_ids=texts[:, :-1], encoder_hidden_states=seen)
    return F.cross_entropy(found.logits.flatten(0, 1), texts[:, 1:].flatten(), ignore_index=0)


Loss = Callable[[Any, Tensor, Batch], Tensor]


def fit(network: Any, loss: Loss, steps: int, *, seed: int = 0, rate: float = 1.5e-3) -> None:
    """Train a network in place, on new scenes in each step.

    A second loss helps the vision model: which colours and shapes a scene contains, pooled over the
    image tokens. It tells neither where they are nor which belong together.
    """
    draw = np.random.default_rng(seed)
    helper = nn.Linear(network.config.vision_config.hidden_size, len(TRAITS))
    parameters = [*network.parameters(), *helper.parameters()]
    optimiser = torch.optim.AdamW(parameters, rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, steps, pct_start=0.2)
    network.train()
    for _ in range(steps):
        batch = make_batch([scene(draw) for _ in range(24)])
        seen = network.vision_model(batch.pixels).last_hidden_state
        sight = helper(seen[:, 1:])
        there = sight.logsumexp(1) - float(np.log(sight.shape[1]))
        helping = F.binary_cross_entropy_with_logits(there, batch.present)
        total = loss(network, seen, batch) + 2 * helping
        optimiser.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
    network.eval()


ARCHITECTURES = {
    "ask": transformers.BlipForQuestionAnswering,
    "caption": transformers.BlipForConditionalGeneration,
}
LOSSES: dict[str, Loss] = {"ask": answering, "caption": captioning}


def trained(skill: str, steps: int, *, seed: int = 0) -> Any:
    """Return a network trained to answer questions about scenes, or to caption them."""
    torch.manual_seed(seed)
    network = ARCHITECTURES[skill](config())
    fit(network, LOSSES[skill], steps, seed=seed)
    return network
