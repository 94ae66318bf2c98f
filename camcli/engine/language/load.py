"""Load vision-language models from a folder that `save_pretrained` wrote, or from the hub."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from camcli.engine.language.network import TextScorer
from camcli.errors import ModelError, one_line
from camcli.images.preprocess import Preset
from camcli.images.regular import read_regular
from camcli.models.families import recorded_layer
from camcli.models.hub import (
    CONFIG,
    UNREADABLE,
    HubError,
    find_file,
    hub_folder,
    quiet,
    require_transformers,
)
from camcli.models.load import pick_device
from camcli.models.model import Model
from camcli.models.weights import sha256
from camcli.schema import RECORD_BYTES, TEXT, Record, list_of

_CONFIG_RECORD = Record(
    "a configuration", optional={"architectures": list_of(TEXT), "model_type": TEXT}
)
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""File names of weights, in order of preference. Of the second, tensors only are read."""


@dataclass(frozen=True)
class Skill:
    """A use of a model: the class of `transformers` for it, and the default model.

    `lacking` describes, in messages, the models of other classes.
    """

    architecture: str
    lacking: str
    default: str


SKILLS: Mapping[str, Skill] = MappingProxyType(
    {
        "ask": Skill(
            "BlipForQuestionAnswering", "answers no questions", "Salesforce/blip-vqa-base"
        ),
        "caption": Skill(
            "BlipForConditionalGeneration",
            "writes no captions",
            "Salesforce/blip-image-captioning-base",
        ),
    }
)


@dataclass(frozen=True)
class LanguageModel:
    """A model whose module is a TextScorer, and the tokenizer of its texts."""

    model: Model
    tokenizer: Any

    @property
    def scorer(self) -> TextScorer:
        assert isinstance(self.model.module, TextScorer)
        return self.model.module


def load_language_model(
    skill: str, name: str | None = None, device: str | torch.device = "cpu"
) -> LanguageModel:
    """Load a model for one of SKILLS, from a folder or the hub; without a name, the default one.

    A model in the hub's cache is used without a connection. Weights are read without executing
    anything in them. Raises ModelError.
    """
    wanted = SKILLS[skill]
    transformers = require_transformers("questions and captions need")
    name = name or wanted.default
    folder, to = _folder(name, wanted), pick_device(device)
    weights = _check_folder(folder, name, wanted)
    with quiet(transformers):
        try:
            network, report = getattr(transformers, wanted.architecture).from_pretrained(
                folder,
                local_files_only=True,
                use_safetensors=weights.name == WEIGHTS[0],
                weights_only=True,
                output_loading_info=True,
            )
            processor = transformers.AutoProcessor.from_pretrained(folder, local_files_only=True)
        except UNREADABLE as error:
            raise ModelError(f"model '{name}' is not readable ({one_line(error)})") from None
    if missing := sorted(report["missing_keys"]):
        raise ModelError(
            f"model '{name}': {weights.name} lacks {missing[0]} ({len(missing)} in all)"
        )
    tower = network.vision_model
    model = Model(
        module=TextScorer(network).to(to).eval(),
        name=Path(name).resolve().name if os.path.isdir(name) else name,
        weights=weights.name,
        weights_hash=sha256(weights),
        preset=_preset_of(processor.image_processor, int(network.config.vision_config.image_size)),
        layer=f"network.vision_model.{recorded_layer(tower)}",
        task="language",
    )
    return LanguageModel(model, processor.tokenizer)


def _folder(name: str, wanted: Skill) -> Path:
    """Return the folder of a model: itself, or the hub's cache, downloading if needed."""
    if os.path.isdir(name):
        return Path(name)
    here = f"give the folder of a {wanted.architecture} that save_pretrained wrote"
    try:
        return hub_folder(name, WEIGHTS)
    except HubError as error:
        reason = f"is not a folder, and the hub cannot be reached ({error}): {here}"
        if not error.known:
            reason = f"is neither a folder nor a name on the hub; {here}"
        raise ModelError(f"model '{name}' {reason}") from None


def _check_folder(folder: Path, name: str, wanted: Skill) -> Path:
    """Return the weights' file of a folder with the wanted architecture. Raises ModelError."""
    expected = f"expected a folder of transformers' {wanted.architecture}"
    try:
        card = _CONFIG_RECORD.parse(read_regular(folder / CONFIG, RECORD_BYTES))
        found = card.get("architectures") or [card.get("model_type")]
    except OSError:
        raise ModelError(f"model '{name}': no {CONFIG} in it; {expected}") from None
    except ValueError as error:
        raise ModelError(
            f"model '{name}': {CONFIG} is not readable ({error}); {expected}"
        ) from None
    if wanted.architecture not in found:
        raise ModelError(f"model '{name}': a {found[0]} {wanted.lacking}; {expected}")
    if (weights := find_file(folder, WEIGHTS)) is None:
        raise ModelError(f"model '{name}': no {' or '.join(WEIGHTS)} in it; {expected}")
    return weights


def _preset_of(processor: Any, side: int) -> Preset:
    """Return the preprocessing of an image processor, which makes the whole image square."""
    return Preset(
        resize=(side, side),
        crop=None,
        mean=tuple(map(float, processor.image_mean)),
        std=tuple(map(float, processor.image_std)),
        interpolation="bicubic" if int(processor.resample) == 3 else "bilinear",
    )
