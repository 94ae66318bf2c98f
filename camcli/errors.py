"""What can go wrong by a user's doing. Every message is one line: given, expected, nearest."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class CamcliError(Exception):
    """Something a user gave cannot be used. `str()` of it is one line, made to be shown."""


class ModelError(CamcliError):
    """A model, its weights, its labels or a layer of it cannot be used."""


class MethodError(CamcliError):
    """A method does not apply to the model or target it was asked for."""


class TargetError(CamcliError):
    """A target is not among the model's classes."""


class ImageError(CamcliError):
    """One image cannot be found, read or explained; the others still can."""


class OutputError(CamcliError):
    """An output cannot be written, or two would be written to the same file."""


class TrainingError(CamcliError):
    """Training data, a recipe or a teacher cannot be used."""


class CamcliWarning(UserWarning):
    """The run goes on, but its result needs this to be read rightly."""


def nearest(given: str, choices: Iterable[str], count: int = 3) -> str:
    """The choices most like `given`, as `'a', 'b' or 'c'`; empty if there are no choices."""
    by_folded: dict[str, str] = {}
    for choice in choices:
        by_folded.setdefault(choice.casefold(), choice)
    folded = given.casefold()
    inside = [key for key in by_folded if folded in key or key in folded]
    alike = get_close_matches(folded, by_folded, n=count, cutoff=0.0)
    best = list(dict.fromkeys([*get_close_matches(folded, inside, n=count, cutoff=0.0), *alike]))
    return _either([repr(by_folded[key]) for key in best[:count]])


def unknown(what: str, given: str, choices: Iterable[str]) -> str:
    """One line for a name that is not among the choices."""
    return f"unknown {what} '{given}': did you mean {nearest(given, choices)}?"


def one_line(error: BaseException) -> str:
    """The first line of an error's text, or its type's name where it has none."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _either(names: list[str]) -> str:
    return " or ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
