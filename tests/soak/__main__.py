"""`python -m tests.soak PART`: print the figures of a part; all of them by `make soak`."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from tests.soak import images, kept
from tests.soak import kills as soak_kills
from tests.soak import lists as soak_lists
from tests.soak import nodes as soak_nodes
from tests.soak import records as soak_records
from tests.soak import tiny as soak_tiny

seed_option = click.option("--seed", default=0, show_default=True)


@click.group()
def soak() -> None:
    """Run the command for long, over much, or against damage."""


@soak.command()
@click.option("--rows", type=click.IntRange(1), default=1_000_000, show_default=True)
@seed_option
def records(rows: int, seed: int) -> None:
    """Measure `check`, `compare`, `audit`, `report` and `explain --skip-existing` of many rows."""
    click.echo(f"records: seed {seed}")
    with tempfile.TemporaryDirectory() as folder:
        soak_records.measure(Path(folder, "records"), rows, seed)
        kept.measure(Path(folder, "kept"), rows)


@soak.command()
@click.option("--count", type=click.IntRange(1), default=10_000, show_default=True)
@seed_option
def files(count: int, seed: int) -> None:
    """Explain damaged files of all formats."""
    click.echo(f"files: seed {seed}")
    with tempfile.TemporaryDirectory() as folder:
        images.measure(Path(folder), count, seed)


@soak.command()
@click.option("--count", type=click.IntRange(1), default=10_000_000, show_default=True)
@click.option("--images", type=click.IntRange(1), help="Of these, run the first.  [default: all]")
def lists(count: int, images: int | None) -> None:
    """Measure lists of many images, without a network. 10 million take up to 30 GB of disk."""
    with tempfile.TemporaryDirectory() as folder:
        soak_lists.measure(Path(folder, "lists"), count, images or count)


@soak.command()
@click.option("--count", type=click.IntRange(1), default=100, show_default=True)
@seed_option
def kills(count: int, seed: int) -> None:
    """Kill runs at random moments, finish them, and compare their files."""
    click.echo(f"kills: seed {seed}")
    with tempfile.TemporaryDirectory() as folder:
        soak_kills.measure(Path(folder), count, seed)


@soak.command()
@click.option("--count", type=click.IntRange(1), default=20, show_default=True)
@seed_option
def nodes(count: int, seed: int) -> None:
    """Run Ray on nodes that are unlike each other, and kill commands on it."""
    click.echo(f"nodes: seed {seed}")
    with tempfile.TemporaryDirectory() as folder:
        soak_nodes.measure(Path(folder), count, seed)


@soak.command()
@click.option("--count", type=click.IntRange(10), default=200_000, show_default=True)
def tiny(count: int) -> None:
    """Compare Ray with one process, on tiny images."""
    with tempfile.TemporaryDirectory() as folder:
        soak_tiny.measure(Path(folder), count)


if __name__ == "__main__":
    soak()
