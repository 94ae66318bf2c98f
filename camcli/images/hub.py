"""Files of the Hugging Face hub: hf:// URLs, which pyarrow reads through huggingface_hub."""

from __future__ import annotations

import sys
from typing import Any

from camcli.errors import one_line

_FOREIGN = {"httpx": "HTTPError", "httpx2": "HTTPError", "aiohttp": "ClientError"}
"""The errors of libraries that fsspec uses, as for hf://, which are no OSError."""


class Hub:
    """The file system of pyarrow for `hf://`, which raises why a file cannot be opened.

    pyarrow takes every failure for a file that is missing.
    """

    def __init__(self, system: Any) -> None:
        self._system = system

    def __getattr__(self, name: str) -> Any:
        return getattr(self._system, name)

    def open_input_file(self, path: str) -> Any:
        """Open a file. Raises OSError, and errors of the libraries."""
        self._look_up(path)
        return self._system.open_input_file(path)

    def open_input_stream(self, path: str) -> Any:
        """Open a file as a stream. Raises OSError, and errors of the libraries."""
        self._look_up(path)
        return self._system.open_input_stream(path)

    def _look_up(self, path: str) -> None:
        """Look a file up, which takes no request if its folder was listed before."""
        try:
            self._system.handler.fs.info(path)
        except FileNotFoundError as error:
            if error.__cause__:  # it is the repository that is missing
                raise OSError(one_line(error)) from None
            raise


def in_words(error: Exception) -> str:
    """Return one line of an error, with the answer of the hub."""
    return " ".join(f"{one_line(error)} {getattr(error, 'server_message', None) or ''}".split())


def foreign_errors() -> tuple[type[Exception], ...]:
    """Return the errors of libraries that are no OSError."""
    loaded = [(sys.modules[name], error) for name, error in _FOREIGN.items() if name in sys.modules]
    return tuple(getattr(module, error) for module, error in loaded)
