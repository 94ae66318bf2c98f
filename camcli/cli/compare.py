"""`camcli compare`: compare the results of two networks for the same images."""

from __future__ import annotations

import os
import webbrowser
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from camcli.cli import DONE
from camcli.cli.help import command
from camcli.cli.options import flag, grouped
from camcli.cli.page_options import images_option, size_option
from camcli.cli.printing import echo, echo_json, show_name
from camcli.cli.progress import progress_bar
from camcli.cli.types import FOLDER_PATH, Location
from camcli.images.store import AnyPath
from camcli.runs.files import to_json, write, write_lines
from camcli.runs.manifest import Row, read_run
from camcli.snapshots import agreement_tables as tables
from camcli.snapshots.agreement import Agreement
from camcli.snapshots.networks import Contrast, contrasts

if TYPE_CHECKING:
    from camcli.report.compare_pictures import Pictures

ROWS, RECORD, PAGE = "compare.jsonl", "compare.json", "compare.html"


@dataclass(frozen=True)
class Files:
    """The folder to write to, and the options of the page."""

    output: Path | None
    images: tuple[AnyPath, ...]
    size: int
    open: bool
    quiet: bool


@command(
    {
        "camcli compare heat-resnet50 heat-vit": "two networks on the same images",
        "camcli compare a b -o difference --open": "a page with both maps",
    }
)
@click.argument("a", type=Location())
@click.argument("b", type=Location())
@images_option
@grouped(
    "Output",
    click.option(
        "--output",
        "-o",
        type=FOLDER_PATH,
        metavar="DIR",
        help=f"Write {ROWS}, {RECORD} and {PAGE}, a page with both maps of each result side by "
        "side.",
    ),
    click.option(
        "--limit",
        type=click.IntRange(0),
        default=20,
        metavar="N",
        help="The number of results to list, those that disagree most.",
    ),
    size_option(64, "The size limit of the page, which shows the results that disagree most."),
    flag("--json", "Print one line of JSON per result instead of the tables."),
    flag("--open", "Show the page in a browser."),
    flag("--quiet", "Print errors and warnings only."),
)
def compare(a: AnyPath, b: AnyPath, *, json: bool, limit: int, **options: Any) -> int:
    """Compare A and B, output folders of camcli explain for the same images by two networks.

    Both may be on a store, such as s3://bucket/heat. Shows where the predicted classes and the maps
    differ. Nothing passes or fails: see camcli check for that.
    """
    files = Files(**options)
    if files.open and not files.output:
        raise click.UsageError("--open shows the page that --output DIR writes: name a folder")
    runs = _read_run(a), _read_run(b)
    agreement = Agreement(runs, max(limit, _most(files)))
    lines = _lines(contrasts(a, b), agreement, json=json)
    if files.output:
        write_lines(files.output / ROWS, lines)
    else:
        deque(lines, maxlen=0)
    notes = [*agreement.warnings()]
    for note in notes:
        echo(f"Warning: {note}", err=True)
    if not (json or files.quiet):
        _print_tables((a, b), agreement, limit)
    if files.output:
        _write_page((a, b), agreement, notes, files.output, files)
    return DONE


def _read_run(folder: AnyPath) -> Row:
    """Return the record of a run, or an empty one with a warning if it cannot be read."""
    run, error = read_run(folder)
    if error:
        echo(f"Warning: '{folder}': unreadable {error}", err=True)
    return run


def _most(files: Files) -> int:
    """Return the number of results that the page may show."""
    if not files.output:
        return 0
    from camcli.report.compare_page import most_results  # here, since it imports OpenCV

    return most_results(files.size)


def _lines(found: Iterator[Contrast], agreement: Agreement, *, json: bool) -> Iterator[bytes]:
    """Yield the row of every result, after it is counted and printed."""
    for one in found:
        agreement.add(one)
        line = to_json(tables.json_row(one))
        if json:
            echo_json(line)
        yield line


def _print_tables(folders: tuple[AnyPath, AnyPath], agreement: Agreement, limit: int) -> None:
    record = agreement.record()
    for name, folder in zip("ab", folders, strict=True):
        echo(f"{name.upper()}: {tables.run_text(record['runs'][name])} ({show_name(folder)})")
    for line in tables.summary_lines(record):
        echo(line)
    most = tables.contrast_lines(agreement.most[:limit], show_name)
    for table in (tables.method_lines(record), most):
        for line in ["", *table] if table else []:
            echo(line)


def _write_page(
    folders: tuple[AnyPath, AnyPath],
    agreement: Agreement,
    notes: list[str],
    output: Path,
    files: Files,
) -> None:
    """Write the record and the page, and show it if asked."""
    from camcli.report.compare_page import Compared, compare_page

    record, page = agreement.record(), output / PAGE
    write(output / RECORD, to_json(record | {"warnings": notes}, indent=2))
    most = agreement.most[: _most(files)]
    compared = Compared(folders, agreement.runs, record, most, notes)
    drawn = compared.painter(files.images, files.size).draw_all(most, os.cpu_count() or 1)
    html, lacking = compare_page(compared, _shown(drawn, len(most), files.quiet), files.size)
    write(page, html)
    for note in lacking:
        echo(f"Warning: {note}", err=True)
    if not files.quiet:
        echo(f"-> {show_name(page, err=True)}", err=True)
    if files.open and not webbrowser.open(page.absolute().as_uri()):
        echo("Warning: no browser found to show the page", err=True)


def _shown(drawn: Iterator[Pictures], total: int, quiet: bool) -> Iterator[Pictures]:
    """Yield pictures, and show how many are drawn."""
    with progress_bar(total, quiet) as bar:
        for pictures in drawn:
            yield pictures
            bar.update()
