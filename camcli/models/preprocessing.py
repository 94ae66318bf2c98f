"""The preprocessing of a network: read from a file, changed by options, and described in a line."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import astuple, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from camcli.errors import ModelError, one_line, unknown
from camcli.images.preprocess import INTERPOLATIONS, Preset, sides_text
from camcli.images.regular import read_regular
from camcli.models.options import PreprocessOptions
from camcli.schema import INTEGER, NUMBER, RECORD_BYTES, Record, choice, either, list_of, parse_json

if TYPE_CHECKING:
    from camcli.models.model import Model

_SIDES = either(INTEGER, list_of(INTEGER, 2, 2))
_CHANNELS = list_of(NUMBER, 1, 1024)
PRESET_RECORD = Record(
    "an object with resize, crop, mean, std or interpolation",
    optional={
        **{"resize": _SIDES, "crop": _SIDES, "mean": _CHANNELS, "std": _CHANNELS},
        "interpolation": choice(INTERPOLATIONS),
    },
)
"""A preset in a file. A side that is null keeps the size."""
PRESET_FIELDS = tuple(PRESET_RECORD.optional)
"""The fields of a preset in a file."""


def with_preprocessing(model: Model, options: PreprocessOptions) -> Model:
    """Return the model with its preprocessing changed by the options. Raises ModelError."""
    if not any(value is not None for value in astuple(options)):
        return model
    if model.task == "detection" and hasattr(model.module, "transform"):
        raise ModelError(
            f"{model.name} is a detection model, which resizes and normalises images by itself: "
            f"expected no options on preprocessing"
        )
    preset = model.preset if options.file is None else read_preset(options.file)
    try:
        return replace(model, preset=_changed(preset, options), preset_from="given")
    except ValueError as error:
        raise ModelError(f"preprocessing: {one_line(error)}") from None


def read_preset(file: Path) -> Preset:
    """Read a preset from a JSON file with some of its fields. Raises ModelError."""
    try:
        return preset_of(parse_json(read_regular(file, RECORD_BYTES)))
    except OSError as error:
        raise ModelError(f"preprocessing '{file}': {error.strerror}") from None
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError) as error:
        raise ModelError(f"preprocessing '{file}': {one_line(error)}") from None


def preset_of(values: Any) -> Preset:
    """Return the preset that a mapping describes, by PRESET_FIELDS or in another format of FORMATS.

    Raises ValueError and ModelError; and TypeError, KeyError, AttributeError and ArithmeticError
    for a damaged file in another format.
    """
    for field, convert in FORMATS.items() if isinstance(values, Mapping) else ():
        if field in values:
            return convert(values)
    if problem := PRESET_RECORD.problem(values, ""):
        raise ValueError(problem)
    for name in values.keys() - {*PRESET_FIELDS}:
        raise ValueError(unknown("field", str(name), PRESET_FIELDS))
    known: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in values.items()
        if value is not None or name in ("resize", "crop")
    }
    if isinstance(known.get("resize"), tuple):
        known.setdefault("crop", None)
    return Preset(**known)


def preset_of_timm(card: Mapping[str, Any]) -> Preset:
    """Return the preset of timm's configuration of a network, `pretrained_cfg`.

    Raises ValueError for what a Preset cannot express.
    """
    (_, height, width), mode = card["input_size"], card.get("crop_mode", "center")
    share = float(card.get("crop_pct") or 0.875)
    if mode not in ("center", "squash") or (mode == "center" and height != width):
        raise ValueError(f"crop_mode {mode} of {height}x{width} pixels")
    rows, columns = (math.floor(side / share) for side in (height, width))
    return Preset(
        resize=rows if mode == "center" else (rows, columns),
        crop=(height, width) if height != width else height,
        mean=tuple(map(float, card["mean"])),
        std=tuple(map(float, card["std"])),
        interpolation=str(card["interpolation"]),
    )


def _of_timm_file(card: Mapping[str, Any]) -> Preset:
    return preset_of_timm(card.get("pretrained_cfg") or card)


def _of_transformers(card: Mapping[str, Any]) -> Preset:
    from camcli.models.hf_preprocessing import preset_of_card  # needs the library

    return preset_of_card(card)


FORMATS: Mapping[str, Callable[[Mapping[str, Any]], Preset]] = MappingProxyType(
    {
        "pretrained_cfg": _of_timm_file,
        "input_size": _of_timm_file,
        "image_processor_type": _of_transformers,
        "feature_extractor_type": _of_transformers,
    }
)
"""The files of other libraries, by a field that only they have: timm's `config.json` or
`pretrained_cfg`, and transformers' `preprocessor_config.json`."""


def describe_preset(preset: Preset) -> str:
    """Return a preset in one line."""
    mean, std = (",".join(f"{value:g}" for value in values) for values in (preset.mean, preset.std))
    sides = f"resize {sides_text(preset.resize)}, crop {sides_text(preset.crop)}"
    return f"{sides}, {preset.interpolation}, channels {preset.channels}, mean {mean}, std {std}"


def _changed(preset: Preset, options: PreprocessOptions) -> Preset:
    changes: dict[str, Any] = {}
    if options.resize is not None:
        changes["resize"] = None if options.resize == "none" else options.resize
        if isinstance(options.resize, tuple):
            changes["crop"] = None
    if options.crop is not None:
        changes["crop"] = None if options.crop == "none" else options.crop
    if options.interpolation is not None:
        changes["interpolation"] = options.interpolation
    channels = options.channels or max(
        preset.channels, *(len(values or ()) for values in (options.mean, options.std))
    )
    if channels != preset.channels:
        changes |= {"mean": (0.0,) * channels, "std": (1.0,) * channels}
    for name, values in (("mean", options.mean), ("std", options.std)):
        if values:
            changes[name] = values * channels if len(values) == 1 else values
    return replace(preset, **changes)
