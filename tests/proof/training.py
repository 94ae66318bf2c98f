"""Train networks on data with shortcuts, and measure whether they use these."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

import camcli
from camcli import Model
from camcli.images.preprocess import preprocess
from camcli.training.data import Splits, read_dataset, split
from camcli.training.recipe import Phase, Recipe
from camcli.training.train import train
from tests.proof.data import CLASSES, COUNTS, Pixels, Plant, images, planted, plants
from tests.scenes.drawing import SIDE

NET, EPOCHS = "tests.proof.network:net", 16


class Use(NamedTuple):
    """What a shortcut changes in a network's answers for the test images.

    `with_it` is the share of right answers for the images that have the shortcut, and `without_it`
    for the same images before it was painted. `taken` is the share of the images of other classes
    that the network takes for the class of the shortcut once it is painted over them, and
    `mistaken` the share before.
    """

    with_it: float
    without_it: float
    taken: float
    mistaken: float

    @property
    def learned(self) -> bool:
        """Return whether the shortcut alone moves many images of other classes to its class."""
        return self.taken - self.mistaken >= 0.25


def fit(data: Path, folder: Path, seed: int, epochs: int = EPOCHS) -> None:
    """Train a network on the folders of `data` and write its folder."""
    dataset = read_dataset(data)
    kept, held_out = split(dataset, 0.1)
    recipe = Recipe(NET, (Phase(SIDE, epochs),), batch_size=32, lr=6e-3, seed=seed)
    splits = Splits(dataset.classes, (kept,), (held_out,))
    for _ in train(recipe, splits, folder, device=torch.device("cpu")):
        pass


def load(folder: Path) -> Model:
    """Load a network that `fit` has written."""
    return camcli.load(NET, folder)


def answers(model: Model, pixels: Iterable[Pixels]) -> list[str]:
    """Return the name of the best class of each image."""
    inputs = torch.stack([preprocess(one, model.preset)[0] for one in pixels])
    with torch.no_grad():
        best = model.module.eval()(inputs).argmax(1).tolist()
    return [CLASSES[index] for index in best]


def accuracy(model: Model, variant: str, seed: int, count: int = COUNTS["test"]) -> float:
    """Return the share of right answers for the test images, with their shortcuts."""
    tests = planted(images("test", seed, count), plants(variant, seed))
    names, _, pixels = zip(*tests, strict=True)
    return float(np.mean(np.array(answers(model, pixels)) == np.array(names)))


def uses(model: Model, variant: str, seed: int, count: int = COUNTS["test"]) -> list[Use]:
    """Return what each shortcut of a variant changes."""
    tests = [*images("test", seed, count)]
    before = answers(model, [pixels for *_, pixels in tests])
    return [use(model, plant, tests, before) for plant in plants(variant, seed)]


def use(
    model: Model, plant: Plant, tests: list[tuple[str, float, Pixels]], before: list[str]
) -> Use:
    """Return what one shortcut changes. `before` are the answers for the images without it."""
    after = answers(model, [plant.layer.over(pixels) for *_, pixels in tests])
    own = np.array([plant.has(name, rank) for name, rank, _ in tests])
    other = np.array([name != plant.of for name, *_ in tests])
    is_class = {"before": np.array(before) == plant.of, "after": np.array(after) == plant.of}
    return Use(
        with_it=float(is_class["after"][own].mean()),
        without_it=float(is_class["before"][own].mean()),
        taken=float(is_class["after"][other].mean()),
        mistaken=float(is_class["before"][other].mean()),
    )
