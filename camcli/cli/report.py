"""`camcli report`: an output folder as one HTML page."""

from __future__ import annotations

import sys
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from camcli.cli import DONE
from camcli.runs.files import write

if TYPE_CHECKING:
    from camcli.report.contents import Report
    from camcli.report.originals import Original

PAGE = "report.html"


@click.command(no_args_is_help=True)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--images",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="A folder with the original images; repeatable.  [default: the same images in the folder "
    "that holds DIR, or in a folder beside DIR]",
)
@click.option(
    "--evaluation",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="A folder written by camcli evaluate --output.  [default: DIR, if it has metrics.json]",
)
@click.option(
    "--check",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The output of camcli check --json.  [default: DIR/check.jsonl, if it exists]",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help=f"The page to write.  [default: DIR/{PAGE}]",
)
@click.option("--title", metavar="TEXT", help="The page's title.  [default: model and methods]")
@click.option(
    "--size",
    type=click.IntRange(1, 1024),
    default=64,
    show_default=True,
    metavar="MB",
    help="The size limit for thumbnails and maps in the page; larger ones are reduced.",
)
@click.option(
    "--workers",
    type=click.IntRange(1),
    metavar="N",
    help="Threads that read images.  [default: one per core]",
)
@click.option("--open", is_flag=True, help="Show the page in a browser.")
@click.option("--quiet", is_flag=True, help="Print errors and warnings only.")
def report(
    folder: Path,
    *,
    output: Path | None,
    open: bool,  # noqa: A002 - the option's name
    quiet: bool,
    **options: Any,
) -> int:
    """Write one HTML page that shows DIR, an output folder of camcli explain.

    The page needs no server and no network. It has a gallery to search, filter and sort, with the
    maps over their images and the methods side by side.
    """
    from tqdm import tqdm  # imported late to keep --help fast

    from camcli.report.contents import ReportOptions, collect
    from camcli.report.page import render_page
    from camcli.report.page_data import page_data

    def progress(originals: Iterator[Original], total: int) -> Iterator[Original]:
        hidden = quiet or not sys.stderr.isatty()
        yield from tqdm(originals, total=total, unit="image", leave=False, disable=hidden)

    file = output or folder / PAGE
    contents = collect(folder, file, ReportOptions(**options), progress)
    write(file, render_page(page_data(contents)))
    for note in contents.notes():
        click.echo(f"Warning: {note}", err=True)
    if not quiet:
        click.echo(_summary_line(contents))
    if open and not webbrowser.open(file.absolute().as_uri()):
        click.echo("Warning: no browser found to show the page", err=True)
    return DONE


def _summary_line(report: Report) -> str:
    images, results = len(report.originals), len(report.folder.results)
    nouns = ["image" if images == 1 else "images", "result" if results == 1 else "results"]
    words = {"error": "failed", "empty": "with an empty map"}
    problems = [f"{report.counts[s]} {word}" for s, word in words.items() if report.counts[s]]
    line = f"{images} {nouns[0]}, {results} {nouns[1]} -> {report.file}"
    return line + (f" ({', '.join(problems)})" if problems else "")
