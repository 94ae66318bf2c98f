"""The number formats that a network may compute in. Maps are always made in float32 or better."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor

PRECISIONS: Mapping[str, torch.dtype] = MappingProxyType(
    {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
)


def at_least_float32(x: Tensor) -> Tensor:
    """Half precision as float32; the rest as it is."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
