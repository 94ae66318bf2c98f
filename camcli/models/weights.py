"""Find and read weights files. No code in a file is ever run."""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any
from urllib.error import URLError

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from camcli.errors import ModelError, one_line


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
        by_file = {entry.url.rpartition("/")[2]: entry for entry in published}
        file = Path(weights)
        return file, file.name, by_file.get(file.name, published.DEFAULT)
    if Path(weights).suffix or "/" in weights:
        raise ModelError(f"weights '{weights}': no such file or folder of `camcli train`")
    names = ", ".join([*published.__members__, "none"])
    raise ModelError(f"unknown weights '{weights}' for {name}: expected a file or one of {names}")


def file_of(entry: Any) -> Path:
    """Return the place of a published file in torch's cache, which TORCH_HOME sets."""
    return Path(torch.hub.get_dir(), "checkpoints", entry.url.rpartition("/")[2])


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


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Read the tensors of a weights file without running code in it. Raises ModelError."""
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
