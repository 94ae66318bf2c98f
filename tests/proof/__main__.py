"""`python -m tests.proof`: train networks with planted shortcuts, audit them, print the table."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import click
import numpy as np
import torch
from tqdm import tqdm

from tests.bench.__main__ import machine
from tests.proof import data, judging, training

HEADER = (
    "variant",
    "accuracy",
    "with / without",
    "taken",
    "learned",
    "first suspect right",
    "all found",
    "any suspect",
    "other suspects",
)


class Outcome(NamedTuple):
    """What a network of a variant learned, and what its audit found."""

    variant: str
    seed: int
    accuracy: float
    uses: tuple[training.Use, ...]
    verdict: judging.Verdict

    @property
    def learned(self) -> bool:
        """Return whether there are shortcuts and the network uses each of them."""
        return bool(self.uses) and all(use.learned for use in self.uses)

    @property
    def suspected(self) -> bool:
        """Return whether the audit has any suspect."""
        return any(self.verdict.found) or self.verdict.others > 0


@click.command()
@click.option("--seeds", default=10, show_default=True, help="Number of networks of a variant.")
@click.option("--double", is_flag=True, help="Plant two shortcuts at once instead of one.")
@click.option("--keep", type=click.Path(path_type=Path), help="Folder for data, networks, heat.")
def main(seeds: int, double: bool, keep: Path | None) -> None:
    """Train networks with planted shortcuts and measure whether `camcli audit` finds these."""
    torch.set_num_threads(1)
    variants = [*(data.DOUBLE if double else data.VARIANTS)]
    with TemporaryDirectory() as temporary:
        work = [*product(variants, range(seeds))]
        done = [*outcomes(work, (keep or Path(temporary)).absolute())]
    click.echo(" · ".join(map(str, machine("cpu").values())) + f" · {seeds} seeds\n")
    click.echo("| " + " | ".join(HEADER) + " |\n|" + "---|" * len(HEADER))
    for variant in variants:
        of = [one for one in done if one.variant == variant]
        click.echo("| " + " | ".join([variant, *cells(of)]) + " |")


def outcomes(work: Sequence[tuple[str, int]], folder: Path) -> Iterator[Outcome]:
    """Yield the outcome of each variant and seed, as soon as it is there, from two processes."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=spawn) as pool:
        waiting = [pool.submit(outcome, *one, folder) for one in work]
        for future in tqdm(as_completed(waiting), total=len(waiting), unit="network"):
            found = future.result()
            tqdm.write(line(found), file=click.get_text_stream("stderr"))
            yield found


def outcome(
    variant: str,
    seed: int,
    folder: Path,
    counts: Mapping[str, int] = data.COUNTS,
    epochs: int = training.EPOCHS,
) -> Outcome:
    """Draw data, train a network, explain and audit it. Files are kept in a folder of their own."""
    torch.set_num_threads(1)
    here = folder / f"{variant}-{seed}"
    write = partial(data.write, here / "data", variant=variant, seed=seed)
    train, test = (write(part=part, count=counts[part]) for part in ("train", "test"))
    training.fit(train, here / "model", seed, epochs)
    model = training.load(here / "model")
    heat = judging.explain(test, here / "model", here / "heat")
    suspects = judging.audit(heat, here / "model", test)
    return Outcome(
        variant,
        seed,
        training.accuracy(model, variant, seed, counts["test"]),
        tuple(training.uses(model, variant, seed, counts["test"])),
        judging.verdict(suspects, data.plants(variant, seed)),
    )


def line(one: Outcome) -> str:
    """Return an outcome as a line of text."""
    planted = [
        f"with {use.with_it:.0%} without {use.without_it:.0%} taken {use.taken:.0%} found {found}"
        for use, found in zip(one.uses, one.verdict.found, strict=True)
    ]
    first = f"first {one.verdict.first}, others {one.verdict.others}"
    return f"{one.variant}-{one.seed}: " + ", ".join([f"{one.accuracy:.1%}", *planted, first])


def cells(of: Sequence[Outcome]) -> Iterator[str]:
    """Yield the cells of a variant: means over its networks, then numbers of networks."""
    uses = [use for one in of for use in one.uses]
    yield f"{np.mean([one.accuracy for one in of]):.1%}"
    if uses:
        yield " / ".join(f"{np.mean([use[i] for use in uses]):.0%}" for i in range(2))
        yield f"{np.mean([use.taken for use in uses]):.0%}"
    else:
        yield from ("-", "-")
    marks = (
        [one.learned for one in of],
        [one.verdict.first for one in of],
        [bool(one.uses) and all(one.verdict.found) for one in of],
        [one.suspected for one in of],
        [one.verdict.others > 0 for one in of],
    )
    for mark in marks:
        yield f"{sum(mark)} of {len(of)}"


if __name__ == "__main__":
    main()
