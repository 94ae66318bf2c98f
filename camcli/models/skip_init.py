"""Networks without storage: their parts, shapes and names, before there are any weights."""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class Hollow(TorchFunctionMode):
    """Inside, parameters are made on the meta device and never initialised.

    Only what is made to be filled goes there. `torch.device("meta")` would take whatever a
    constructor computes with it, such as the widths of a RegNet, which are then unknown.
    """

    MADE = frozenset({torch.empty, torch.zeros, torch.ones})
    FILLED = frozenset(
        {"add_", "clamp_", "copy_", "div_", "erfinv_", "fill_", "mul_", "normal_", "sub_"}
        | {"uniform_", "zero_"}
    )

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in self.MADE and kwargs.get("device") is None:
            kwargs = {**kwargs, "device": "meta"}
        elif getattr(func, "__name__", "") in self.FILLED:
            tensor = args[0] if args else kwargs["tensor"]  # the latter is torch.nn.init's name
            if tensor.is_meta:
                return tensor
        return func(*args, **kwargs)
