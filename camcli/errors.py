"""Errors and warnings that a user can cause.

Each message is one line: what was given, what was expected, the nearest valid choice.
"""

from __future__ import annotations

import re
import threading
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
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

    Their frames keep every variable alive, such as the pixels of a damaged image. From Python 3.13
    on, a frame of a generator may also keep the error that it belongs to.
    """
    behind = error.__context__, error.__cause__
    error.__traceback__ = error.__context__ = error.__cause__ = None
    for one in filter(None, behind):
        without_frames(one)
    return error


_IGNORED = Counter[str]()
"""The number of threads that ignore a kind of warnings."""
_FILTERS = threading.Lock()


@contextmanager
def ignored_warnings(start: str = ".*") -> Iterator[None]:
    """Ignore warnings whose text begins with a pattern, while any thread is inside.

    `warnings.catch_warnings` is for one thread: it restores all filters, so that two threads may
    leave each other's in place for ever.
    """
    with _FILTERS:
        _IGNORED[start] += 1
        warnings.filterwarnings("ignore", start)  # which is there once
        own = warnings.filters[0]
    try:
        yield
    finally:
        with _FILTERS, suppress(ValueError):  # somebody else may have reset all filters
            _IGNORED[start] -= 1
            if not _IGNORED[start]:
                warnings.filters.remove(own)  # type: ignore[attr-defined] # it is a list


def spelled(given: str, choices: Iterable[str]) -> str:
    """Return the only choice that `given` is another spelling of, or `given` itself.

    Spellings differ in case, in `-`, `_` and spaces, and in `++`, `pp` and `plusplus`.
    """
    every = dict.fromkeys(choices)
    for form in (str, str.casefold, _plain):
        found = [choice for choice in every if form(choice) == form(given)]
        if len(found) == 1:
            return found[0]
    return given


def _plain(name: str) -> str:
    return re.sub("plusplus|pp", "++", re.sub("[-_ ]", "", name.casefold()))


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


def printable(text: str) -> str:
    """Return a text on one line, with control characters and undecodable bytes escaped."""
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # a byte that is no text
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()
