"""The command line: parse options, call the library, print results, return an exit code.

Each command is a module, which is imported when the command is used. Read `printing`, `types`,
`help`, `group`, `complete`, `options`, `network_options`, `method_option`, `selection_options`,
`input_options`, `page_options`, `extras` and `show`, `progress` and `terminal`, then `explain`;
`language` is shared by `ask` and `caption`.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from typing import Any

import click

from camcli import __version__
from camcli.cli.group import COMMANDS as COMMANDS
from camcli.cli.group import CommandGroup
from camcli.cli.help import WIDEST
from camcli.cli.printing import echo
from camcli.errors import CamcliError, CamcliWarning, ClusterError, WriteError
from camcli.signals import Stopped, stoppable
from camcli.speed import keep_freed_memory

DONE, SOME_FAILED, WRONG_USAGE, DIFFERS = 0, 1, 2, 3


_CONTEXT = {
    "auto_envvar_prefix": "CAMCLI",
    "show_default": True,
    "help_option_names": ["-h", "--help"],
    "max_content_width": WIDEST,
}
_EXAMPLES = {
    "camcli photo.jpg": "explain a photo",
    "camcli photos/ -m resnet50 -o heat": "a folder, by another network",
    "camcli report heat": "look at the results",
}


@click.group(cls=CommandGroup, context_settings=_CONTEXT, examples=_EXAMPLES)
@click.version_option(__version__, prog_name="camcli")
def camcli() -> None:
    """Explain image networks with heatmaps: where did the network look?

    camcli COMMAND --help shows the options of a command. Images without a command are explained. If
    an image has the name of a command, name the command, too: camcli explain report.
    """
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
    if os.environ.get("_CAMCLI_COMPLETE"):  # of the script that `camcli completion` prints
        from camcli.cli.complete import prepare

        prepare()
        camcli.main(prog_name="camcli")  # prints completions and exits
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
