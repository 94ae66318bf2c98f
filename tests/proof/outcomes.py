"""Draw the data of a variant, train a network, explain it and audit it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

import torch

from tests.proof import data, judging, training


class Outcome(NamedTuple):
    """What a network of a variant learned, and what its audit found."""

    variant: str
    seed: int
    accuracy: float
    uses: tuple[training.Use, ...]
    verdict: judging.Verdict

    def __str__(self) -> str:
        planted = [
            f"with {use.with_it:.0%}, without {use.without_it:.0%}, taken {use.taken:.0%}: "
            + ("found" if found else "not found")
            for use, found in zip(self.uses, self.verdict.found, strict=True)
        ]
        first = f"first {'right' if self.verdict.first else '-'}, others {self.verdict.others}"
        return "; ".join([f"{self.variant}-{self.seed} {self.accuracy:.1%}", *planted, first])

    @property
    def learned(self) -> bool:
        """Return whether there are shortcuts and the network uses each of them."""
        return bool(self.uses) and all(use.learned for use in self.uses)

    @property
    def found(self) -> bool:
        """Return whether there are shortcuts and each of them is a suspect."""
        return bool(self.uses) and all(self.verdict.found)

    @property
    def suspected(self) -> bool:
        """Return whether the audit has any suspect."""
        return any(self.verdict.found) or self.verdict.others > 0


def outcomes(work: Sequence[tuple[str, int]], folder: Path) -> Iterator[Outcome]:
    """Yield the outcome of each variant and seed, as soon as it is there, from two processes."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=spawn) as pool:
        for future in as_completed([pool.submit(outcome, *one, folder) for one in work]):
            yield future.result()


def outcome(
    variant: str,
    seed: int,
    folder: Path,
    counts: Mapping[str, int] = data.COUNTS,
    epochs: int = training.EPOCHS,
) -> Outcome:
    """Return the outcome of a variant and seed, with its files in a folder of their own.

    Networks and heat that an earlier run left there are used again.
    """
    torch.set_num_threads(1)
    here, tests = folder / f"{variant}-{seed}", counts["test"]
    for part, count in counts.items():
        data.write(here / "data", part, variant, seed, count)
    training.fit(here / "data" / "train", here / "model", seed, epochs)
    model = training.load(here / "model")
    heat = judging.explain(here / "data" / "test", here / "model", here / "heat")
    suspects = judging.audit(heat, here / "model", here / "data" / "test")
    return Outcome(
        variant,
        seed,
        training.accuracy(model, variant, seed, tests),
        tuple(training.uses(model, variant, seed, tests)),
        judging.verdict(suspects, data.plants(variant, seed)),
    )
