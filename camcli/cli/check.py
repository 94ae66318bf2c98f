"""`camcli check`: compare an output folder with a baseline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click

from camcli.cli import DIFFERS, DONE
from camcli.cli.help import command
from camcli.cli.options import field_option, flag, grouped
from camcli.cli.printing import echo, echo_json, show_name, terminal_width
from camcli.cli.types import FILE_PATH, FOLDER_PATH, Location
from camcli.images.store import AnyPath, RemotePath
from camcli.runs.files import to_json, write
from camcli.runs.manifest import MANIFEST
from camcli.snapshots import tables
from camcli.snapshots.accept import accept
from camcli.snapshots.compare import Comparison, comparisons
from camcli.snapshots.measures import Tolerance
from camcli.snapshots.tables import JUnitReport

_tolerance = partial(field_option, Tolerance)


@command(
    {
        "camcli check heat baseline": "exit with 3 if a map has changed",
        "camcli check heat baseline --update": "take the new maps as the baseline",
    }
)
@click.argument("new", type=Location())
@click.argument("baseline", type=Location())
@grouped(
    "Measurement",
    _tolerance(
        "rtol",
        None,
        "Largest allowed difference, as a share of the baseline map's largest absolute value.",
    ),
    _tolerance(
        "atol",
        None,
        "Absolute difference allowed in addition, in the map's unit; for maps close to zero.",
    ),
    _tolerance("min_correlation", None, "Smallest allowed Pearson correlation of two maps."),
    _tolerance(
        "max_shift",
        None,
        "Largest allowed shift of the hottest point, as a share of the map's longer side.",
    ),
)
@grouped(
    "Output",
    flag("--json", "Print one line of JSON per comparison."),
    click.option("--junit", type=FILE_PATH, metavar="FILE", help="Write a JUnit report."),
    click.option(
        "--diff",
        type=FOLDER_PATH,
        metavar="DIR",
        help="Write a picture of each changed map: baseline, new, signed difference.",
    ),
    flag("--update", "Replace the content of BASELINE, on this machine, by that of NEW."),
)
def check(
    new: AnyPath,
    baseline: AnyPath,
    *,
    json: bool,
    junit: Path | None,
    diff: Path | None,
    update: bool,
    **tolerances: Any,
) -> int:
    """Compare the maps in NEW with those in BASELINE, two output folders of camcli explain.

    Both may be on a store, such as s3://bucket/heat. Exits with 0 if all are alike and with 3
    otherwise.
    """
    tolerance = Tolerance(**tolerances)
    replaced = _to_replace(baseline) if update else None
    if replaced and not (replaced / MANIFEST).exists():
        accept(new, replaced)
        _echo_update("created", new, replaced, json)
        return DONE
    verdicts, cases, pictures = Counter[str](), JUnitReport(), 0

    def noted() -> Iterator[Comparison]:
        """Yield every comparison, after its picture and its rows are written."""
        nonlocal pictures
        for one in comparisons(new, baseline, tolerance):
            picture = _write_picture(one, diff) if diff and one.reasons else None
            pictures += picture is not None
            verdicts[one.verdict] += 1
            if junit:
                cases.add(one, picture)
            if json:
                echo_json(to_json(tables.json_row(one, picture, tolerance)))
            yield one

    shown = (one for one in noted() if not json)
    for line in tables.difference_lines(shown, show_name, terminal_width()):
        echo(line)
    if junit:
        write(junit, cases.contents())
    echo(tables.summary(verdicts), err=json)
    _echo_written(pictures, diff, junit, json)
    if replaced:
        accept(new, replaced)
        _echo_update("updated", new, replaced, json)
        return DONE
    return DONE if verdicts.total() == verdicts["alike"] else DIFFERS


def _echo_written(pictures: int, diff: Path | None, junit: Path | None, json: bool) -> None:
    """Print a line for the pictures that were written, and one for the JUnit report."""
    if diff:
        counted = "1 picture" if pictures == 1 else f"{pictures} pictures"
        echo(f"{counted} -> {show_name(diff, err=json)}", err=json)
    if junit:
        echo(f"JUnit report -> {show_name(junit, err=json)}", err=json)


def _to_replace(baseline: AnyPath) -> Path:
    """Return a baseline that --update may write to. Raises UsageError for one on a store."""
    if isinstance(baseline, RemotePath):
        raise click.UsageError(
            f"--update writes to BASELINE, and '{baseline}' is on a store: expected a folder on "
            f"this machine"
        )
    return baseline


def _echo_update(what: str, new: AnyPath, baseline: Path, json: bool) -> None:
    echo(f"{show_name(baseline, err=json)} {what} from {show_name(new, err=json)}", err=json)


def _write_picture(one: Comparison, folder: Path) -> Path | None:
    from camcli.snapshots.pictures import write_picture  # here, since it imports OpenCV

    return write_picture(one, folder)
