"""CLIP and SigLIP networks of the `transformers` library, with texts as the classes of images.

The texts are embedded once, when the network is loaded. What remains is the vision tower and a
linear map of its embedding, with a row for each text.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from camcli.errors import CamcliWarning, ModelError, one_line
from camcli.models.head import CosineHead
from camcli.models.hf_networks import (
    config_of,
    folder_of,
    random_network,
    short_name,
    with_weights,
)
from camcli.models.hf_preprocessing import preset_of
from camcli.models.hub import UNREADABLE, find_file, quiet, require_transformers
from camcli.models.labels import read_labels
from camcli.models.model import Model
from camcli.models.options import ModelOptions
from camcli.models.weights import given_weights

PREFIX = "clip:"
ITSELF = "{}"
"""The template of a text that is the whole prompt."""
TEMPLATE = "a photo of a {}"
"""The template of the names of classes (Radford et al. 2021, arXiv:2103.00020, sec. 3.1.4)."""
VOCABULARIES = ("tokenizer.json", "vocab.json", "spiece.model", "tokenizer.model", "vocab.txt")
"""The files of which a tokenizer needs one."""
_USE = "networks for images and texts need"
_AT_ONCE = 64
"""The number of texts that are embedded at once."""


class _Kind(NamedTuple):
    """A kind of networks: the meaning of its scores, and whether it needs texts of full length."""

    activation: str
    padded: bool


KINDS = {"clip": _Kind("softmax", False), "siglip": _Kind("sigmoid", True)}
"""The kinds by the `model_type` of their configuration. They read texts as in their training."""


class PromptClassifier(nn.Module):
    """The vision tower of a network for images and texts, and a head with a row for each text."""

    def __init__(self, network: Any, rows: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.vision_model = network.vision_model
        self.projection = getattr(network, "visual_projection", nn.Identity())
        self.head = CosineHead(rows, bias)

    def forward(self, images: Tensor) -> Tensor:
        """(N,3,H,W) -> (N,K)"""
        embeddings = self.projection(self.vision_model(pixel_values=images).pooler_output)
        scores: Tensor = self.head(embeddings)
        return scores


def load_clip(options: ModelOptions) -> Model:
    """Load a network with the texts of the options as its classes. Raises ModelError."""
    name, transformers = options.name, require_transformers(_USE)
    texts, template = prompts_of(options)
    with quiet(transformers):
        folder, config, kind = _opened(transformers, name)
        preset, given = preset_of(transformers, folder, name), given_weights(options)
        loaded = with_weights(transformers.AutoModel, config, folder, given, options)
        network, weights, digest = loaded
        prompts = [template.replace(ITSELF, text) for text in texts]
        tokens = _tokens(_tokenizer(transformers, folder, name), prompts, config, kind)
        module = PromptClassifier(network, *_folded(network, tokens))
    activation = kind.activation if options.activation == "auto" else options.activation
    return Model(
        module=module,
        name=short_name(name, PREFIX),
        weights=weights,
        weights_hash=digest,
        preset=preset,
        preset_from="transformers",
        class_names=_class_names(texts, activation),
        num_classes=len(texts),
        activation=activation,
        prompt={"template": template, "texts": list(texts)},
    )


def outline_clip(name: str) -> Model:
    """Build a network with random weights, and two classes for texts. Raises ModelError."""
    transformers = require_transformers(_USE)
    with quiet(transformers):
        folder, config, _ = _opened(transformers, name)
        preset = preset_of(transformers, folder, name)
        network = random_network(transformers.AutoModel, config, name, seed=0)
    head = _folded(network, {"input_ids": torch.tensor([[0], [1]])})
    return Model(
        module=PromptClassifier(network, *head).eval(),
        name=short_name(name, PREFIX),
        weights="none",
        preset=preset,
        preset_from="transformers",
        num_classes=2,
    )


def prompts_of(options: ModelOptions) -> tuple[tuple[str, ...], str]:
    """Return the texts of the options and their template. Raises ModelError.

    `texts` are whole prompts unless a template is given, and the names in `labels` are put into
    TEMPLATE.
    """
    if bool(options.texts) == (options.labels is not None):
        given = "both are given" if options.texts else "neither is given"
        raise ModelError(
            f"model '{options.name}' needs texts as classes: expected --text, repeated, or "
            f"--labels FILE; {given}"
        )
    own = options.texts or read_labels(options.labels, None)  # type: ignore[arg-type] # one is given
    texts = tuple(text.strip() for text in own)
    if not texts or not all(texts):
        raise ModelError(f"model '{options.name}': a text is empty, expected words")
    text, times = Counter(texts).most_common(1)[0]
    if times > 1 and options.texts:
        raise ModelError(f"text '{text}' is given {times} times: expected each text once")
    if times > 1:
        _warn(f"{times} classes have the name '{text}', and hence the same score")
    template = options.template or (ITSELF if options.texts else TEMPLATE)
    if ITSELF not in template:
        raise ModelError(f"template '{template}': expected {ITSELF} in the place of the text")
    return texts, template


def _class_names(texts: Sequence[str], activation: str) -> tuple[str, ...]:
    """Return the names of the classes, which are two for the sigmoid of one text.

    Raises ModelError for the softmax of one text, which is 1 for every image.
    """
    if len(texts) == 1 and activation == "softmax":
        raise ModelError(
            f"text '{texts[0]}' is the only one, and its softmax is 1 for every image: expected "
            f"two texts or more"
        )
    return (f"not {texts[0]}", *texts) if (len(texts), activation) == (1, "sigmoid") else (*texts,)


def _opened(transformers: Any, name: str) -> tuple[Path, Any, _Kind]:
    """Return the folder of a network, its configuration and its kind. Raises ModelError."""
    folder = folder_of(name, PREFIX)
    config = config_of(transformers, folder, name)
    if config.model_type not in KINDS:
        raise ModelError(
            f"model '{name}': its type is {config.model_type}, expected {' or '.join(KINDS)}"
        )
    return folder, config, KINDS[config.model_type]


def _tokenizer(transformers: Any, folder: Path, name: str) -> Any:
    if find_file(folder, VOCABULARIES) is None:  # where transformers would take an empty one
        raise ModelError(f"model '{name}': no tokenizer in it, expected {VOCABULARIES[0]}")
    try:
        return transformers.AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except ImportError as error:
        needs = one_line(error).partition(" but ")[0]
        raise ModelError(f"model '{name}': {needs}: pip install 'camcli[transformers]'") from None
    except (*UNREADABLE, AttributeError) as error:
        raise ModelError(f"model '{name}': no usable tokenizer ({one_line(error)})") from None


def _tokens(tokenizer: Any, prompts: Sequence[str], config: Any, kind: _Kind) -> dict[str, Tensor]:
    """Return the token indices (K,L) of prompts, and their mask if the tokenizer gives one.

    Raises ModelError for a prompt that is too long, and warns of words that the tokenizer does not
    know.
    """
    known, longest = config.text_config.vocab_size, int(config.text_config.max_position_embeddings)
    special = {tokenizer.eos_token_id, tokenizer.pad_token_id}
    lost = []
    for prompt, ids in zip(prompts, tokenizer(list(prompts))["input_ids"], strict=True):
        if len(ids) > longest:
            raise ModelError(f"text '{prompt}' has {len(ids)} tokens, the network takes {longest}")
        if max(ids) >= known:
            raise ModelError(f"token {max(ids)} of text '{prompt}': the network knows {known}")
        if tokenizer.unk_token_id in {*ids} - special:
            lost.append(prompt)
    if lost:
        more = f", and so have {len(lost) - 1} others" if len(lost) > 1 else ""
        _warn(f"text '{lost[0]}' has words that the network does not know{more}")
    padding = {"padding": "max_length", "max_length": longest} if kind.padded else {"padding": True}
    found = tokenizer(list(prompts), return_tensors="pt", **padding)
    return {key: found[key] for key in ("input_ids", "attention_mask") if key in found}


def _warn(message: str) -> None:
    warnings.warn(message, CamcliWarning, stacklevel=4)


@torch.no_grad()
def _folded(network: Any, tokens: dict[str, Tensor]) -> tuple[Tensor, Tensor | None]:
    """Return the rows (K,D) and the bias (K,) of the head for texts.

    A row is the text's embedding of length 1, times the network's scale.
    """
    network.eval()
    found = [network.get_text_features(**part) for part in _parts(tokens)]
    texts = torch.cat([getattr(one, "pooler_output", one) for one in found])
    rows = normalize(texts, dim=1) * network.logit_scale.exp()
    bias = getattr(network, "logit_bias", None)
    return rows, None if bias is None else bias.expand(len(rows)).clone()


def _parts(tokens: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    for at in range(0, len(tokens["input_ids"]), _AT_ONCE):
        yield {name: values[at : at + _AT_ONCE] for name, values in tokens.items()}
