"""`camcli caption`: a sentence about each image, and where the network saw it and its words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from camcli.cli.language import talk, talking_options
from camcli.cli.progress import line_of
from camcli.images.store import AnyPath

if TYPE_CHECKING:
    from camcli.engine.language.load import Talker
    from camcli.engine.language.prompts import Prompt


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
def caption(paths: tuple[str, ...], *, text: str | None, per_word: bool, **options: Any) -> int:
    """Caption each image in PATHS, and write where what the caption says was seen."""

    def wish(talker: Talker) -> Prompt:
        from camcli.engine.language.prompts import captioned

        return captioned(talker, text, words=per_word)

    return talk("caption", wish, _line, paths, **options)


def _line(row: dict[str, Any], output: AnyPath) -> str:
    line = line_of(row, row["class_name"], output)
    if words := row.get("words"):
        line += "\n    " + "  ".join(f"{word} {probability:.1%}" for word, probability in words)
    return line
