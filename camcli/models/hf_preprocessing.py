"""The preprocessing of `transformers`' image processors, as a `Preset`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from camcli.errors import ModelError, one_line
from camcli.images.preprocess import Preset, Sides
from camcli.models.hub import UNREADABLE, require_transformers

CARD = "preprocessor_config.json"
_FIELDS = frozenset(
    {"BeitImageProcessor", "BitImageProcessor", "CLIPImageProcessor", "DeiTImageProcessor"}
    | {"MobileNetV1ImageProcessor", "MobileNetV2ImageProcessor", "SiglipImageProcessor"}
    | {"ViTImageProcessor", "SegformerImageProcessor", "RTDetrImageProcessor", "DetrImageProcessor"}
)
"""The processors that do what their fields say: resize, crop the centre, scale, normalise."""
_BY_SHARE = frozenset({"ConvNextImageProcessor"})
"""The processors with a share `crop_pct`. From _SQUASHED pixels on, they squash the image."""
_SQUASHED = 384
_OF_DETECTORS = frozenset({"DetrImageProcessor", "RTDetrImageProcessor"})
"""The processors that limit the longer side, too, and pad images to the largest of their batch. One
image alone is not padded."""


def preset_of(transformers: Any, folder: Path, name: str) -> Preset:
    """Return the preprocessing of a folder. Raises ModelError if a Preset cannot express it."""
    try:
        processor = transformers.AutoImageProcessor.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except (*UNREADABLE, ImportError, AttributeError) as error:
        raise ModelError(f"model '{name}': no usable {CARD} ({one_line(error)})") from None
    try:
        return preset_of_processor(processor)
    except ValueError as error:
        raise ModelError(f"model '{name}': its preprocessing is not supported ({error})") from None


def preset_of_card(card: Mapping[str, Any]) -> Preset:
    """Return the preprocessing that a CARD describes. Raises ModelError and ValueError."""
    transformers = require_transformers("a file of transformers needs")
    kind = str(card.get("image_processor_type") or card.get("feature_extractor_type"))
    processor = getattr(transformers, kind.replace("FeatureExtractor", "ImageProcessor"), None)
    if processor is None or _bare(kind) not in _FIELDS | _BY_SHARE:
        known = ", ".join(sorted(_FIELDS | _BY_SHARE))
        raise ValueError(f"image processor {kind}: expected one of {known}")
    return preset_of_processor(processor(**card))


def preset_of_processor(processor: Any) -> Preset:
    """Return the preprocessing of an image processor.

    Raises ValueError for what a Preset cannot express.
    """
    kind, card = _bare(type(processor).__name__), processor.to_dict()
    if kind not in _FIELDS | _BY_SHARE:
        known = ", ".join(sorted(_FIELDS | _BY_SHARE))
        raise ValueError(f"image processor {kind}: expected one of {known}")
    pads = card.get("do_pad") and (kind not in _OF_DETECTORS or card.get("pad_size"))
    if pads or card.get("do_grayscale"):
        raise ValueError(f"{kind}: padding or grey images")
    longest = None
    if kind in _OF_DETECTORS and card["do_resize"]:
        card["size"] = _size(card["size"])
        longest = card["size"].pop("longest_edge", None)
    resize, crop = (_by_share if kind in _BY_SHARE else _by_fields)(card)
    mean, std = _colours(card)
    filter_ = Image.Resampling(int(card["resample"])).name.lower() if resize else "bilinear"
    return Preset(resize, crop, mean, std, filter_, longest=longest)


def _bare(kind: str) -> str:
    """Return the name of a processor without that of its implementation."""
    kind = kind.replace("FeatureExtractor", "ImageProcessor")
    return kind.removesuffix("Fast").removesuffix("Pil")


def _colours(card: Mapping[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and std for values between 0 and 1, whatever the factor of the card is."""
    top = 255 * float(card["rescale_factor"]) if card["do_rescale"] else 255.0
    if not card["do_normalize"]:
        return (0.0,) * 3, (1 / top,) * 3
    mean, std = (tuple(float(v) / top for v in card[name]) for name in ("image_mean", "image_std"))
    return mean, std


def _by_fields(card: Mapping[str, Any]) -> tuple[Sides | None, Sides | None]:
    """Return the sides to resize and to crop to."""
    crop = _pair(_size(card["crop_size"])) if card.get("do_center_crop") else None
    if not card["do_resize"]:
        return None, crop
    size = _size(card["size"])
    if size.keys() == {"shortest_edge"}:
        return size["shortest_edge"], crop
    return _pair(size), crop


def _by_share(card: Mapping[str, Any]) -> tuple[Sides, Sides | None]:
    size = _size(card["size"])
    if size.keys() != {"shortest_edge"} or not card["do_resize"]:
        raise ValueError(f"size {size}, do_resize {card['do_resize']}")
    side = size["shortest_edge"]
    return ((side, side), None) if side >= _SQUASHED else (int(side / card["crop_pct"]), side)


def _size(size: Any) -> dict[str, int]:
    """Return the sides that are given. Old folders have one number for a square."""
    if isinstance(size, int):
        return {"height": size, "width": size}
    return {key: int(value) for key, value in dict(size).items() if value is not None}


def _pair(size: Mapping[str, int]) -> tuple[int, int]:
    if size.keys() != {"height", "width"}:
        raise ValueError(f"size {dict(size)}")
    return size["height"], size["width"]
