"""Read the tensors of a weights file. No code in a file is ever run."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from camcli.errors import CamcliWarning, ModelError, ignored_warnings, one_line
from camcli.images.regular import check_regular
from camcli.models.unpickle import Placeholder, read_with_placeholders

WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "module")
"""The keys under which training programs keep a state dict, in order of preference."""
AVERAGES = ("ema", "model_ema", "state_dict_ema", "ema_state_dict", "shadow")
"""The keys of averaged weights, which are used if there are no others."""
CLASSES = ("class_to_idx", "idx_to_class", "class_names", "classes")
"""The keys under which training programs keep the names of classes, as `read_labels` takes them."""
_DEPTH = 3
"""The number of wrappers around each other that are searched."""
_WAY_OUT = "save the network's state_dict(), or give its code as --model file.py:factory"


def read_checkpoint(file: Path) -> tuple[dict[str, Tensor], Any]:
    """Return the state dict of a file of torch.save or of a .safetensors file, and its classes.

    The file may be a checkpoint with a state dict under one of WRAPPERS or AVERAGES. Other objects
    in it are ignored. The classes are what it has under one of CLASSES, and None otherwise. Raises
    ModelError.
    """
    try:
        check_regular(file)
        if file.suffix == ".safetensors":
            tensors: dict[str, Tensor] = safetensors.torch.load_file(file)
            return tensors, None
        content = _read_content(file)
    except ModelError:
        raise
    except Exception as error:  # noqa: BLE001 - a damaged pickle can raise any error
        reason = getattr(error, "strerror", None) or one_line(error)
        raise ModelError(f"weights '{file}': not readable ({reason})") from None
    if (state := _find_state(content, file)) is not None:
        for key, value in state.items():
            if not _is_dense(value):
                raise ModelError(
                    f"weights '{file}': {key} has no value for each place in the file: expected "
                    f"dense tensors that are not sparse, quantized, expanded or on the meta device"
                )
        classes = (content[key] for key in CLASSES if state is not content and key in content)
        return {key: value.detach() for key, value in state.items()}, next(classes, None)
    if module := _whole_object(content):
        raise ModelError(f"weights '{file}': holds an object of {module}, not tensors: {_WAY_OUT}")
    raise ModelError(f"weights '{file}': expected a state_dict, a mapping of names to tensors")


def _read_content(file: Path) -> Any:
    mapped = zipfile.is_zipfile(file)  # files from before torch 1.6 cannot be mapped
    if mapped and "constants.pkl" in torch._C.PyTorchFileReader(str(file)).get_all_records():
        raise ModelError(f"weights '{file}': is a TorchScript program, not tensors: {_WAY_OUT}")
    if mapped and not _is_plain(file):
        raise ModelError(f"weights '{file}': has compressed or encrypted parts: {_WAY_OUT}")
    with ignored_warnings():  # about old pickle protocols; errors still raise
        try:
            return torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)
        except pickle.UnpicklingError:
            return read_with_placeholders(file, mapped=mapped)


def _is_plain(file: Path) -> bool:
    """Return whether an archive holds its parts as they are, as torch.save writes them."""
    with zipfile.ZipFile(file) as archive:
        return not any(
            part.compress_type != zipfile.ZIP_STORED or part.flag_bits & 1
            for part in archive.infolist()
        )


def _is_dense(value: Tensor) -> bool:
    """Return whether the memory of a tensor holds a number for each of its places."""
    if value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized:
        return False
    return not value.is_nested and value.nbytes <= value.untyped_storage().nbytes()


def is_state(content: object) -> bool:
    """Return whether an object is a mapping of names to tensors."""
    return isinstance(content, Mapping) and all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()
    )


def _find_state(content: Any, file: Path, depth: int = _DEPTH) -> Mapping[str, Tensor] | None:
    """Return the state dict in a file's contents. Warns if another one is left out."""
    if is_state(content):
        state: Mapping[str, Tensor] = content
        return state
    if not isinstance(content, dict) or depth == 0:
        return None
    found = {
        key: inner
        for key in (*WRAPPERS, *AVERAGES)
        if content.get(key) and (inner := _find_state(content[key], file, depth - 1)) is not None
    }
    if len(found) > 1:
        used, *others = found
        warnings.warn(
            f"weights '{file}': {used} is used, and not {' or '.join(others)}, which it holds too",
            CamcliWarning,
            stacklevel=2,
        )
    return next(iter(found.values()), None)


def _whole_object(content: Any) -> str | None:
    """Return the class of an object that stands where a state dict is expected."""
    if isinstance(content, Placeholder):
        return content.__name__
    parts = [content.get(key) for key in WRAPPERS] if isinstance(content, dict) else []
    return next((part.__name__ for part in parts if isinstance(part, Placeholder)), None)
