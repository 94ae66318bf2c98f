"""The dtypes that a network may compute in. Maps are always computed in float32 or float64."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor

PRECISIONS: Mapping[str, torch.dtype] = MappingProxyType(
    {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
)


def at_least_float32(x: Tensor) -> Tensor:
    """Return a tensor of half precision as float32, and any other unchanged."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
