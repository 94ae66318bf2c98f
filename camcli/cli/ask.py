"""`camcli ask`: a question about images, its answers, and where the network saw them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from camcli.cli.language import talk, talking_options
from camcli.cli.options import Text
from camcli.cli.progress import line_of
from camcli.errors import CamcliError
from camcli.images.store import AnyPath

if TYPE_CHECKING:
    from camcli.engine.language.load import Talker
    from camcli.engine.language.prompts import Prompt


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
    paths: tuple[str, ...], question: str, *, answer: tuple[str, ...], top: int, **options: Any
) -> int:
    """Ask a QUESTION about each image in PATHS, and write where the answer was seen."""
    if not question.strip():
        raise CamcliError('an empty question: expected words, such as "what is the man doing?"')
    if os.path.exists(question):
        raise CamcliError(f"no question behind '{question}': it comes last, in quotation marks")

    def wish(talker: Talker) -> Prompt:
        from camcli.engine.language.prompts import asked

        return asked(talker, question, answer, top)

    return talk("ask", wish, _line, paths, **options)


def _line(row: dict[str, Any], output: AnyPath) -> str:
    answers = "  ".join(f"{text} {probability:.1%}" for text, probability in row["answers"])
    return f"{line_of(row, row['class_name'], output)}\n    {answers}"
