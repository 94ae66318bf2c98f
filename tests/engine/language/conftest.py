"""Tiny language models with random weights, photos and runners of the two commands."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.scenes.drawing import scenes
from tests.support.command import Run

QUESTION = "what colour is the circle?"


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model with random weights for each of the two commands."""
    blips = pytest.importorskip("tests.scenes.blips", reason="needs transformers")
    torch.manual_seed(0)
    top = tmp_path_factory.mktemp("models")
    return {
        skill: blips.save(architecture(blips.config()), top / skill)
        for skill, architecture in blips.ARCHITECTURES.items()
    }


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of three scenes, one of them in a subfolder."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for name, one in zip(("a.png", "b.png", "sub/c.png"), scenes(3, 1), strict=True):
        Image.fromarray(one.pixels).save(folder / name)
    return folder


@pytest.fixture
def ask(run: Run, folders: dict[str, Path], tmp_path: Path) -> Run:
    """Run `camcli ask` into the folder `out`."""
    return lambda *given: run(
        *("ask", *given, "--model", folders["ask"], "--output", tmp_path / "out")
    )


@pytest.fixture
def caption(run: Run, folders: dict[str, Path], tmp_path: Path) -> Run:
    """Run `camcli caption` into the folder `out`."""
    return lambda *given: run(
        *("caption", *given, "--model", folders["caption"], "--output", tmp_path / "out")
    )
