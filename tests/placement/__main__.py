"""`python -m tests.placement`: where heat lies, in equal parts and by centres."""

from __future__ import annotations

import csv
import tempfile
from collections import defaultdict
from pathlib import Path

import click
import numpy as np

from camcli.evaluation.intervals import mean_intervals
from camcli.evaluation.registry import METRICS
from camcli.images.preprocess import FITS
from tests.placement.picture import draw_picture
from tests.support.dots import SHAPES, STORED, offsets
from tests.support.linear_networks import LAYERS, Probe


@click.group()
def main() -> None:
    """Measure and show where heat lies."""


@main.command()
def dots() -> None:
    """Print the largest distance of a dot's heat from the dot, for all networks and fits."""
    click.echo("| network | fit | in equal parts | by centres |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name in LAYERS:
            net = Probe(name, sharp=True)
            for fit in FITS:
                if name == "vit_b_16" and fit == "full":
                    continue  # it takes one size only
                parts, centres = _farthest(net, fit, Path(folder) / "dot.png")
                click.echo(f"| {name} | `{fit}` | {parts:.2f} | {centres:.2f} |")


def _farthest(net: Probe, fit: str, file: Path) -> tuple[float, float]:
    """Return the largest offsets in cells for all shapes, one orientation after the other."""
    found = [
        offsets(net, shape, fit, 1 + number % len(STORED), file, number)
        for number, shape in enumerate(SHAPES)
    ]
    parts, centres = np.abs(found).max((0, 2))
    return float(parts), float(centres)


@main.command()
@click.argument("before", type=click.Path(exists=True, path_type=Path))
@click.argument("after", type=click.Path(exists=True, path_type=Path))
def compare(before: Path, after: Path) -> None:
    """Print the means of two folders of `camcli evaluate`, and of the paired differences."""
    click.echo(
        "| metric | method | images | before | after | difference |\n|---|---|---|---|---|---|"
    )
    one, other = _scores(before), _scores(after)
    for (metric, method), values in one.items():
        pairs = np.array([[values[image], other[metric, method][image]] for image in values]).T
        difference = pairs[1] - pairs[0]
        if not difference.any():
            continue  # a baseline
        ((low, high),) = mean_intervals(difference[None], seed=0)
        means = " | ".join(f"{mean:.3f}" for mean in pairs.mean(1))
        interval = f"{difference.mean():+.4f} [{low:+.4f}, {high:+.4f}]"
        better = METRICS[metric].better
        click.echo(f"| {metric} ({better}) | {method} | {len(difference)} | {means} | {interval} |")


def _scores(folder: Path) -> dict[tuple[str, str], dict[str, float]]:
    """Return the values of an evaluation by metric and method, and by image."""
    found: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    with (folder / "scores.csv").open() as file:
        for row in csv.DictReader(file):
            for metric in METRICS.keys() & row.keys():
                if row[metric]:
                    found[metric, row["method"]][row["image"]] = float(row[metric])
    order = list(METRICS)
    return dict(sorted(found.items(), key=lambda item: order.index(item[0][0])))


@main.command()
@click.argument("file", type=click.Path(path_type=Path))
def picture(file: Path) -> None:
    """Write the picture of docs/placement.md."""
    draw_picture(file)


if __name__ == "__main__":
    main()
