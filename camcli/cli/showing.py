"""Running a job and showing people what it does."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from camcli.cli import DONE, SOME_FAILED
from camcli.outputs import to_json

if TYPE_CHECKING:
    from camcli.job import Job


def shown(
    job: Job,
    line: Callable[[dict[str, Any], Path], str],
    *,
    json: bool,
    quiet: bool,
    fail_fast: bool,
) -> int:
    """Run a job, print its rows as JSON or as a `line` for people, and give the exit code."""
    from tqdm import tqdm  # not before the run: --help stays quick

    from camcli.pipeline import run

    counts: Counter[str] = Counter()
    hidden = quiet or not sys.stderr.isatty()
    bar = tqdm(total=len(job.sources), unit="image", leave=False, disable=hidden)
    with bar as progress, closing(run(job)) as images:
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
            progress.update()
            if fail_fast and any(row["error"] for row in rows):
                break
    if not quiet:
        click.echo(_summary(len(job.sources), counts, job.output), err=True)
    return SOME_FAILED if counts["error"] else DONE


def line_of(row: dict[str, Any], what: str, output: Path, more: str = "") -> str:
    """A result for people: the image, what was explained, and where to look."""
    file = row["overlay"] or row["map"]
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
