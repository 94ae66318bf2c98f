"""Weights: find them and fit them into a network. `checkpoint` reads their files."""

from __future__ import annotations

import hashlib
import math
import os
import re
import sys
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from torch import Tensor, nn

from camcli.errors import ModelError, one_line
from camcli.models.checkpoint import read_checkpoint
from camcli.models.families import ModelSpec
from camcli.models.head import classifier
from camcli.models.options import ModelOptions


def locate(name: str, weights: str, published: Any) -> tuple[Path, str, Any]:
    """Return the weights file, its name, and the published entry with its preprocessing.

    `weights` is the name of a published entry, which is downloaded if necessary, or a file.
    Raises ModelError.
    """
    if weights in published.__members__:
        entry = published[weights]
        return _downloaded(entry, name), entry.name, entry
    if os.path.isfile(weights):
        # A published file that keeps its name also keeps its preprocessing.
        by_file = {published_name(entry): entry for entry in published}
        file = Path(weights)
        return file, file.name, by_file.get(file.name, published.DEFAULT)
    if Path(weights).suffix or "/" in weights:
        raise ModelError(f"weights '{weights}': no such file or folder of `camcli train`")
    names = ", ".join([*published.__members__, "none"])
    raise ModelError(f"unknown weights '{weights}' for {name}: expected a file or one of {names}")


def file_of(entry: Any) -> Path:
    """Return the place of a published file in torch's cache, which TORCH_HOME sets."""
    return Path(torch.hub.get_dir(), "checkpoints", published_name(entry))


def published_name(entry: Any) -> str:
    """Return the name of a published file."""
    return str(entry.url.rpartition("/")[2])


def _downloaded(entry: Any, name: str) -> Path:
    file = file_of(entry)
    if not file.exists():
        digest = re.search(r"-([0-9a-f]{8,})\.", file.name)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(
                entry.url, str(file), digest and digest[1], progress=sys.stderr.isatty()
            )
        except (URLError, OSError, RuntimeError) as error:
            reason = one_line(getattr(error, "reason", error))
            raise ModelError(
                f"cannot download {entry} for {name} ({reason}): give --weights FILE, "
                f"or --model mini, which needs no download"
            ) from None
    return file


@dataclass(frozen=True)
class GivenWeights:
    """A state dict that the user gives, its name, and the digest of its file.

    `labels` are the class names that the file has, as `labels.stored_names` takes them.
    """

    state: Mapping[str, Tensor]
    name: str
    digest: str | None = None
    labels: Any = None


def given_weights(options: ModelOptions) -> GivenWeights | None:
    """Return the weights of a file or a state dict; None for DEFAULT and none.

    Raises ModelError.
    """
    if options.state is not None:
        return GivenWeights(options.state, options.weights)
    if options.weights in ("DEFAULT", "none"):
        return None
    if not (file := Path(options.weights)).is_file():
        raise ModelError(f"weights '{file}': no such file or folder of `camcli train`")
    return from_file(file)


def from_file(file: Path) -> GivenWeights:
    """Return the weights of a file. Raises ModelError."""
    state, labels = read_checkpoint(file)
    return GivenWeights(state, file.name, sha256(file), labels)


def fit(module: nn.Module, state: Mapping[str, Tensor], given: str, name: str) -> None:
    """Load a state dict, as float32, into a network that may be on the meta device.

    `given` and `name` are the weights and the network of the message. Raises ModelError if keys
    or shapes differ; the message has the first keys of both if keys differ.
    """
    expected, state = module.state_dict(), dict(state)
    for key in expected.keys() - state.keys():
        if key.endswith("num_batches_tracked"):  # absent from old files, not used in evaluation
            state[key] = torch.zeros((), dtype=torch.long)
    if problems := _mismatches(expected, state):
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        same = expected.keys() == state.keys()
        keys = (
            ""
            if same
            else f"; its first keys: {_first(state)}; those of {name}: {_first(expected)}"
        )
        raise ModelError(
            f"weights '{given}' do not fit {name}: {'; '.join(problems[:3])}{more}{keys}"
        )
    floats = OrderedDict((k, v.float() if v.is_floating_point() else v) for k, v in state.items())
    # Some modules convert states of older versions. These shapes are those of this version.
    floats._metadata = expected._metadata  # type: ignore[attr-defined]
    module.load_state_dict(floats, assign=True)


def implied_arguments(
    module: nn.Module, state: Mapping[str, Tensor], spec: ModelSpec | None = None
) -> dict[str, int]:
    """Return the constructor arguments that a state dict implies: num_classes and image_size.

    Only those are returned that differ from the network's own.
    """
    path, rows = classifier(module)
    head, tokens = state.get(f"{path}.weight"), state.get((spec and spec.positions) or "")
    found = {}
    if head is not None and head.ndim and len(head) != len(rows):
        found["num_classes"] = class_count(head)
    if tokens is not None and tokens.ndim == 3:
        size = math.isqrt(tokens.shape[1] - 1) * int(module.patch_size)  # type: ignore[arg-type]
        if size != module.image_size:
            found["image_size"] = size
    return found


def class_count(head: Tensor) -> int:
    """Return the rows of the weights of a classifier. Raises ModelError if there are none."""
    if not len(head):
        raise ModelError(f"weights: the classifier is {_shape(head)}, expected a row per class")
    return len(head)


def _mismatches(expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> list[str]:
    shapes = [
        f"{key} is {_shape(given[key])}, expected {_shape(value)}"
        for key, value in expected.items()
        if key in given and _shape(given[key]) != _shape(value)
    ]
    missing = [f"no {key} {tuple(v.shape)}" for key, v in expected.items() if key not in given]
    return shapes + missing + [f"unexpected {key}" for key in given if key not in expected]


def _first(state: Mapping[str, Tensor]) -> str:
    """Return the first keys of a state dict, for a message."""
    return ", ".join([*list(state)[:3], *(["..."] if len(state) > 3 else [])]) or "none"


def _shape(value: Tensor) -> str:
    return f"{tuple(value.shape)}{'' if value.is_floating_point() else ' of whole numbers'}"


def random_weights(seed: int) -> str:
    """Return the name that random weights have in a `Model`."""
    return f"none (random, seed {seed})"


def sha256(file: Path) -> str:
    """Return the SHA-256 of a file as `sha256:<hex digits>`."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return f"sha256:{digest.hexdigest()}"
