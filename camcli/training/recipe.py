"""The hyperparameters of a training run. Imports neither torch nor NumPy."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Phase:
    """A number of epochs at one input size, in pixels."""

    size: int
    epochs: int


@dataclass(frozen=True)
class Recipe:
    """Everything that determines a run except its data and its teacher's weights.

    `weights` are the initial weights: a name or file that `models.load` accepts, the folder of an
    earlier run, or `none` for random ones. `lr` is the maximum learning rate of AdamW in one cycle
    over all phases: a linear warm-up, then a cosine decay. `ema` is the decay of the moving average
    of the weights; the average is evaluated and saved. `balance` is the exponent of
    `batches.sampling_groups`, `smoothing` the label smoothing, `alpha` the weight of the
    explanation loss.
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
        """The number of epochs of all phases."""
        return sum(phase.epochs for phase in self.phases)

    def size_at(self, epoch: int) -> int:
        """Return the input size of an epoch, counted from 0. Raises ValueError beyond the last."""
        for phase in self.phases:
            if epoch < phase.epochs:
                return phase.size
            epoch -= phase.epochs
        raise ValueError(f"expected an epoch below {self.epochs}")
