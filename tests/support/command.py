"""Arguments of command lines and readers of their results."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from click.testing import Result

Run: TypeAlias = Callable[..., Result]
"""The `run` fixture: runs a command line."""
TINY = ("--model", "squeezenet1_1", "--weights", "none", "--device", "cpu")
"""Arguments for a small network with random weights."""


def stdout(found: Result) -> str:
    return found.stdout_bytes.decode()


def stderr(found: Result) -> str:
    return (found.stderr_bytes or b"").decode()


def problems(found: Result) -> list[str]:
    """Return the lines of standard error without the note on the preprocessing of a network."""
    return [one for one in stderr(found).splitlines() if not one.startswith("Note: preprocessing")]


def line_of(text: str, start: str) -> str:
    """Return the first line that begins with `start`."""
    return next(line for line in text.splitlines() if line.startswith(start))


def refused(found: Result) -> str:
    """Check that a command exited with 2 and wrote one error line, and return its message."""
    assert (found.exit_code, found.stdout_bytes) == (2, b"")
    (line,) = problems(found)
    assert line.startswith("Error: ")
    return line.removeprefix("Error: ")
