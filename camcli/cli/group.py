"""The group of all commands: their table, their help, and what the first argument stands for."""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping
from importlib import import_module

import click
from click.shell_completion import CompletionItem

from camcli.cli.help import WithExamples, write_sections
from camcli.errors import spelled, unknown
from camcli.images.store import is_remote

COMMAND_GROUPS: Mapping[str, Mapping[str, str]] = {
    "Explain": {
        "explain": "draw which parts of an image a class depends on, as heatmaps",
        "ask": "answer a question about images, and explain the answers",
        "caption": "caption images, and explain the caption or its words",
    },
    "Look and compare": {
        "report": "show an output folder as one HTML page",
        "figure": "draw methods, networks and classes side by side, for a paper",
        "compare": "compare two networks on the same images",
        "check": "compare an output folder with a baseline, for tests",
    },
    "Measure": {
        "evaluate": "measure how good the maps of methods are",
        "audit": "find confusions, and shortcuts that a network takes",
    },
    "Networks": {
        "models": "list the networks, with their layers and methods",
        "layers": "list the layers of a network",
        "train": "train a small classifier, alone or with a teacher",
    },
    "Large runs": {
        "merge": "join the shards of a run",
    },
    "Shell": {
        "completion": "print the script with which a shell completes camcli",
    },
}
"""The commands by what people do, each with one line. A command is one row, and a module of this
package that defines a command of the same name."""

COMMANDS = {name: line for rows in COMMAND_GROUPS.values() for name, line in rows.items()}
"""The commands, each with its line."""

DEFAULT = "explain"
"""The command that a path without a command stands for."""
_SHORTEST = 3
"""The letters that the beginning of a command must have to stand for it."""


class CommandGroup(WithExamples, click.Group):
    """A group that imports a command when it is used, and understands a path as `explain`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = getattr(import_module(f"camcli.cli.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own = [name for option in self.get_params(ctx) for name in option.opts]
        if args and args[0] not in own:
            args = _with_command(ctx, args)
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
        """Complete commands, without importing them, and paths, which stand for `explain`."""
        rows = [CompletionItem(name, help=line) for name, line in COMMANDS.items()]
        found = [row for row in rows if row.value.startswith(incomplete)]
        files = [CompletionItem(incomplete, type="file")] if incomplete else []
        return found + files + click.Command.shell_complete(self, ctx, incomplete)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections = {heading: [*rows.items()] for heading, rows in COMMAND_GROUPS.items()}
        records = [option.get_help_record(ctx) for option in self.get_params(ctx)]
        write_sections(formatter, sections | {"Options": [*filter(None, records)]})


def _with_command(ctx: click.Context, args: list[str]) -> list[str]:
    """Return arguments that begin with the name of a command. Raises UsageError."""
    first = args[0]
    if first in COMMANDS:
        return args
    name = _command_named(first)
    if _is_input(first):
        if name:
            raise click.UsageError(
                f"'{first}' is a file here, and another spelling of {name}: expected "
                f"camcli {DEFAULT} {first}, or camcli {name}"
            )
        return [DEFAULT, *args]
    if name or ctx.resilient_parsing:
        return [name or first, *args[1:]]
    if os.path.basename(first) != first or os.path.splitext(first)[1]:
        raise click.UsageError(f"'{first}': no such file, and no command")
    raise click.UsageError(unknown("command or file", first, COMMANDS))


def _command_named(given: str) -> str | None:
    """Return the only command that has this name in another spelling, or begins with it."""
    name = spelled(given, COMMANDS)
    if name in COMMANDS:
        return name
    found = [one for one in COMMANDS if one.startswith(given.casefold())]
    return found[0] if len(found) == 1 and len(given) >= _SHORTEST else None


def _is_input(given: str) -> bool:
    """Return whether an argument is an option, or a path as `explain` takes it."""
    path = os.path.lexists(given) or glob.has_magic(given) or is_remote(given)
    return given.startswith("-") or path
