"""The errors of stores, each as an OSError with one line."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

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
