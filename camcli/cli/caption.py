"""`camcli caption`: a sentence about each image, and where the network saw it and its words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from camcli.cli.showing import line_of, shown
from camcli.cli.talking import job_of, sources_of, talking_options


@click.command(no_args_is_help=True)
@click.argument("paths", nargs=-1)
@click.option(
    "--text",
    metavar="CAPTION",
    help="Explain this caption instead of the network's own.",
)
@click.option(
    "--per-word", is_flag=True, help="Explain each word too, as a strip of pictures side by side."
)
@talking_options
def caption(
    paths: tuple[str, ...],
    *,
    text: str | None,
    per_word: bool,
    output: Path,
    recursive: bool,
    json: bool,
    quiet: bool,
    fail_fast: bool,
    **options: Any,
) -> int:
    """Caption each image in PATHS, and write where what the caption says was seen."""
    sources = sources_of(paths, output, recursive=recursive)

    from camcli.language.prompts import captioned

    job = job_of(
        "caption",
        lambda talker: captioned(talker, text, words=per_word),
        sources,
        output,
        **options,
    )
    return shown(job, _line, json=json, quiet=quiet, fail_fast=fail_fast)


def _line(row: dict[str, Any], output: Path) -> str:
    line = line_of(row, row["class_name"], output)
    if words := row.get("words"):
        line += "\n    " + "  ".join(f"{word} {probability:.1%}" for word, probability in words)
    return line
