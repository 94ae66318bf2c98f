"""`camcli ask`: answer a question about images, and explain the answers."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from camcli.cli.help import command
from camcli.cli.language import explain_texts, language_options
from camcli.cli.options import grouped, texts_option
from camcli.errors import CamcliError

if TYPE_CHECKING:
    from camcli.engine.language.load import LanguageModel
    from camcli.engine.language.prompts import Query


@command(
    {
        'camcli ask photo.jpg "what is it?"': "the answers, and a map",
        'camcli ask photo.jpg "is it red?" --answer no': "a map for this answer",
    }
)
@click.argument("paths", nargs=-1)
@click.argument("question")
@grouped(
    "What to explain",
    texts_option("--answer", "TEXT", "Explain this answer instead of the best one; repeatable."),
)
@grouped(
    "Output",
    click.option(
        "--top",
        type=click.IntRange(1, 50),
        default=5,
        metavar="K",
        help="Print the network's K best answers.",
    ),
)
@language_options
def ask(
    paths: tuple[str, ...], question: str, *, answer: tuple[str, ...], top: int, **options: Any
) -> int:
    """Answer a QUESTION about each image in PATHS, and write where the answer was seen."""
    if not question.strip():
        raise CamcliError('an empty question: expected words, such as "what is the man doing?"')
    if os.path.exists(question):
        raise CamcliError(f"no question after '{question}': give it last, in quotation marks")

    def query(language: LanguageModel) -> Query:
        from camcli.engine.language import prompts

        return prompts.question(language, question, answer, top)

    return explain_texts("ask", query, paths, **options)
