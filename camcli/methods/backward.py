"""The rules of the backward pass, which methods of gradients may have instead of derivatives.

torch is not imported, so that `camcli --help` can list BACKWARDS.
"""

from __future__ import annotations

from collections.abc import Sequence

from camcli.errors import MethodError, unknown
from camcli.methods.registry import Method

PLAIN, LIBRA = "plain", "libra"
BACKWARDS = (PLAIN, LIBRA)
"""The derivatives of the network, or the rule of LibraGrad in `capture.libra`."""


def check_backward(backward: str, methods: Sequence[Method]) -> None:
    """Raise MethodError if one of these methods cannot have a rule of the backward pass."""
    if backward not in BACKWARDS:
        raise MethodError(unknown("backward rule", backward, BACKWARDS))
    if backward == PLAIN:
        return
    for method in methods:
        if "relu" in method.requires:
            raise MethodError(f"'{method.name}' has a backward rule of its own, not '{backward}'")
        if not any(kind.cost.startswith("backward") for kind in method.kinds):
            raise MethodError(
                f"'{method.name}' has no gradients, which the backward rule '{backward}' changes: "
                f"leave it out"
            )
