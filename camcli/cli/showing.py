"""Running a job and showing people what it does."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from camcli import terminal
from camcli.cli import DONE, SOME_FAILED
from camcli.errors import CamcliError
from camcli.images import decode
from camcli.outputs import first_file, named, to_json

if TYPE_CHECKING:
    from camcli.job import Job

Row: TypeAlias = dict[str, Any]


def shown(
    job: Job,
    line: Callable[[Row, Path], str],
    *,
    json: bool,
    quiet: bool,
    preview: bool,
    fail_fast: bool,
    aside: Callable[[], Iterable[str]] = tuple,
) -> int:
    """Run a job, print its rows as JSON or as a `line` for people, and give the exit code.

    Of a single image, who sits at a terminal is also told its files, and before them what there is
    to say `aside`.
    """
    pictures = preview and _can_preview(quiet=quiet)
    counts: Counter[str] = Counter()
    files: list[str] = []
    with closing(_rows(job, quiet=quiet)) as images:
        for rows in images:
            counts.update({row["status"] for row in rows})
            _tell_errors(rows)
            for row in rows:
                if json:
                    click.echo(to_json(row), nl=False)
                elif not quiet and not row["error"]:
                    click.echo(line(row, job.output))
                if pictures and row["overlay"]:
                    click.echo(_picture(job.output / row["overlay"]), nl=False, err=True)
                files += named(row).values() if len(job.sources) == 1 else ()
            if fail_fast and any(row["error"] for row in rows):
                break
    if not quiet:
        alone = len(job.sources) == 1 and sys.stderr.isatty() and not counts["error"]
        before, behind = (aside(), files) if alone else ((), ())
        summary = _summary(len(job.sources), counts, job.output)
        for told in (*before, summary, *(f"  {file}" for file in behind)):
            click.echo(told, err=True)
    return SOME_FAILED if counts["error"] else DONE


def check_preview(saves: Sequence[str]) -> None:
    """Refuse a preview of what is not made. Raises CamcliError."""
    if "overlay" not in saves:
        raise CamcliError("--preview draws the overlay, which --save leaves out: add it there")


def _rows(job: Job, *, quiet: bool) -> Generator[list[Row], None, None]:
    """The rows of each image as it is done, below a progress bar where someone is there to see."""
    from tqdm import tqdm  # not before the run: --help stays quick

    from camcli.pipeline import run

    hidden = quiet or not sys.stderr.isatty()
    bar = tqdm(total=len(job.sources), unit="image", leave=False, disable=hidden)
    with bar as progress, closing(run(job)) as images:
        for rows in images:
            progress.clear()
            yield rows
            progress.update()


def _tell_errors(rows: list[Row]) -> None:
    """What an image's rows say that went wrong, each once."""
    for error in dict.fromkeys(row["error"] for row in rows if row["error"]):
        click.echo("Error: " + error.replace("\n", "\\n"), err=True)


def _can_preview(*, quiet: bool) -> bool:
    refused = terminal.refusal(sys.stderr, os.environ)
    if refused and not quiet:
        click.echo(f"Note: no preview: {refused}", err=True)
    return not refused


def _picture(file: Path) -> str:
    """A picture as the terminal behind standard error shows it."""
    size = terminal.size_of(sys.stderr)
    return terminal.picture(decode(file), terminal.protocol(os.environ), size)


def line_of(row: Row, what: str, output: Path, more: str = "") -> str:
    """A result for people: the image, what was explained, and where to look."""
    file = first_file(row)
    where = f"  {output / file}" if file else ""
    empty = "  (empty: nothing speaks for it)" if row["status"] == "empty" else ""
    return f"{row['image']}  {row['method']}  {what} ({row['probability']:.1%}){where}{more}{empty}"


def _summary(images: int, counts: Counter[str], output: Path) -> str:
    words = {"error": "failed", "empty": "with an empty map"}
    marks = ", ".join(
        f"{counts[status]} {word}" for status, word in words.items() if counts[status]
    )
    noun = "image" if images == 1 else "images"
    return f"{images} {noun} -> {output}" + (f" ({marks})" if marks else "")
