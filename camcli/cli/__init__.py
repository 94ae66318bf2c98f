"""The command line: parse options, call the library, print results, return an exit code.

Each command is a module, which is imported when the command is used. Read `printing`, `types`,
`options`, `network_options`, `method_option`, `selection_options`, `input_options`, `page_options`,
`extras` and `show`, `progress` and `terminal`, then `explain`; `language` is shared by `ask` and
`caption`.
"""

from __future__ import annotations

import logging
import sys
import warnings
from importlib import import_module
from typing import Any

import click

from camcli import __version__
from camcli.cli.printing import echo
from camcli.errors import CamcliError, CamcliWarning, ClusterError, WriteError
from camcli.signals import Stopped, stoppable
from camcli.speed import keep_freed_memory

COMMANDS = (
    "explain",
    "ask",
    "caption",
    "figure",
    "merge",
    "evaluate",
    "models",
    "layers",
    "check",
    "compare",
    "audit",
    "report",
    "train",
)
"""The commands. Each is a module of this package that defines a command of the same name."""

DONE, SOME_FAILED, WRONG_USAGE, DIFFERS = 0, 1, 2, 3


_CONTEXT = {"auto_envvar_prefix": "CAMCLI", "show_default": True}


class LazyGroup(click.Group):
    """A group that imports a command when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = getattr(import_module(f"camcli.cli.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command)
        return command


@click.group(cls=LazyGroup, context_settings=_CONTEXT)
@click.version_option(__version__, prog_name="camcli")
def camcli() -> None:
    """Explain image networks with heatmaps: where did the network look?"""
    from camcli.images.formats import silence_libtiff  # not at the top: --help stays quick

    keep_freed_memory()
    silence_libtiff()


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit. Every error that a user can cause is one line on stderr."""
    warnings.simplefilter("once", CamcliWarning)
    # Pillow's warnings and log about metadata do not help a user. The filter is set once for all
    # threads, since changing it for a while in one thread would drop the warnings of the others.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").addHandler(logging.NullHandler())
    warnings.showwarning = _show_warning  # type: ignore[assignment] # other arguments are passed on
    try:
        with stoppable():
            code = _exit_code(arguments)
    except Stopped as stopped:  # in the process of another program; the command's has ended
        click.echo(stopped.line, err=True)
        code = stopped.code
    sys.exit(code)


def _exit_code(arguments: list[str] | None) -> int:
    try:
        return int(camcli.main(arguments, prog_name="camcli", standalone_mode=False) or DONE)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return WRONG_USAGE
    except click.ClickException as error:
        echo(f"Error: {error.format_message()}", err=True)
        return WRONG_USAGE
    except (WriteError, ClusterError) as error:
        echo(f"Error: {error}", err=True)
        return SOME_FAILED
    except CamcliError as error:
        echo(f"Error: {error}", err=True)
        return WRONG_USAGE
    except OSError as error:  # of the output: a full disk, or a folder that was removed
        echo(f"Error: {error}", err=True)
        return SOME_FAILED


def _show_warning(message: Warning | str, category: type[Warning], *place: Any) -> None:
    if issubclass(category, CamcliWarning):
        echo(f"Warning: {message}", err=True)
    else:
        _python_showwarning(message, category, *place)


_python_showwarning = warnings.showwarning
