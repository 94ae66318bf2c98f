"""A tiny CLIP of the transformers library, trained to match scenes with texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import transformers
from torch import Tensor

from camcli.models.prompts import ITSELF, TEMPLATE
from tests.scenes.drawing import KINDS, SIDE, Scene, normalised
from tests.scenes.vits import fitted, shares
from tests.support import clips

WORDS = tuple(dict.fromkeys(" ".join((TEMPLATE, *KINDS)).replace(ITSELF, "").split()))
SIZES = {"hidden_size": 64, "intermediate_size": 128}


def trained(steps: int, *, layers: int = 3, seed: int = 0) -> Any:
    """Return a network of so many blocks that was trained on scenes.

    The loss is that of CLIP (arXiv:2103.00020, fig. 3) between the scenes of a batch and a text for
    each of KINDS. A scene has two true texts, and a text has several true scenes.
    """
    texts = clips.tokenizer(WORDS)(
        [TEMPLATE.replace(ITSELF, kind) for kind in KINDS], padding=True, return_tensors="pt"
    )

    def loss_of(network: Any, seen: Sequence[Scene]) -> Tensor:
        scores = network(
            pixel_values=normalised(seen),
            input_ids=texts["input_ids"],
            attention_mask=texts["attention_mask"],
        ).logits_per_image
        wanted = shares(seen)
        of_texts = wanted.mT / wanted.sum(0).clamp(min=0.5)[:, None]
        return F.cross_entropy(scores, wanted) + F.cross_entropy(scores.mT, of_texts)

    torch.manual_seed(seed)
    sizes = SIZES | {"num_hidden_layers": layers}
    network = transformers.CLIPModel(clips.config("clip", WORDS, SIDE, **sizes))
    return fitted(network, loss_of, steps, seed)


def save(network: Any, folder: Path) -> Path:
    """Save a network as a folder of the hub, with the names of the things in `kinds.txt`."""
    clips.save(network, folder, WORDS, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    (folder / "kinds.txt").write_text("\n".join(KINDS))
    return folder
