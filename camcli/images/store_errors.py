"""The errors of stores, each as an OSError with one line."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from typing import Any

from camcli.errors import one_line
from camcli.images.hub import foreign_errors, in_words


@contextlib.contextmanager
def as_os_errors() -> Iterator[None]:
    """Raise the errors of a store as OSError with one line in `strerror`."""
    try:
        yield
    except FileNotFoundError:
        raise FileNotFoundError(2, os.strerror(2)) from None
    except OSError as error:
        number = error.errno or 5
        raise OSError(number, os.strerror(number) if error.errno else in_words(error)) from None
    except ValueError as error:  # Arrow raises it for a path that it cannot parse
        raise OSError(22, one_line(error)) from None
    except foreign_errors() as error:
        raise OSError(5, one_line(error)) from None


class Stream(io.RawIOBase):
    """A stream of a store, whose errors are raised as OSError."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        with as_os_errors():
            return int(self._stream.readinto(buffer))

    def close(self) -> None:
        self._stream.close()
        super().close()
