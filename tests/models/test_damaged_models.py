"""Weights, cards and labels that are damaged or hostile: one line, and no huge allocation."""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from camcli.errors import ModelError
from camcli.models.checkpoint import read_checkpoint
from camcli.models.labels import read_labels
from camcli.models.load import load
from tests.support.networks import GapNet
from tests.support.training import write_model_folder


def sparse() -> Tensor:
    return torch.eye(4).to_sparse()


def compressed_rows() -> Tensor:
    return torch.eye(4).to_sparse_csr()


def expanded() -> Tensor:
    return torch.zeros(1).expand(100_000, 50_000)  # 20 GB in a file of 1 kB


def overlapping() -> Tensor:
    return torch.zeros(100).as_strided((50, 50), (1, 1))


def quantized() -> Tensor:
    return torch.quantize_per_tensor(torch.ones(4), 0.1, 0, torch.qint8)


def meta() -> Tensor:
    return torch.empty(4, 4, device="meta")


@pytest.mark.filterwarnings("ignore:.*(Sparse|quant|TypedStorage)")
@pytest.mark.parametrize("make", [sparse, compressed_rows, expanded, overlapping, quantized, meta])
@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_without_a_value_for_each_place(
    make: Callable[[], Tensor], zipped: bool, tmp_path: Path
) -> None:
    state = dict(GapNet().state_dict()) | {"head.weight": make()}
    file = tmp_path / "w.pt"
    torch.save({"model": state}, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ModelError) as refused:
        read_checkpoint(file)
    assert str(refused.value).startswith(f"weights '{file}': ")
    assert "\n" not in str(refused.value)


def rewritten(file: Path, change: Callable[[zipfile.ZipInfo], None], compression: int) -> Path:
    """Write the archive again with other headers of its members."""
    with zipfile.ZipFile(file) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
        for info in archive.filelist:
            change(info)
    return file


def _encrypt(info: zipfile.ZipInfo) -> None:
    info.flag_bits |= 1


def _unknown(info: zipfile.ZipInfo) -> None:
    info.compress_type = 99


@pytest.mark.parametrize(
    ("change", "compression"),
    [
        (_encrypt, zipfile.ZIP_STORED),
        (_unknown, zipfile.ZIP_STORED),
        (lambda _: None, zipfile.ZIP_DEFLATED),
    ],
)
def test_archives_that_torch_does_not_write(
    change: Callable[[zipfile.ZipInfo], None], compression: int, tmp_path: Path
) -> None:
    torch.save(dict(GapNet().state_dict()), tmp_path / "w.pth")
    rewritten(tmp_path / "w.pth", change, compression)
    with pytest.raises(ModelError, match=r"not readable|has compressed or encrypted") as refused:
        read_checkpoint(tmp_path / "w.pth")
    assert "\n" not in str(refused.value)


def header(text: str, length: int | None = None) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data) if length is None else length) + data + bytes(16)


@pytest.mark.parametrize(
    "content",
    [
        header("{", 2**60),
        header("["),
        header("[" * 50_000),
        header('{"a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 99999999999]}}'),
        header('{"a": {"dtype": "F32", "shape": [99999, 99999], "data_offsets": [0, 16]}}'),
        header('{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 16]}}'),
        header('{"a": {"dtype": "X", "shape": [2, 2], "data_offsets": [0, 16]}}'),
        header('{"a": 1, "a": 2}'),
    ],
)
def test_hostile_headers_of_safetensors(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match=r"w\.safetensors': not readable") as refused:
        read_checkpoint(tmp_path / "w.safetensors")
    assert "\n" not in str(refused.value)


def test_weights_of_no_classes(tmp_path: Path) -> None:
    state = load("squeezenet1_1", "none").module.state_dict()
    head = ("classifier.1.weight", "classifier.1.bias")
    torch.save(dict(state) | {key: state[key][:0].clone() for key in head}, tmp_path / "w.pt")
    with pytest.raises(ModelError, match=r"classifier is \(0, 512, 1, 1\), expected a row"):
        load("squeezenet1_1", tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ("[" * 99_999, "model.json is not readable (nested more than 32 deep)"),
        ({"resize": float("inf")}, "(not JSON (Infinity is not a number))"),
        ({"resize": 0}, "expected 1 to 8192 pixels"),
        ({"crop": -5}, "expected 1 to 8192 pixels"),
        ({"crop": [64, 10**9]}, "expected 1 to 8192 pixels"),
        ({"crop": 65}, "crop 65 is larger than resize 64"),
        ({"mean": []}, "mean is [], expected a list of 1 to 1024, each a finite number"),
        ({"mean": [0, 0]}, "mean has 2 values and std 3: expected one for each channel"),
        ({"mean": [10**400] * 3}, "preprocessing.mean is "),
        ({"mean": {"a": 1}}, "preprocessing.mean is an object of 1"),
        ({"std": [0, 0, 0]}, "expected values above 0"),
        ({"interpolation": ["bilinear"]}, 'preprocessing.interpolation is ["bilinear"]'),
    ],
)
def test_damaged_cards(changes: Any, message: str, tmp_path: Path) -> None:
    folder = write_model_folder(tmp_path / "model", ["a", "b"])
    card = json.loads((folder / "model.json").read_text())
    if isinstance(changes, dict):
        changes = json.dumps(card | {"preprocessing": card["preprocessing"] | changes})
    (folder / "model.json").write_text(changes)
    with pytest.raises(ModelError) as refused:
        load(str(folder))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "text",
    ['{"a": [1]}', '{"a": {"b": 1}}', '{"' + "9" * 5000 + '": "a"}', '["\\ud800"]', '{"a": 1e999}',
     '{"a": 0, "a": 1}', '{"0": null}', "[" * 40 + "]" * 40],
)  # fmt: skip
def test_damaged_labels(text: str, tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text(text)
    with pytest.raises(ModelError) as refused:
        read_labels(tmp_path / "labels.json", None)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 300 + len(str(tmp_path))
