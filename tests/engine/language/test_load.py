"""Folders of language models: which are accepted, and the messages for others."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.engine.language.conftest import QUESTION
from tests.support.command import Run, refused


def test_other_folders_are_refused(
    run: Run, folders: dict[str, Path], photos: Path, tmp_path: Path
) -> None:
    expected = "expected a folder of transformers' BlipForQuestionAnswering"

    def line(model: Path) -> str:
        return refused(run("ask", photos, QUESTION, "--model", model))

    other = folders["caption"]
    assert line(other) == (
        f"model '{other}': a BlipForConditionalGeneration answers no questions; {expected}"
    )
    empty = tmp_path / "empty"
    empty.mkdir()
    assert line(empty) == f"model '{empty}': no config.json in it; {expected}"
    broken = shutil.copytree(folders["ask"], tmp_path / "broken")
    (broken / "config.json").write_text("{")
    assert line(broken).startswith(f"model '{broken}': config.json is not readable (")
    shutil.copy(folders["ask"] / "config.json", broken)
    (broken / "model.safetensors").write_bytes(b"no weights")
    assert line(broken).startswith(f"model '{broken}' is not readable (")
    (broken / "model.safetensors").unlink()
    files = "model.safetensors or pytorch_model.bin"
    assert line(broken) == f"model '{broken}': no {files} in it; {expected}"


def test_missing_weights_are_named(
    run: Run, folders: dict[str, Path], photos: Path, tmp_path: Path
) -> None:
    cut = shutil.copytree(folders["ask"], tmp_path / "cut")
    weights = load_file(cut / "model.safetensors")
    name = next(name for name in weights if "vision_model" in name)
    del weights[name]
    save_file(weights, cut / "model.safetensors", {"format": "pt"})
    line = refused(run("ask", photos, QUESTION, "--model", cut))
    assert line == f"model '{cut}': model.safetensors lacks {name} (1 in all)"


def test_pickled_weights(run: Run, folders: dict[str, Path], photos: Path, tmp_path: Path) -> None:
    """A pickle is read without executing code."""
    older = shutil.copytree(folders["ask"], tmp_path / "older")
    weights = older / "pytorch_model.bin"
    torch.save(load_file(older / "model.safetensors"), weights)
    (older / "model.safetensors").unlink()
    for model in (folders["ask"], older):
        out = tmp_path / f"out-{model.name}"
        assert run("ask", photos, QUESTION, "--model", model, "--output", out).exit_code == 0
    one, other = (np.load(tmp_path / f"out-{name}" / "a.hirescam.npy") for name in ("ask", "older"))
    np.testing.assert_array_equal(one, other)
    torch.save({"weights": Harmful(tmp_path / "harm")}, weights)
    line = refused(run("ask", photos, QUESTION, "--model", older))
    assert line.startswith(f"model '{older}' is not readable (")
    assert not (tmp_path / "harm").exists()


class Harmful:
    """An object that makes a folder if it is unpickled without restrictions."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return Path.mkdir, (self.folder,)


@pytest.mark.parametrize("offline", [True, False], ids=["HF_HUB_OFFLINE", "no connection"])
def test_without_the_hub_the_message_asks_for_a_folder(
    run: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: bool
) -> None:
    constants = pytest.importorskip("huggingface_hub.constants", reason="needs transformers")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    line = refused(run("caption", photos))
    assert line.startswith(
        "model 'Salesforce/blip-image-captioning-base' is not a folder, "
        "and the hub cannot be reached ("
    )
    assert line.endswith(
        "): give the folder of a BlipForConditionalGeneration that save_pretrained wrote"
    )


def test_without_transformers_the_extra_is_named(
    ask: Run, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    line = refused(ask(photos, QUESTION))
    assert line.startswith("questions and captions need transformers (")
    assert line.endswith("): pip install 'camcli[transformers]'")
