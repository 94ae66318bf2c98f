"""Running a job and showing people what it does."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from camcli.cli import DONE, SOME_FAILED, terminal
from camcli.errors import CamcliError
from camcli.images.decode import STDIN, decode
from camcli.images.store import AnyPath
from camcli.runs.files import to_json
from camcli.runs.names import first_file, named

if TYPE_CHECKING:
    from camcli.runs.job import Job
    from camcli.runs.pipeline import Engine


def can_preview(saves: Sequence[str], *, quiet: bool) -> bool:
    """Whether overlays can be drawn in the terminal; says why not. Raises CamcliError."""
    if "overlay" not in saves:
        raise CamcliError("--preview draws the overlay, which --save leaves out: add it there")
    refused = terminal.refusal(sys.stderr, os.environ)
    if refused and not quiet:
        click.echo(f"Note: no preview: {refused}", err=True)
    return not refused


def shown(
    job: Job,
    line: Callable[[dict[str, Any], AnyPath], str],
    *,
    json: bool,
    quiet: bool,
    preview: bool,
    fail_fast: bool,
    engine: Engine | None = None,
) -> int:
    """Run a job, print its rows as JSON or as a `line` for people, and give the exit code."""
    from tqdm import tqdm  # not before the run: --help stays quick

    from camcli.runs.pipeline import run

    counts: Counter[str] = Counter()
    files: list[str] = []
    hidden = quiet or not sys.stderr.isatty()
    bar = tqdm(total=len(job.sources), unit="image", leave=False, disable=hidden)
    with bar as progress, closing(run(job, engine)) as images:
        for rows in images:
            counts.update({row["status"] for row in rows})
            progress.clear()
            for error in dict.fromkeys(row["error"] for row in rows if row["error"]):
                click.echo("Error: " + error.replace("\n", "\\n"), err=True)
            for row in rows:
                if json:
                    click.echo(to_json(row), nl=False)
                elif not quiet and not row["error"]:
                    click.echo(line(row, job.output))
                files += named(row).values() if len(job.sources) == 1 else ()
                if preview and row["overlay"]:
                    click.echo(_picture(job.output / row["overlay"]), nl=False, err=True)
            progress.update()
            if fail_fast and any(row["error"] for row in rows):
                break
    if not quiet:
        alone = len(job.sources) == 1 and sys.stderr.isatty() and not counts["error"]
        if alone and job.prompt is None:
            _show_classes(job)
        click.echo(_summary(len(job.sources), counts, job.output), err=True)
        for file in files if alone else ():
            click.echo(f"  {file}", err=True)
    return SOME_FAILED if counts["error"] else DONE


def line_of(row: dict[str, Any], what: str, output: AnyPath, more: str = "") -> str:
    """A result for people: the image, what was explained, and where to look."""
    file = first_file(row)
    where = f"  {output / file}" if file else ""
    empty = "  (empty: nothing speaks for it)" if row["status"] == "empty" else ""
    return f"{row['image']}  {row['method']}  {what} ({row['probability']:.1%}){where}{more}{empty}"


def _picture(file: AnyPath) -> str:
    """A picture as the terminal behind standard error shows it."""
    size = terminal.size_of(sys.stderr)
    return terminal.picture(decode(file), terminal.protocol(os.environ), size)


def _show_classes(job: Job) -> None:
    """What the network thinks of the only image, as bars, for who sits at a terminal."""
    from camcli.runs.pipeline import best_classes

    (source,) = job.sources
    if source.path == STDIN:  # which can be read only once
        return
    shares = [pair for pair in best_classes(job, source, 5) if pair[1] >= 0.001]
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
