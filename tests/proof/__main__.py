"""`python -m tests.proof`: train networks with planted shortcuts, audit them, print the table."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np
import torch
from tqdm import tqdm

from tests.bench.__main__ import machine
from tests.proof import data
from tests.proof.outcomes import Outcome, outcomes

HEADER = (
    "variant",
    "accuracy",
    "with it / without",
    "taken",
    "learned",
    "first suspect is right",
    "all are suspects",
    "any suspect",
    "wrong suspects",
)


@click.command()
@click.option("--seeds", default=10, show_default=True, help="Number of networks of a variant.")
@click.option("--first", default=0, show_default=True, help="The first seed.")
@click.option("--double", is_flag=True, help="Plant two shortcuts at once instead of one.")
@click.option("--keep", type=click.Path(path_type=Path), help="Folder for data, networks, heat.")
def main(seeds: int, first: int, double: bool, keep: Path | None) -> None:
    """Train networks with planted shortcuts and measure whether `camcli audit` finds these."""
    torch.set_num_threads(1)
    variants = [*(data.DOUBLE if double else data.VARIANTS)]
    work = [*product(variants, range(first, first + seeds))]
    done = []
    with TemporaryDirectory() as temporary, tqdm(total=len(work), unit="network") as bar:
        for one in outcomes(work, (keep or Path(temporary)).absolute()):
            bar.write(str(one), file=sys.stderr)
            bar.update()
            done.append(one)
    click.echo(
        " · ".join(map(str, machine("cpu").values())) + f" · seeds {first} to {first + seeds - 1}\n"
    )
    click.echo("| " + " | ".join(HEADER) + " |\n|" + "---|" * len(HEADER))
    for variant in variants:
        of = [one for one in done if one.variant == variant]
        click.echo("| " + " | ".join([variant, *cells(of)]) + " |")


def cells(of: Sequence[Outcome]) -> Iterator[str]:
    """Yield the cells of a variant: means over its networks, then numbers of networks."""
    yield f"{np.mean([one.accuracy for one in of]):.1%}"
    uses = np.array([use for one in of for use in one.uses]).reshape(-1, 4)
    if len(uses):
        with_it, without_it, taken, _ = uses.mean(0)
        yield from (f"{with_it:.0%} / {without_it:.0%}", f"{taken:.0%}")
    else:
        yield from ("", "")
    marks = (
        [one.learned for one in of],
        [one.verdict.first for one in of],
        [one.found for one in of],
        [one.suspected for one in of],
        [one.verdict.others > 0 for one in of],
    )
    for number, mark in enumerate(marks):
        yield f"{sum(mark)} of {len(of)}" if len(uses) or number > 2 else ""


if __name__ == "__main__":
    main()
