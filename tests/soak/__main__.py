"""`python -m tests.soak PART`: print the figures of a part; all of them by `make soak`."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from tests.soak import records as soak_records

seed_option = click.option("--seed", default=0, show_default=True)


@click.group()
def soak() -> None:
    """Run the command for long, over much, or against damage."""


@soak.command()
@click.option("--rows", type=click.IntRange(1), default=1_000_000, show_default=True)
@seed_option
def records(rows: int, seed: int) -> None:
    """Measure `check` and `report` of output folders of many rows."""
    click.echo(f"records: seed {seed}")
    with tempfile.TemporaryDirectory() as folder:
        soak_records.measure(Path(folder, "records"), rows, seed)


if __name__ == "__main__":
    soak()
