"""`camcli report`: write an output folder as one HTML page."""

from __future__ import annotations

import webbrowser
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from camcli.cli import DONE
from camcli.cli.help import command
from camcli.cli.options import flag, grouped
from camcli.cli.page_options import images_option, page_option, size_option
from camcli.cli.printing import echo, show_name
from camcli.cli.progress import progress_bar, summary_line
from camcli.cli.types import POSITIVE, Location
from camcli.images.store import AnyPath, RemotePath
from camcli.runs.files import write

if TYPE_CHECKING:
    from camcli.report.contents import Contents
    from camcli.report.originals import Original

PAGE = "report.html"


@command(
    {
        "camcli report heat --open": "write heat/report.html, and open it",
        "camcli report heat --sheet heat.pdf": "and a contact sheet to print",
    }
)
@click.argument("folder", metavar="DIR", type=Location())
@images_option
@grouped(
    "Input",
    click.option(
        "--evaluation",
        type=Location(file_okay=False),
        metavar="DIR",
        help="A folder written by camcli evaluate --output.  [default: DIR, if it has "
        "metrics.json]",
    ),
    click.option(
        "--check",
        type=Location(dir_okay=False),
        metavar="FILE",
        help="The output of camcli check --json.  [default: DIR/check.jsonl, if it exists]",
    ),
)
@grouped(
    "Output",
    page_option(PAGE),
    click.option(
        "--sheet",
        type=Location(dir_okay=False),
        metavar="FILE",
        help="Write a contact sheet as well, a .png or a .pdf: images down, methods across.",
    ),
    click.option("--title", metavar="TEXT", help="The page's title.  [default: model and methods]"),
    size_option(64, "The size limit for thumbnails and maps in the page; larger ones are reduced."),
    flag("--open", "Show the page in a browser."),
    flag("--quiet", "Print errors and warnings only."),
)
@grouped(
    "Speed",
    click.option(
        "--workers",
        type=POSITIVE,
        metavar="N",
        help="Threads that read images.  [default: one per core, 24 for stores]",
    ),
)
def report(
    folder: AnyPath,
    *,
    output: AnyPath | None,
    sheet: AnyPath | None,
    open: bool,  # noqa: A002 - the option's name
    quiet: bool,
    **options: Any,
) -> int:
    """Write one HTML page that shows DIR, an output folder of camcli explain.

    The page needs no server and no network. It has a gallery to search, filter and sort, with the
    maps over their images and the methods side by side. DIR may be on a store, such as
    s3://bucket/heat.
    """
    from camcli.report.contents import ReportOptions, collect
    from camcli.report.page import page_data, render_page
    from camcli.report.sheet import check_name

    def progress(originals: Iterator[Original], total: int) -> Iterator[Original]:
        with progress_bar(total, quiet) as bar:
            for original in originals:
                yield original
                bar.update()

    if sheet:
        check_name(sheet)
    file = output or folder / PAGE
    if open and isinstance(file, RemotePath):
        raise click.UsageError(
            f"--open: a browser does not open '{file}': name a page on this machine with --output"
        )
    contents = collect(folder, file, ReportOptions(**options), progress)
    write(file, render_page(page_data(contents)))
    for note in contents.notes():
        echo(f"Warning: {note}", err=True)
    if sheet:
        _write_sheet(contents, sheet)
    if not quiet:
        counts, images = contents.folder.counts, len(contents.originals)
        images += contents.folder.hidden_images
        numbers = {"image": images, "result": counts.total()}
        echo(summary_line(numbers, show_name(file), counts))
        if sheet:
            echo(f"contact sheet -> {show_name(sheet)}")
    if open and not isinstance(file, RemotePath) and not webbrowser.open(file.absolute().as_uri()):
        echo("Warning: no browser found to show the page", err=True)
    return DONE


def _write_sheet(contents: Contents, file: AnyPath) -> None:
    from camcli.report import sheet

    write(file, sheet.sheet(contents, file))
    for note in sheet.notes(contents):
        echo(f"Warning: {note}", err=True)
