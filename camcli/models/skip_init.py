"""Build a network without allocating or initialising its weights."""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class SkipInit(TorchFunctionMode):
    """A context in which parameters are created on the meta device and never initialised.

    Only tensors that are created to be filled are put there. `torch.device("meta")` would also
    take the numbers that a constructor computes, such as the widths of a RegNet.
    """

    CREATE = frozenset({torch.empty, torch.zeros, torch.ones})
    FILL = frozenset(
        {"add_", "clamp_", "copy_", "div_", "erfinv_", "fill_", "mul_", "normal_", "sub_"}
        | {"uniform_", "zero_"}
    )

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in self.CREATE and kwargs.get("device") is None:
            kwargs = {**kwargs, "device": "meta"}
        elif getattr(func, "__name__", "") in self.FILL:
            tensor = args[0] if args else kwargs["tensor"]  # torch.nn.init passes it by this name
            if tensor.is_meta:
                return tensor
        return func(*args, **kwargs)
