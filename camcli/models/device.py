"""Devices by name."""

from __future__ import annotations

import torch

from camcli.errors import ModelError, one_line


def pick_device(name: str | torch.device) -> torch.device:
    """Return the device of a name; `auto` prefers CUDA, then MPS, then the CPU.

    Raises ModelError if the name is unknown or the device is not available.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    if str(name).partition(":")[0] not in ("cpu", "cuda", "mps"):
        raise ModelError(f"unknown device '{name}': expected auto, cpu, cuda, cuda:N or mps")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = one_line(error)
        raise ModelError(f"device '{name}' is not available: {reason}") from None
    return device
