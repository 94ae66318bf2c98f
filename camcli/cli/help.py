"""The help of commands: examples first, then the options in groups. --help-all adds the rare ones.

The options know their groups: see `grouped` and `rare` in `options`.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import click

from camcli.cli.types import Name

WIDEST = 110
"""The largest width of help, in columns. A narrower terminal gets lines of its width."""
_HELP = "Help"
GROUPS = (
    "Input",
    "Network",
    "What to explain",
    "Measurement",
    "Training",
    "Output",
    "Speed",
    _HELP,
)
"""The headings of options, in the order in which they are shown."""
_LISTS = "NAME,... are several values, by commas or by repeating the option."
_ALL = "camcli.help_all"
_HYPHEN = "\N{NON-BREAKING HYPHEN}"
"""The hyphen of names such as guided-backprop while lines are broken."""
_FEW = 8
"""The number of options up to which they are shown below one heading."""
_LEFT = 26
"""The largest width of the names of options beside their text."""


class WithExamples(click.Command):
    """A command whose help begins with examples: command lines, and what each does."""

    def __init__(self, *arguments: Any, examples: Mapping[str, str], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.examples = examples

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Examples"):
            rows = [(line, f"# {meaning}") for line, meaning in self.examples.items()]
            formatter.write_dl(rows, col_max=formatter.width - 30)
        formatter.write_paragraph()
        super().format_help(ctx, formatter)


class Command(WithExamples):
    """A command whose options are shown in groups, the rare ones by --help-all only."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        params = super().get_params(ctx)
        return [*params, _help_all()] if any(map(_is_rare, params)) else params

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        options = [one for one in self.get_params(ctx) if isinstance(one, click.Option)]
        shown = [one for one in options if ctx.meta.get(_ALL) or not _is_rare(one)]
        write_sections(formatter, _sections(ctx, shown))
        formatter.write_paragraph()
        if any(one.multiple and ",..." in one.make_metavar(ctx) for one in shown):
            formatter.write_text(_LISTS)
        if left_out := len(options) - len(shown):
            formatter.write_text(f"--help-all shows {left_out} more options.")


def command(
    examples: Mapping[str, str], *, no_args_is_help: bool = True
) -> Callable[[Callable[..., Any]], click.Command]:
    """Return click's decorator of a command with examples."""
    return click.command(cls=Command, no_args_is_help=no_args_is_help, examples=examples)


def write_sections(
    formatter: click.HelpFormatter, sections: Mapping[str, list[tuple[str, str]]]
) -> None:
    """Write rows below headings, all with their texts in the same column."""
    lefts = [left for rows in sections.values() for left, _ in rows]
    width = max(len(left) for left in lefts if len(left) <= _LEFT)
    for heading, rows in sections.items():
        padded = [(left.ljust(width), text.replace("-", _HYPHEN)) for left, text in rows]
        with formatter.section(heading):
            formatter.write_dl(padded, col_max=width)
    formatter.buffer[:] = [part.replace(_HYPHEN, "-") for part in formatter.buffer]


def _sections(
    ctx: click.Context, options: Iterable[click.Option]
) -> dict[str, list[tuple[str, str]]]:
    """Return the rows of options by their groups, or below one heading if they are few."""
    found: dict[str, list[tuple[str, str]]] = {group: [] for group in GROUPS}
    for option in options:
        found[getattr(option, "group", _HELP)] += _row(ctx, option)
    if sum(map(len, found.values())) <= _FEW:
        return {"Options": [*itertools.chain.from_iterable(found.values())]}
    return {group: rows for group, rows in found.items() if rows}


def _row(ctx: click.Context, option: click.Option) -> Iterator[tuple[str, str]]:
    """Yield the names of an option and its text, with the choices that its metavar leaves out."""
    if (row := option.get_help_record(ctx)) is None:
        return
    left, text = row
    left = re.sub("INTEGER( RANGE)?", "N", re.sub("FLOAT( RANGE)?", "X", left))
    if isinstance(option.type, Name) and "|" not in left:
        text = f"{text}  [{', '.join(option.type.choices)}]"
    yield left, text


def _is_rare(option: click.Parameter) -> bool:
    return getattr(option, "rare", False)


def _help_all() -> click.Option:
    return click.Option(
        ["--help-all"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        allow_from_autoenv=False,
        callback=_show_all,
        help="Show all options and exit.",
    )


def _show_all(ctx: click.Context, option: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        ctx.meta[_ALL] = True
        click.echo(ctx.get_help())
        ctx.exit()
