"""Write a manual page for camcli and for each command: `python docs/man.py FOLDER`.

click-man writes the pages of a group whose commands are imported, so they are put in such a group.
"""

from __future__ import annotations

import re
import sys
from inspect import cleandoc
from pathlib import Path

import click
from click_man.core import write_man_pages

import camcli
from camcli import cli
from camcli.cli.help import WithExamples
from camcli.cli.types import Name


def escaped(text: str) -> str:
    """Return text that troff shows as it is, without escapes and requests."""
    return re.sub(r"^([.'])", r"\\&\1", cleandoc(text).replace("\\", r"\e"), flags=re.M)


def description(command: WithExamples) -> str:
    """Return the help of a command with its examples, for troff."""
    rows = (f"{escaped(line)}\n    # {escaped(does)}" for line, does in command.examples.items())
    return "\n".join([escaped(command.help or ""), ".SH EXAMPLES", ".nf", *rows, ".fi"])


def prepare(option: click.Option, command: click.Command) -> None:
    """Make the texts of an option plain for troff, in place."""
    metavar = option.make_metavar(click.Context(command))
    option.metavar = metavar.replace("|", " | ")  # where a line may end
    option.help = escaped(option.help or "")
    if isinstance(option.type, Name) and "|" not in metavar:
        option.help += f"  [{', '.join(option.type.choices)}]"


def main(folder: Path) -> None:
    """Write the pages into a folder."""
    context = click.Context(cli.camcli)
    shown = click.Context(click.Command(None), show_default=True)
    commands = {name: cli.camcli.get_command(context, name) for name in cli.COMMANDS}
    group = click.Group("camcli", commands, help=description(cli.camcli), params=cli.camcli.params)
    group.short_help = "explain image networks with heatmaps"
    for name, command in commands.items():
        command.short_help, command.help = cli.COMMANDS[name], description(command)
        for option in command.params:
            if isinstance(option, click.Option):
                prepare(option, command)
    folder.mkdir(parents=True, exist_ok=True)
    write_man_pages("camcli", group, shown, version=camcli.__version__, target_dir=str(folder))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
