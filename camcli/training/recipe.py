"""What a training run is made of: its recipe and its data."""

from __future__ import annotations

from dataclasses import dataclass

from camcli.training.data import Dataset


@dataclass(frozen=True)
class Phase:
    """So many epochs at one input size, in pixels."""

    size: int
    epochs: int


@dataclass(frozen=True)
class Recipe:
    """All that decides what a run comes to, but for its data and its teacher's weights.

    `lr` is AdamW's highest learning rate, in one cycle of linear warm-up and cosine descent over
    all phases; `ema` the decay of the weights' moving average, which is what is measured and kept.
    `weights` are what training starts from: as `models.load` takes them, or the folder of an
    earlier run, which goes on with its classes where they are the same; `none` are random ones.
    """

    model: str
    phases: tuple[Phase, ...] = (Phase(128, 10),)
    weights: str = "none"
    batch_size: int = 128
    lr: float = 4e-3
    weight_decay: float = 0.05
    smoothing: float = 0.05
    dropout: float = 0.1
    ema: float = 0.998
    balance: float = 0.5
    precision: str = "fp32"
    seed: int = 0
    explain_method: str = "gradcam++"
    alpha: float = 0.01
    kd_weight: float = 0.0
    kd_temperature: float = 4.0

    @property
    def epochs(self) -> int:
        return sum(phase.epochs for phase in self.phases)

    def size(self, epoch: int) -> int:
        """The input size in an epoch, counted from 0."""
        for phase in self.phases:
            if epoch < phase.epochs:
                return phase.size
            epoch -= phase.epochs
        raise ValueError("there is no such epoch in this recipe")


@dataclass(frozen=True)
class Data:
    """Sources whose labels index the same `classes`: to train on, to choose by, to test on."""

    classes: tuple[str, ...]
    train: tuple[Dataset, ...]
    val: tuple[Dataset, ...]
    test: tuple[Dataset, ...] = ()
