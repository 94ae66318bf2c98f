"""`camcli check`: an output folder against a baseline, for CI."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from camcli.cli import DIFFERS, DONE
from camcli.runs.files import to_json, write
from camcli.runs.manifest import MANIFEST
from camcli.snapshots import tables
from camcli.snapshots.accept import accept
from camcli.snapshots.compare import Comparison, Tolerance, compare

Pictures = dict[Comparison, Path]
_DEFAULT = Tolerance()


@click.command(no_args_is_help=True)
@click.argument("new", type=click.Path(path_type=Path))
@click.argument("baseline", type=click.Path(path_type=Path))
@click.option(
    "--rtol",
    default=_DEFAULT.rtol,
    show_default=True,
    help="Largest difference allowed, as a share of the baseline map's largest value.",
)
@click.option(
    "--atol",
    default=_DEFAULT.atol,
    show_default=True,
    help="Added to that, in the map's own unit; for maps that are all but zero.",
)
@click.option(
    "--min-correlation",
    default=_DEFAULT.min_correlation,
    show_default=True,
    help="Least Pearson correlation of two maps.",
)
@click.option(
    "--max-shift",
    default=_DEFAULT.max_shift,
    show_default=True,
    help="How far the hottest point may move, in lengths of the map's longer side.",
)
@click.option("--json", is_flag=True, help="Print a row of JSON for each comparison.")
@click.option(
    "--junit",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write a JUnit report.",
)
@click.option(
    "--diff",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write a picture of each map that changed: baseline, new, signed difference.",
)
@click.option("--update", is_flag=True, help="Accept what is in NEW as the new BASELINE.")
def check(
    new: Path,
    baseline: Path,
    *,
    json: bool,
    junit: Path | None,
    diff: Path | None,
    update: bool,
    **tolerances: Any,
) -> int:
    """Compare the maps in NEW with those in BASELINE, two folders of camcli explain.

    Exits with 0 if they are alike and with 3 if not.
    """
    tolerance = Tolerance(**tolerances)
    if update and not (baseline / MANIFEST).exists():
        accept(new, baseline)
        click.echo(f"{baseline} made from {new}", err=json)
        return DONE
    found = compare(new, baseline, tolerance)
    pictures = _draw(found, new, diff) if diff else {}
    if junit:
        write(junit, tables.junit(found, pictures))
    _show(found, pictures, json)
    if update:
        accept(new, baseline)
        click.echo(f"{baseline} updated from {new}", err=json)
        return DONE
    return DIFFERS if any(one.reasons for one in found) else DONE


def _show(found: Sequence[Comparison], pictures: Pictures, json: bool) -> None:
    if json:
        for one in found:
            click.echo(to_json(tables.row(one, pictures.get(one))), nl=False)
    else:
        click.echo(tables.table(found), nl=False)
    click.echo(tables.summary(found), err=json)


def _draw(found: Sequence[Comparison], new: Path, folder: Path) -> Pictures:
    """A picture of each pair of maps that are not alike, and where it is."""
    from camcli.snapshots.pictures import draw  # OpenCV, only where pictures are asked for

    return draw(found, new, folder)
