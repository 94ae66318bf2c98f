"""`camcli caption`: caption images, and explain the caption and its words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from camcli.cli.help import command
from camcli.cli.language import explain_texts, language_options
from camcli.cli.options import flag, grouped

if TYPE_CHECKING:
    from camcli.engine.language.load import LanguageModel
    from camcli.engine.language.prompts import Query


@command(
    {
        "camcli caption photo.jpg": "a caption, and a map for it",
        "camcli caption photo.jpg --per-word": "and a map for each of its words",
    }
)
@click.argument("paths", nargs=-1)
@grouped(
    "What to explain",
    click.option(
        "--text", metavar="CAPTION", help="Explain this caption instead of the network's own."
    ),
    flag("--per-word", "Also explain each word, as a strip of pictures."),
)
@language_options
def caption(paths: tuple[str, ...], *, text: str | None, per_word: bool, **options: Any) -> int:
    """Caption each image in PATHS, and write where the caption was seen."""

    def query(language: LanguageModel) -> Query:
        from camcli.engine.language import prompts

        return prompts.caption(language, text, words=per_word)

    return explain_texts("caption", query, paths, **options)
