"""Names of classes: from a file, from Python, or ImageNet's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from camcli.errors import ModelError, one_line
from camcli.images.regular import read_regular
from camcli.models import torchvision
from camcli.models.options import Labels
from camcli.schema import RECORD_BYTES, TEXT, parse_json

_DIGITS = 10
"""The digits of an index that no list of names has."""
IMAGENET = "imagenet"
"""The labels that stand for the names of ImageNet's 1000 classes."""


def read_labels(labels: Labels, count: int | None) -> tuple[str, ...]:
    """Return class names in the order of their indices.

    `labels` is IMAGENET; a text file with one name per line; a JSON file with a list of names or a
    mapping; or a list or mapping itself. A mapping has the index of each name, or the name of each
    index. Two names for one value are accepted, for a logit of two classes. Raises ModelError if it
    cannot be read or does not hold `count` names.
    """
    shown = f"labels '{labels}'" if isinstance(labels, str | Path) else "labels"
    names = _read_names(labels, shown)
    if count is not None and len(names) != count and (len(names), count) != (2, 1):
        raise ModelError(f"{shown}: {len(names)} names, the model has {count} classes")
    return names


def stored_names(labels: Any, count: int | None) -> tuple[str, ...] | None:
    """Return the class names that a checkpoint holds; None if there are not `count` names."""
    try:
        return None if labels is None or isinstance(labels, str) else read_labels(labels, count)
    except ModelError:
        return None


def imagenet_names() -> tuple[str, ...]:
    """Return the names that torchvision gives ImageNet's 1000 classes."""
    return tuple(torchvision.models.ResNet18_Weights.DEFAULT.meta["categories"])


def _read_names(labels: Labels, shown: str) -> tuple[str, ...]:
    if not isinstance(labels, str | Path):
        return _names_in(labels, shown)
    if labels == IMAGENET:
        return imagenet_names()
    file = Path(labels)
    try:
        data = read_regular(file, RECORD_BYTES)
        if file.suffix != ".json":
            lines = data.decode("utf-8-sig").splitlines()
            return tuple(line.strip() for line in lines if line.strip())
        content = parse_json(data)
    except OSError as error:
        raise ModelError(f"{shown}: {error.strerror}") from None
    except ValueError as error:
        raise ModelError(f"{shown}: not readable ({one_line(error)})") from None
    return _names_in(content, shown)


def _names_in(content: Sequence[str] | Mapping[Any, Any], shown: str) -> tuple[str, ...]:
    if isinstance(content, Mapping):
        return _names_of_mapping(content, shown)
    if isinstance(content, list | tuple) and all(map(TEXT.accepts, content)):
        return tuple(content)
    raise ModelError(
        f"{shown}: expected a list of names, or a mapping between names and indices (in a file: "
        f"JSON)"
    )


def _names_of_mapping(content: Mapping[Any, Any], shown: str) -> tuple[str, ...]:
    pairs = content.items()
    if not all(isinstance(value, str) for value in content.values()):
        pairs = [(value, key) for key, value in pairs]  # type: ignore[assignment] # class_to_idx
    names = {_index(index, shown): name for index, name in pairs}
    every = range(len(content))
    if names.keys() != set(every) or not all(map(TEXT.accepts, names.values())):
        raise ModelError(
            f"{shown}: expected a name for each index from 0 to {len(content) - 1}, each once"
        )
    return tuple(names[index] for index in every)


def _index(value: Any, shown: str) -> int:
    """Return a class index, which is text where JSON has it as a key. Raises ModelError."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and value.isdecimal() and len(value) < _DIGITS:
        return int(value)
    raise ModelError(f"{shown}: expected a mapping between names and indices, got {value!r:.60}")
