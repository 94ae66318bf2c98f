"""Weights files: formats, contents that are refused, and published files."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
import torchvision.models as zoo

from camcli import load
from camcli.errors import ModelError
from tests.support.networks import save_weights


def test_a_published_file_has_its_own_preset(tmp_path: Path) -> None:
    state = zoo.resnet50(weights=None).state_dict()
    assert load("resnet50", save_weights(state, tmp_path / "mine.pth")).preset.resize == 232
    assert (
        load("resnet50", save_weights(state, tmp_path / "resnet50-0676ba61.pth")).preset.resize
        == 256
    )


@pytest.mark.parametrize("ending", [".pth", ".safetensors", ".old"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_weights_from_a_file(ending: str, wrapped: bool, tmp_path: Path) -> None:
    state = load("shufflenet_v2_x1_0", "none", seed=3).module.state_dict()
    given: dict[str, Any] = {k: v.contiguous() for k, v in state.items()}
    if wrapped and ending != ".safetensors":
        given = {"state_dict": {f"module.{k}": v for k, v in given.items()}, "epoch": 3}
    model = load("shufflenet_v2_x1_0", save_weights(given, tmp_path / f"w{ending}"))
    assert model.weights == f"w{ending}"
    assert (model.weights_hash or "").startswith("sha256:")
    for key, value in model.module.state_dict().items():
        assert torch.equal(value, state[key]), key
    assert not model.module.training


def test_half_precision_weights_are_loaded_as_float32(tmp_path: Path) -> None:
    state = load("squeezenet1_1", "none").module.state_dict()
    file = save_weights(
        {k: v.half().contiguous() for k, v in state.items()}, tmp_path / "h.safetensors"
    )
    assert next(load("squeezenet1_1", file).module.parameters()).dtype == torch.float32


def test_weights_of_another_network(tmp_path: Path) -> None:
    state = load("resnet18", "none").module.state_dict()
    for key in ("layer1.0.conv1.weight", "layer1.0.conv2.weight", "layer1.1.conv1.weight"):
        state[key] = state[key][:3]
    del state["bn1.bias"]
    state["extra"] = torch.zeros(1)
    message = (
        r"weights '.*w.pth' do not fit resnet18: "
        r"layer1.0.conv1.weight is \(3, 64, 3, 3\), expected \(64, 64, 3, 3\); "
        r"layer1.0.conv2.weight is .*; layer1.1.conv1.weight is .* and 2 more"
    )
    with pytest.raises(ModelError, match=message):
        load("resnet18", save_weights(state, tmp_path / "w.pth"))


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"weight": Harmful()}, tmp_path / "new.pth")
    (tmp_path / "old.pth").write_bytes(pickle.dumps({"weight": Harmful()}))
    for name in ("new.pth", "old.pth"):
        with pytest.raises(ModelError, match=r"(expected a state_dict|not readable)"):
            load("squeezenet1_1", tmp_path / name)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("w.pth", b""),
        ("w.pth", b"no weights"),
        ("w.safetensors", b""),
        ("w.safetensors", b"x" * 99),
    ],
)
def test_damaged_files(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=rf"weights '.*{name}'") as raised:
        load("squeezenet1_1", tmp_path / name)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "expected a state_dict"),
        ({1: torch.zeros(1)}, "expected a state_dict"),
        ({"features.0.weight": torch.zeros(64, 3, 3, 3, dtype=torch.long)}, "of whole numbers"),
    ],
)
def test_files_with_other_contents(content: object, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(ModelError, match=message):
        load("squeezenet1_1", tmp_path / "x.pth")


def test_a_failed_download_suggests_alternatives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    message = r"cannot download .*IMAGENET1K_V1.* \(no route to host\): give --weights FILE"
    with pytest.raises(ModelError, match=message):
        load("resnet18")


def test_published_weights_come_from_torch_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file in the cache is used with its published name and preset."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    entry = zoo.ResNet50_Weights.IMAGENET1K_V2
    state = zoo.resnet50(weights=None).state_dict()
    torch.save(state, cache / entry.url.rpartition("/")[2])
    model = load("resnet50")
    assert (model.weights, model.preset.resize) == ("IMAGENET1K_V2", 232)
    assert torch.equal(model.module.state_dict()["fc.bias"], state["fc.bias"])
