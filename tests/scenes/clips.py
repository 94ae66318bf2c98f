"""A tiny CLIP of the transformers library, trained to match scenes with texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import transformers

from camcli.models.prompts import ITSELF, TEMPLATE
from tests.scenes.drawing import KINDS, SIDE, normalised, scene
from tests.scenes.vits import shares
from tests.support import clips

BATCH = 48
WORDS = tuple(dict.fromkeys(" ".join((TEMPLATE, *KINDS)).replace(ITSELF, "").split()))
SIZES = {"hidden_size": 64, "intermediate_size": 128}


def trained(steps: int, *, layers: int = 3, seed: int = 0, rate: float = 1.5e-3) -> Any:
    """Return a network of so many blocks that was trained on new scenes in each step.

    The loss is that of CLIP (arXiv:2103.00020, fig. 3) between the scenes of a batch and a text for
    each of KINDS. A scene has two true texts, and a text has several true scenes.
    """
    torch.manual_seed(seed)
    draw = np.random.default_rng(seed)
    sizes = SIZES | {"num_hidden_layers": layers}
    network = transformers.CLIPModel(clips.config("clip", WORDS, SIDE, **sizes))
    texts = clips.tokenizer(WORDS)(
        [TEMPLATE.replace(ITSELF, kind) for kind in KINDS], padding=True, return_tensors="pt"
    )
    optimiser = torch.optim.AdamW(network.parameters(), rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, steps, pct_start=0.2)
    network.train()
    for _ in range(steps):
        seen = [scene(draw) for _ in range(BATCH)]
        scores = network(
            pixel_values=normalised(seen),
            input_ids=texts["input_ids"],
            attention_mask=texts["attention_mask"],
        ).logits_per_image
        wanted = shares(seen)
        of_texts = wanted.mT / wanted.sum(0).clamp(min=0.5)[:, None]
        loss = F.cross_entropy(scores, wanted) + F.cross_entropy(scores.mT, of_texts)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    return network.eval()


def save(network: Any, folder: Path) -> Path:
    """Save a network as a folder of the hub, with the names of the things in `kinds.txt`."""
    clips.save(network, folder, WORDS, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    (folder / "kinds.txt").write_text("\n".join(KINDS))
    return folder
