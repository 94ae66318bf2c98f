"""`camcli report`: an output folder as one HTML page."""

from __future__ import annotations

import os
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from camcli.cli import DONE
from camcli.runs.files import write

if TYPE_CHECKING:
    from camcli.report.folder import Folder
    from camcli.report.originals import Photo
    from camcli.report.page import Report

PAGE = "report.html"


@click.command(no_args_is_help=True)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--images",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="Where the images that were explained are; repeatable.  [default: in and beside the "
    "folder that holds DIR, where they are the same]",
)
@click.option(
    "--evaluation",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="The folder of camcli evaluate --output.  [default: DIR, if metrics.json is there]",
)
@click.option(
    "--check",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="What camcli check --json printed.  [default: DIR/check.jsonl, if it is there]",
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
    help="What the pictures and maps in the page may take; many or large ones are made smaller.",
)
@click.option(
    "--workers",
    type=click.IntRange(1),
    metavar="N",
    help="Threads that read images.  [default: one a core]",
)
@click.option("--open", is_flag=True, help="Show the page in a browser.")
@click.option("--quiet", is_flag=True, help="Print errors and warnings only.")
def report(
    folder: Path,
    *,
    images: tuple[Path, ...],
    evaluation: Path | None,
    check: Path | None,
    output: Path | None,
    title: str | None,
    size: int,
    workers: int | None,
    open: bool,  # noqa: A002 - the option's name
    quiet: bool,
) -> int:
    """Make one HTML page of DIR, a folder of camcli explain.

    It needs no server and no network: a gallery to search, filter and sort, with the maps over
    their images and the methods side by side.
    """
    from camcli.report import changes, page
    from camcli.report import evaluation as evaluations
    from camcli.report import folder as folders

    file, half = output or folder / PAGE, size * 1_000_000 // 2
    found = folders.read(folder)
    made = page.Report(
        folder=found,
        photos=_photos(found, images, half, workers or os.cpu_count() or 1, quiet),
        file=file,
        most=page.cells(found, half),
        title=title,
        evaluation=evaluations.find(folder, evaluation),
        changes=changes.find(folder, check),
    )
    write(file, page.page(made))
    for note in page.notes(made):
        click.echo(f"Warning: {note}", err=True)
    if not quiet:
        click.echo(_told(made))
    if open and not webbrowser.open(file.absolute().as_uri()):
        click.echo("Warning: no browser found to show it in", err=True)
    return DONE


def _photos(
    found: Folder, images: Sequence[Path], budget: int, workers: int, quiet: bool
) -> list[Photo]:
    """The originals made small, with a progress bar."""
    from tqdm import tqdm  # not before the run: --help stays quick

    from camcli.report import originals

    hidden = quiet or not sys.stderr.isatty()
    read = originals.photos(found, images, originals.side(len(found.images), budget), workers)
    return list(tqdm(read, total=len(found.images), unit="image", leave=False, disable=hidden))


def _told(made: Report) -> str:
    """What the page shows, in one line."""
    images, results = len(made.photos), len(made.folder.entries)
    words = {"error": "failed", "empty": "with an empty map"}
    marks = ", ".join(f"{made.counts[s]} {word}" for s, word in words.items() if made.counts[s])
    nouns = ["image" if images == 1 else "images", "result" if results == 1 else "results"]
    told = f"{images} {nouns[0]}, {results} {nouns[1]} -> {made.file}"
    return told + (f" ({marks})" if marks else "")
