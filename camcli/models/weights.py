"""Weights and labels from files: find them, read them and fit them into a network.

No code in a file is ever run.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import pickle
import re
import sys
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.error import URLError

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from camcli.errors import ModelError, one_line
from camcli.models.families import ModelSpec
from camcli.models.head import classifier


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


def read_state(file: Path, spec: ModelSpec | None = None) -> dict[str, Tensor]:
    """Read the state dict of a weights file without running code in it.

    Returns it with the keys of the installed version, without what is used in training only.
    Raises ModelError.
    """
    unused = spec.unused if spec else ()
    renamed = {_current_key(key, spec): value for key, value in _read_tensors(file).items()}
    return {key: value for key, value in renamed.items() if not key.startswith(unused)}


def _current_key(key: str, spec: ModelSpec | None) -> str:
    key = key.removeprefix("module.")  # added by DataParallel
    for old, new in spec.renamed if spec else ():
        key = re.sub(old, new, key)
    return key


def _read_tensors(file: Path) -> dict[str, Tensor]:
    try:
        if file.suffix == ".safetensors":
            tensors: dict[str, Tensor] = safetensors.torch.load_file(file)
            return tensors
        content = _unpickled(file)
    except pickle.UnpicklingError:
        raise ModelError(
            f"weights '{file}': holds more than tensors, which could run code when read; "
            "expected a state_dict saved by torch.save, or .safetensors"
        ) from None
    except (OSError, RuntimeError, ValueError, EOFError, SafetensorError) as error:
        raise ModelError(f"weights '{file}': not readable ({one_line(error)})") from None
    for wrapper in ("state_dict", "model_state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()
    ):
        raise ModelError(f"weights '{file}': expected a state_dict, a mapping of names to tensors")
    return dict(content)


def _unpickled(file: Path) -> Any:
    mapped = zipfile.is_zipfile(file)  # files from before torch 1.6 cannot be mapped
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about old pickle protocols; errors still raise
        return torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)


def fit(module: nn.Module, state: Mapping[str, Tensor], given: str, name: str) -> None:
    """Load a state dict, as float32, into a network that may be on the meta device.

    `given` and `name` are the weights and the network of the message. Raises ModelError if keys
    or shapes differ.
    """
    expected, state = module.state_dict(), dict(state)
    for key in expected.keys() - state.keys():
        if key.endswith("num_batches_tracked"):  # absent from old files, not used in evaluation
            state[key] = torch.zeros((), dtype=torch.long)
    if problems := _mismatches(expected, state):
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise ModelError(f"weights '{given}' do not fit {name}: {'; '.join(problems[:3])}{more}")
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
        found["num_classes"] = len(head)
    if tokens is not None and tokens.ndim == 3:
        size = math.isqrt(tokens.shape[1] - 1) * int(module.patch_size)  # type: ignore[arg-type]
        if size != module.image_size:
            found["image_size"] = size
    return found


def _mismatches(expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> list[str]:
    shapes = [
        f"{key} is {_shape(given[key])}, expected {_shape(value)}"
        for key, value in expected.items()
        if key in given and _shape(given[key]) != _shape(value)
    ]
    missing = [f"no {key} {tuple(v.shape)}" for key, v in expected.items() if key not in given]
    return shapes + missing + [f"unexpected {key}" for key in given if key not in expected]


def _shape(value: Tensor) -> str:
    return f"{tuple(value.shape)}{'' if value.is_floating_point() else ' of whole numbers'}"


def read_labels(labels: str | Path, count: int | None) -> tuple[str, ...]:
    """Read class names from a JSON list or from a text file with one name per line.

    Raises ModelError if the file is not readable or does not hold `count` names. Two names for one
    value are returned, too: `load_model` knows whether it is a logit of two classes.
    """
    names = _read_names(Path(labels))
    if count is not None and len(names) != count and (len(names), count) != (2, 1):
        raise ModelError(f"labels '{labels}': {len(names)} names, the model has {count} classes")
    return names


def _read_names(file: Path) -> tuple[str, ...]:
    try:
        text = file.read_text(encoding="utf-8-sig")
        if file.suffix != ".json":
            return tuple(line.strip() for line in text.splitlines() if line.strip())
        names = json.loads(text)
    except OSError as error:
        raise ModelError(f"labels '{file}': {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ModelError(f"labels '{file}': not readable ({one_line(error)})") from None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ModelError(f"labels '{file}': expected a JSON list of names")
    return tuple(names)


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
