"""`camcli layers`: where in a network one can look."""

from __future__ import annotations

from dataclasses import asdict

import click

from camcli.cli import DONE
from camcli.runs.files import to_json


@click.command(no_args_is_help=True)
@click.argument("model")
@click.option("--json", is_flag=True, help="Print a line of JSON for each.")
def layers(model: str, json: bool) -> int:
    """List the layers of MODEL that --layer takes, with the shape of their map.

    MODEL is a name, a folder or a factory, as for camcli explain; no weights are needed. The map's
    shape is channels x height x width, for an input of the model's own size. A layer on which the
    score does not depend is refused when it is named.
    """
    from camcli.engine import catalogue

    for layer in catalogue.layers(model):
        if json:
            click.echo(to_json(asdict(layer)), nl=False)
        else:
            shape, mark = "x".join(map(str, layer.map)), "  auto" if layer.auto else ""
            click.echo(f"{layer.path:48} {layer.type:24} {shape}{mark}")
    return DONE
