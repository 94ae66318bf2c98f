"""The preprocessing of `transformers`' image processors, as a `Preset`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from camcli.errors import ModelError, one_line
from camcli.images.preprocess import Preset
from camcli.models.hub import UNREADABLE

CARD = "preprocessor_config.json"
_INTERPOLATION = MappingProxyType({2: "bilinear", 3: "bicubic"})
"""PIL's numbers of the supported interpolations."""
_FIELDS = frozenset(
    {"BeitImageProcessor", "BitImageProcessor", "CLIPImageProcessor", "DeiTImageProcessor"}
    | {"MobileNetV1ImageProcessor", "MobileNetV2ImageProcessor", "SiglipImageProcessor"}
    | {"ViTImageProcessor"}
)
"""The processors that do what their fields say: resize, crop the centre, scale, normalise."""
_BY_SHARE = frozenset({"ConvNextImageProcessor"})
"""The processors with a share `crop_pct`. From _SQUASHED pixels on, they squash the image."""
_SQUASHED = 384


class _InexpressibleError(Exception):
    """A step of a processor that a Preset does not have."""


def preset_of(transformers: Any, folder: Path, name: str) -> Preset:
    """Return the preprocessing of a folder. Raises ModelError if a Preset cannot express it."""
    try:
        processor = transformers.AutoImageProcessor.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except (*UNREADABLE, ImportError, AttributeError) as error:
        raise ModelError(f"model '{name}': no usable {CARD} ({one_line(error)})") from None
    kind = type(processor).__name__.removesuffix("Fast").removesuffix("Pil")
    try:
        return _preset(kind, processor.to_dict())
    except _InexpressibleError as error:
        raise ModelError(
            f"model '{name}': its preprocessing is not supported ({kind}: {error})"
        ) from None


def _preset(kind: str, card: Mapping[str, Any]) -> Preset:
    if kind not in _FIELDS | _BY_SHARE:
        raise _InexpressibleError(f"expected one of {', '.join(sorted(_FIELDS | _BY_SHARE))}")
    resize, crop, squash = (_by_share if kind in _BY_SHARE else _by_fields)(card)
    _check_values(card)
    normalised = card["do_normalize"]
    return Preset(
        resize=resize,
        crop=crop,
        squash=squash,
        bicubic=_INTERPOLATION[int(card["resample"])] == "bicubic",
        mean=tuple(map(float, card["image_mean"])) if normalised else (0.0, 0.0, 0.0),
        std=tuple(map(float, card["image_std"])) if normalised else (1.0, 1.0, 1.0),
    )


def _check_values(card: Mapping[str, Any]) -> None:
    if not card["do_resize"]:
        raise _InexpressibleError("do_resize false")
    if not card["do_rescale"] or not math.isclose(card["rescale_factor"], 1 / 255, rel_tol=1e-6):
        raise _InexpressibleError("pixels that are not scaled to 0..1")
    if card["resample"] is None or int(card["resample"]) not in _INTERPOLATION:
        raise _InexpressibleError(f"resample {card['resample']}")
    if card.get("do_pad") or card.get("do_grayscale"):
        raise _InexpressibleError("padding or grey images")


def _by_fields(card: Mapping[str, Any]) -> tuple[int, int | None, bool]:
    """Return the sides to resize and crop to, and whether the whole image is made square."""
    size = _size(card["size"])
    crop = _square(_size(card["crop_size"])) if card.get("do_center_crop") else None
    if "shortest_edge" in size and "longest_edge" not in size:
        return int(size["shortest_edge"]), crop, False
    side = _square(size)
    if crop not in (None, side):
        raise _InexpressibleError(
            f"the whole image squashed to {side} pixels, then cropped to {crop}"
        )
    return side, side, True


def _by_share(card: Mapping[str, Any]) -> tuple[int, int | None, bool]:
    side = _size(card["size"]).get("shortest_edge")
    if side is None:
        raise _InexpressibleError(f"size {card['size']}")
    if side >= _SQUASHED:
        return side, side, True
    return int(side / card["crop_pct"]), side, False


def _size(size: Any) -> dict[str, int]:
    """Return the sides that are given. Old folders have one number for a square."""
    if isinstance(size, int):
        return {"height": size, "width": size}
    return {key: int(value) for key, value in dict(size).items() if value is not None}


def _square(size: Mapping[str, int]) -> int:
    if size.keys() != {"height", "width"} or size["height"] != size["width"]:
        raise _InexpressibleError(f"size {dict(size)}")
    return size["height"]
