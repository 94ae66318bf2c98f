"""Errors that a user can cause.

Each message is one line: what was given, what was expected, the nearest valid choice.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import SequenceMatcher
from heapq import nsmallest
from typing import TypeVar


class CamcliError(Exception):
    """An error that a user can cause. Its text is one line to show to the user."""


class ModelError(CamcliError):
    """A model, its weights, its labels or one of its layers cannot be used."""


class MethodError(CamcliError):
    """A method does not apply to the given model or target."""


class TargetError(CamcliError):
    """A target is not among the model's classes."""


class ImageError(CamcliError):
    """One image cannot be found, read or explained. The run continues with the others."""


class OutputError(CamcliError):
    """An output cannot be written, or two would be written to the same file."""


class WriteError(OutputError):
    """A file cannot be written during a run, for example because the disk is full."""


class ClusterError(CamcliError):
    """A cluster disappeared or failed during a run."""


class TrainingError(CamcliError):
    """Training data, a recipe or a teacher cannot be used."""


class AnnotationError(CamcliError):
    """Ground truth cannot be read, or does not match its image."""


class NotAnnotatedError(AnnotationError):
    """One image has no ground truth. Other images may have some."""


class CamcliWarning(UserWarning):
    """The run continues, but the message is needed to interpret its results correctly."""


Error = TypeVar("Error", bound=BaseException)


def without_frames(error: Error) -> Error:
    """Return an error that is to be kept, without its traceback and the errors behind it.

    Their frames keep every variable alive, such as the pixels of a damaged image.
    """
    error.__traceback__ = error.__context__ = error.__cause__ = None
    return error


def nearest(given: str, choices: Iterable[str], count: int = 3) -> str:
    """Return the choices most similar to `given` as `'a', 'b' or 'c'`.

    Choices that contain `given` come first.
    """
    folded = given.casefold()

    def distance(choice: str) -> tuple[bool, float]:
        key = choice.casefold()
        return folded not in key, -SequenceMatcher(None, folded, key).ratio()

    best = [repr(choice) for choice in nsmallest(count, dict.fromkeys(choices), key=distance)]
    return " or ".join(filter(None, [", ".join(best[:-1]), *best[-1:]]))


def unknown(what: str, given: str, choices: Iterable[str]) -> str:
    """Return the message for a name that is not among the choices."""
    return f"unknown {what} '{given}': did you mean {nearest(given, choices)}?"


def one_line(error: BaseException) -> str:
    """Return the first non-empty line of an error's text, or the name of its type."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
