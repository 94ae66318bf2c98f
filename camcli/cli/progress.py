"""Run a job and show its progress and results."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from camcli.cli import DONE, SOME_FAILED, terminal
from camcli.cli.options import ShowOptions
from camcli.errors import CamcliError
from camcli.images.decode import STDIN, decode
from camcli.images.store import AnyPath
from camcli.runs.files import to_json
from camcli.runs.outputs import first_file, named_files

if TYPE_CHECKING:
    from camcli.runs.job import Job
    from camcli.runs.pipeline import Executor


def checked_preview(show: ShowOptions, saves: Sequence[str]) -> ShowOptions:
    """Return the options without a preview where the terminal cannot show one, after a note.

    Raises CamcliError where the preview's file is not saved.
    """
    if not show.preview:
        return show
    if "overlay" not in saves:
        raise CamcliError("--preview draws the overlay: add overlay to --save")
    refused = terminal.refusal(sys.stderr, os.environ)
    if refused and not show.quiet:
        click.echo(f"Note: no preview: {refused}", err=True)
    return replace(show, preview=not refused)


def shown(
    job: Job,
    show: ShowOptions,
    line: Callable[[dict[str, Any], AnyPath], str],
    *,
    executor: Executor | None = None,
) -> int:
    """Run a job, print its rows as JSON or each as a `line`, and return the exit code."""
    from tqdm import tqdm  # not at the top: --help stays quick

    from camcli.runs.pipeline import run

    counts: Counter[str] = Counter()
    files: list[str] = []
    hidden = show.quiet or not sys.stderr.isatty()
    bar = tqdm(total=len(job.sources), unit="image", leave=False, disable=hidden)
    with bar as progress, closing(run(job, executor)) as images:
        for rows in images:
            counts.update({row["status"] for row in rows})
            progress.clear()
            _print_rows(rows, job.output, show, line)
            files += [
                name for row in rows for name in named_files(row).values() if len(job.sources) == 1
            ]
            progress.update()
            if show.fail_fast and any(row["error"] for row in rows):
                break
    if not show.quiet:
        _print_summary(job, counts, files)
    return SOME_FAILED if counts["error"] else DONE


def line_of(row: dict[str, Any], what: str, output: AnyPath, more: str = "") -> str:
    """Return a result as a line: the image, the method, what was explained, the file to look at."""
    file = first_file(row)
    where = f"  {output / file}" if file else ""
    empty = "  (empty: the map is zero everywhere)" if row["status"] == "empty" else ""
    return f"{row['image']}  {row['method']}  {what} ({row['probability']:.1%}){where}{more}{empty}"


def _print_rows(
    rows: Sequence[dict[str, Any]],
    output: AnyPath,
    show: ShowOptions,
    line: Callable[[dict[str, Any], AnyPath], str],
) -> None:
    for error in dict.fromkeys(row["error"] for row in rows if row["error"]):
        click.echo("Error: " + error.replace("\n", "\\n"), err=True)
    for row in rows:
        if show.json:
            click.echo(to_json(row), nl=False)
        elif not show.quiet and not row["error"]:
            click.echo(line(row, output))
        if show.preview and row["overlay"]:
            click.echo(_picture(output / row["overlay"]), nl=False, err=True)


def _print_summary(job: Job, counts: Counter[str], files: Sequence[str]) -> None:
    alone = len(job.sources) == 1 and sys.stderr.isatty() and not counts["error"]
    if alone:
        _show_classes(job)
    click.echo(_summary(len(job.sources), counts, job.output), err=True)
    for file in files if alone else ():
        click.echo(f"  {file}", err=True)


def _picture(file: AnyPath) -> str:
    """Return a picture as text for the terminal behind standard error."""
    size = terminal.size_of(sys.stderr)
    return terminal.picture(decode(file), terminal.protocol(os.environ), size)


def _show_classes(job: Job) -> None:
    """Print the most probable classes of the only image as bars, if the network has classes."""
    from camcli.runs.job import Loaded
    from camcli.runs.pipeline import load_image
    from camcli.runs.worker import best_classes

    (source,) = job.sources
    if source.path == STDIN or job.model.task == "language":  # standard input is read only once
        return
    loaded = load_image(job, source)
    if not isinstance(loaded, Loaded):
        return
    shares = [pair for pair in best_classes(job, loaded, 5) if pair[1] >= 0.001]
    width, blocks = terminal.size_of(sys.stderr)[0], terminal.has_blocks(sys.stderr)
    for bar in terminal.bars(shares, width, blocks=blocks) if shares else ():
        click.echo(bar, err=True)


def _summary(images: int, counts: Counter[str], output: AnyPath) -> str:
    words = {"error": "failed", "empty": "with an empty map"}
    marks = ", ".join(
        f"{counts[status]} {word}" for status, word in words.items() if counts[status]
    )
    noun = "image" if images == 1 else "images"
    return f"{images} {noun} -> {output}" + (f" ({marks})" if marks else "")
