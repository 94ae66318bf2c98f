"""What can go wrong by a user's doing. Every message is one line: given, expected, nearest."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import SequenceMatcher
from heapq import nsmallest


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


class WriteError(OutputError):
    """A file cannot be written in mid-run: a full disk, a folder that went away."""


class ClusterError(CamcliError):
    """A cluster went away, or cannot go on, in mid-run."""


class TrainingError(CamcliError):
    """Training data, a recipe or a teacher cannot be used."""


class AnnotationError(CamcliError):
    """Ground truth cannot be read, or is not of the image that it is read for."""


class NotAnnotatedError(AnnotationError):
    """An image has no ground truth; the others may have."""


class CamcliWarning(UserWarning):
    """The run goes on, but its result needs this to be read rightly."""


def nearest(given: str, choices: Iterable[str], count: int = 3) -> str:
    """The choices most like `given`, those that contain it first, as `'a', 'b' or 'c'`."""
    folded = given.casefold()

    def distance(choice: str) -> tuple[bool, float]:
        key = choice.casefold()
        return folded not in key, -SequenceMatcher(None, folded, key).ratio()

    best = [repr(choice) for choice in nsmallest(count, dict.fromkeys(choices), key=distance)]
    return " or ".join(filter(None, [", ".join(best[:-1]), *best[-1:]]))


def unknown(what: str, given: str, choices: Iterable[str]) -> str:
    """One line for a name that is not among the choices."""
    return f"unknown {what} '{given}': did you mean {nearest(given, choices)}?"


def one_line(error: BaseException) -> str:
    """The first line of an error's text, or its type's name where it has none."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
