"""The dtypes that a network may compute in. Maps are always computed in float32 or float64."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

PRECISIONS: Mapping[str, torch.dtype] = MappingProxyType(
    {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
)


def at_least_float32(x: Tensor) -> Tensor:
    """Return a tensor of half precision as float32, and any other unchanged."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def is_emulated(dtype: torch.dtype, device: torch.device) -> bool:
    """Return whether a CPU has no instructions for a dtype of half precision.

    It then computes more slowly than in float32. False for other devices, and where torch cannot
    tell.
    """
    if device.type != "cpu" or platform.machine().lower() not in _X86:
        return False
    found = [check() for check in _CHECKS.get(dtype, ()) if check is not None]
    return bool(found) and not any(found)


def _found(place: Any, name: str) -> Callable[[], bool] | None:
    """Return a function of torch by name; None where this torch does not have it."""
    try:
        found: Callable[[], bool] = getattr(place, name)
    except (AttributeError, RuntimeError):  # of an operator that this build lacks
        return None
    return found


_X86 = frozenset({"x86_64", "amd64"})
_CHECKS = {
    torch.bfloat16: (
        _found(torch.cpu, "_is_avx512_bf16_supported"),
        _found(torch.cpu, "_is_amx_tile_supported"),
    ),
    torch.float16: (_found(torch.ops.mkldnn, "_is_mkldnn_fp16_supported"),),
}
"""For each dtype, functions that tell instructions for it on x86 processors. They have no public
names."""
