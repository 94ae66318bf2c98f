"""`camcli completion`: print the script with which a shell completes the command."""

from __future__ import annotations

import click

from camcli.cli import DONE
from camcli.cli.complete import SHELLS, VARIABLE
from camcli.cli.help import command


@command(
    {
        "camcli completion bash": 'in ~/.bashrc: eval "$(camcli completion bash)"',
        "camcli completion zsh": "in ~/.zshrc likewise, below compinit",
        "camcli completion fish": "for ~/.config/fish/completions/camcli.fish",
    }
)
@click.argument("shell", type=click.Choice([*SHELLS]))
@click.pass_context
def completion(context: click.Context, shell: str) -> int:
    """Print the script with which SHELL completes camcli. Bash must be 4.4 or newer.

    Completed are commands, options, networks, methods, metrics, colour maps and all other choices,
    the layers of the network that --model names, and files everywhere else.
    """
    script = SHELLS[shell](context.find_root().command, {}, "camcli", VARIABLE).source()
    click.echo(script, nl=False)
    return DONE
