"""The C library's heap, told to keep what it is given back."""

from __future__ import annotations

import contextlib
import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""malloc.h: how much free memory at the heap's end is kept; how many blocks lie outside of it."""


def keep_freed_memory() -> None:
    """For a process that runs networks on the CPU, once, before the first of them.

    Each layer takes some tens of megabytes and gives back as many. glibc has blocks of that size
    from the system each time, and then every page is a fault when it is first written to, which
    takes a good part of a forward pass. A heap that keeps them has them ready, and is a little
    larger at its peak. Elsewhere than on glibc it does nothing.
    """
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError, OSError):
            adjust = ctypes.CDLL(None).mallopt
            adjust(_MMAP_MAX, 0)
            adjust(_TRIM_THRESHOLD, 2**31 - 1)
