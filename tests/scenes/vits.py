"""A tiny ViT of the transformers library, trained to name the things of scenes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor

from tests.scenes.drawing import KINDS, SIDE, Scene, normalised, scene

BATCH = 48


def config(width: int = 64, patch: int = 8, layers: int = 3) -> Any:
    """Return the configuration of a ViT whose classes are KINDS."""
    return transformers.ViTConfig(
        hidden_size=width,
        intermediate_size=2 * width,
        num_attention_heads=4,
        num_hidden_layers=layers,
        image_size=SIDE,
        patch_size=patch,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.1,
        id2label=dict(enumerate(KINDS)),
        label2id={kind: index for index, kind in enumerate(KINDS)},
    )


def shares(scenes: Sequence[Scene]) -> Tensor:
    """Return the wanted probabilities (N,K): a half for each of a scene's two things."""
    wanted = torch.zeros(len(scenes), len(KINDS))
    for row, one in zip(wanted, scenes, strict=True):
        for thing in one.things:
            row[KINDS.index(thing.words)] = 0.5
    return wanted


Loss: TypeAlias = Callable[[Any, Sequence[Scene]], Tensor]
"""Returns the loss of a network for scenes."""


def fitted(network: Any, loss_of: Loss, steps: int, seed: int = 0, rate: float = 1.5e-3) -> Any:
    """Train a network in place, on new scenes in each step, and return it."""
    draw = np.random.default_rng(seed)
    optimiser = torch.optim.AdamW(network.parameters(), rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, steps, pct_start=0.2)
    network.train()
    for _ in range(steps):
        loss = loss_of(network, [scene(draw) for _ in range(BATCH)])
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    return network.eval()


def trained(steps: int, *, seed: int = 0) -> Any:
    """Return a ViT that was trained on scenes."""

    def loss_of(network: Any, seen: Sequence[Scene]) -> Tensor:
        return F.cross_entropy(network(normalised(seen)).logits, shares(seen))

    torch.manual_seed(seed)
    return fitted(transformers.ViTForImageClassification(config()), loss_of, steps, seed)


def save(network: Any, folder: Path) -> Path:
    """Save a network and its image processor in the form of a folder of the Hugging Face hub."""
    network.save_pretrained(folder)
    size = {"height": SIDE, "width": SIDE}
    transformers.ViTImageProcessor(
        size=size, image_mean=[0.5] * 3, image_std=[0.5] * 3
    ).save_pretrained(folder)
    return folder
