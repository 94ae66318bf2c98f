"""Small networks for images and texts of the `transformers` library, in folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

SPECIAL = ("[PAD]", "[UNK]", "[BOS]", "[EOS]")
WORDS = ("a", "photo", "of", "dog", "cat", "red", "circle", "this", "is")
LONGEST = 12
"""The most tokens of a text."""


def tokenizer(words: Sequence[str] = WORDS) -> Any:
    """Return a tokenizer of whole words, between tokens for the beginning and the end."""
    pad, unknown, start, end = SPECIAL
    vocabulary = {word: index for index, word in enumerate((*SPECIAL, *words))}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token=unknown))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}", special_tokens=[(start, 2), (end, 3)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made,
        **{"pad_token": pad, "unk_token": unknown, "bos_token": start, "eos_token": end},
    )


def config(kind: str, words: Sequence[str] = WORDS, side: int = 64, **sizes: int) -> Any:
    """Return the configuration of a small `clip` or `siglip` for images of `side` pixels."""
    both = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}
    both |= {"num_hidden_layers": 2} | sizes
    text = {"vocab_size": len(SPECIAL) + len(words), "max_position_embeddings": LONGEST}
    text |= {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
    vision = {"image_size": side, "patch_size": 8}
    if kind == "clip":
        both["projection_dim"] = 24
        return transformers.CLIPConfig(
            text_config=both | text, vision_config=both | vision, projection_dim=24
        )
    text["projection_size"] = both["hidden_size"]
    return transformers.SiglipConfig(text_config=both | text, vision_config=both | vision)


def network(kind: str) -> Any:
    """Return a small network with random weights, whose text and image embeddings vary."""
    torch.manual_seed(0)
    made = transformers.AutoModel.from_config(config(kind)).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim > 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return made


def save(made: Any, folder: Path, words: Sequence[str] = WORDS, **fields: Any) -> Path:
    """Save a network, its tokenizer and its preprocessing in the form of a folder of the hub.

    `fields` are those of the image processor.
    """
    side = made.config.vision_config.image_size
    square = {"height": side, "width": side}
    if made.config.model_type == "clip":
        images = transformers.CLIPImageProcessor(
            size={"shortest_edge": side}, crop_size=square, **fields
        )
        both = transformers.CLIPProcessor(images, tokenizer(words))
    else:
        images = transformers.SiglipImageProcessor(size=square, **fields)
        both = transformers.SiglipProcessor(images, tokenizer(words))
    made.save_pretrained(folder)
    both.save_pretrained(folder)
    return folder
