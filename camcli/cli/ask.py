"""`camcli ask`: a question about images, its answers, and where the network saw them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from camcli.cli.options import Text
from camcli.cli.showing import line_of, shown
from camcli.cli.talking import job_of, sources_of, talking_options
from camcli.errors import CamcliError


@click.command(no_args_is_help=True)
@click.argument("paths", nargs=-1)
@click.argument("question")
@click.option(
    "--answer",
    multiple=True,
    type=Text(),
    metavar="TEXT",
    help="Explain this answer instead of the best one; repeatable.",
)
@click.option(
    "--top",
    type=click.IntRange(1, 50),
    default=5,
    show_default=True,
    metavar="K",
    help="Print the network's K best answers.",
)
@talking_options
def ask(
    paths: tuple[str, ...],
    question: str,
    *,
    answer: tuple[str, ...],
    top: int,
    output: Path,
    recursive: bool,
    json: bool,
    quiet: bool,
    fail_fast: bool,
    **options: Any,
) -> int:
    """Ask a QUESTION about each image in PATHS, and write where the answer was seen."""
    if not question.strip():
        raise CamcliError('an empty question: expected words, such as "what is the man doing?"')
    if not paths and Path(question).exists():
        raise CamcliError(f"no question behind '{question}': it comes last, in quotation marks")
    sources = sources_of(paths, output, recursive=recursive)

    from camcli.language.prompts import asked

    job = job_of(
        "ask", lambda talker: asked(talker, question, answer, top), sources, output, **options
    )
    return shown(job, _line, json=json, quiet=quiet, fail_fast=fail_fast)


def _line(row: dict[str, Any], output: Path) -> str:
    answers = "  ".join(f"{text} {probability:.1%}" for text, probability in row["answers"])
    return f"{line_of(row, row['class_name'], output)}\n    {answers}"
