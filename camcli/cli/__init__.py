"""The command line: parse, call, echo, exit code. Commands load when they are used."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import click

from camcli import __version__
from camcli.errors import CamcliError, CamcliWarning, ClusterError, WriteError
from camcli.speed import keep_freed_memory, skip_last_collection

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
    "report",
    "train",
)
"""Each is a module of this package with a command of its own name."""

DONE, SOME_FAILED, WRONG_USAGE, DIFFERS, INTERRUPTED, TERMINATED = 0, 1, 2, 3, 130, 143


_SETTINGS = {"auto_envvar_prefix": "CAMCLI", "show_default": True}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = getattr(import_module(f"camcli.cli.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command)
        return command


@click.group(cls=LazyGroup, context_settings=_SETTINGS)
@click.version_option(__version__, prog_name="camcli")
def camcli() -> None:
    """Where did the network look? Heatmaps for image networks."""
    keep_freed_memory()


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit; anything a user can cause is one line on stderr."""
    warnings.simplefilter("once", CamcliWarning)
    # Pillow's remarks on metadata say nothing to a user. Here, for all the threads that read:
    # what one of them put aside for a while, others would lose their own warnings by.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    warnings.showwarning = _show_warning  # type: ignore[assignment] # the rest is passed on
    skip_last_collection()
    with _terminable():
        code = _exit_code(arguments)
    sys.exit(code)


class Terminated(BaseException):
    """SIGTERM came: like an interruption, so that what is done is recorded."""


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM raises Terminated; what it did before is put back, for who runs us in a process."""
    if threading.current_thread() is not threading.main_thread():
        yield  # where signals cannot be caught
        return
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _terminate(*_: object) -> None:
    raise Terminated


def _exit_code(arguments: list[str] | None) -> int:
    try:
        return int(camcli.main(arguments, prog_name="camcli", standalone_mode=False) or DONE)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return WRONG_USAGE
    except click.ClickException as error:
        click.echo(f"Error: {error.format_message()}", err=True)
        return WRONG_USAGE
    except (WriteError, ClusterError) as error:
        click.echo(f"Error: {error}", err=True)
        return SOME_FAILED
    except CamcliError as error:
        click.echo(f"Error: {error}", err=True)
        return WRONG_USAGE
    except OSError as error:  # of what is written to: a full disk, an output folder that went away
        click.echo(f"Error: {error}", err=True)
        return SOME_FAILED
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        return INTERRUPTED
    except Terminated:
        click.echo("Terminated.", err=True)
        return TERMINATED


def _show_warning(message: Warning | str, category: type[Warning], *place: Any) -> None:
    if issubclass(category, CamcliWarning):
        click.echo(f"Warning: {message}", err=True)
    else:
        _python_showwarning(message, category, *place)


_python_showwarning = warnings.showwarning
