"""Read raw maps: `.npy` files of floats, (h,w), or (3,H,W) and (P,h,w) for several planes."""

from __future__ import annotations

import math
import os
import re
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from camcli.errors import CamcliError
from camcli.images.store import AnyPath
from camcli.images.tars import open_file

FloatMap: TypeAlias = NDArray[np.floating[Any]]
MAP_BYTES = 1 << 30
"""The largest map that is read."""
_START = 10
"""The bytes before a header: a mark, the version, and the header's length."""
_BLOCK = 1 << 14
"""The bytes to read at once: most maps."""
_HEADER = re.compile(
    rb"\{'descr': '([<>]f[248])', 'fortran_order': (True|False), "
    rb"'shape': \((\d{1,12}(?:, \d{1,12}){1,2})\), \} *\n"
)
"""The header that numpy writes for floats in two or three dimensions. No other is evaluated: numpy
parses a header as Python, which raises many kinds of errors for a damaged one."""


def read_map(file: AnyPath) -> FloatMap:
    """Return the map in a file or in a member of a tar.

    Raises CamcliError, before anything large is read.
    """
    try:
        with open_file(file) as stream:
            data = stream.read(_BLOCK)
            begin = _START + int.from_bytes(data[8:_START], "little")
            dtype, fortran, shape = _layout(data[:8], data[_START:begin])
            count = math.prod(shape)
            if (more := begin + count * dtype.itemsize - len(data)) > 0:
                size = stream.seek(0, os.SEEK_END)
                if more > min(size, MAP_BYTES) - len(data):
                    raise CamcliError(f"shape {shape} in a file of {size} bytes")
                stream.seek(len(data))
                data += stream.read(more)
    except OSError as error:
        raise CamcliError(str(error.strerror)) from None
    return np.frombuffer(data, dtype, count, begin).reshape(shape, order="F" if fortran else "C")


@lru_cache(maxsize=64)
def _layout(start: bytes, header: bytes) -> tuple[np.dtype[Any], bool, tuple[int, ...]]:
    """Return the type, the order and the shape in a header. Raises CamcliError."""
    found = _HEADER.fullmatch(header)
    if start != b"\x93NUMPY\x01\x00" or found is None:
        raise CamcliError("expected a .npy file of floats in two or three dimensions")
    shape = tuple(map(int, found[3].split(b", ")))
    return np.dtype(found[1].decode()), found[2] == b"True", shape
