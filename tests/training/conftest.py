"""Training data and a trained teacher for all tests of this room."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from camcli.models.load import load
from camcli.models.model import Model
from camcli.training.data import Splits, read_dataset, split
from camcli.training.recipe import Phase
from camcli.training.state import EpochRecord
from camcli.training.train import train
from tests.support.training import RECIPE, draw_squares


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_squares(tmp_path_factory.mktemp("squares"))


@pytest.fixture(scope="session")
def data(folder: Path) -> Splits:
    part, held_out = split(read_dataset(folder), 0.25)
    return Splits(part.classes, (part,), (held_out,))


@pytest.fixture(scope="session")
def teacher(
    data: Splits, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Model, list[EpochRecord]]:
    """A trained network and the records of its run."""
    output, recipe = tmp_path_factory.mktemp("teacher"), replace(RECIPE, phases=(Phase(50, 7),))
    records = list(train(recipe, data, output, device=torch.device("cpu")))
    return load(str(output)), records
