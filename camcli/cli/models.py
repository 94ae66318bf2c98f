"""`camcli models`: list the networks and the methods that apply to each."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from camcli.cli import DONE
from camcli.cli.complete import complete_model
from camcli.cli.help import command
from camcli.cli.options import flag
from camcli.runs.files import to_json

if TYPE_CHECKING:
    from camcli.engine.catalogue import NetworkEntry

_COLUMNS = "{:38} {:18} {:>5} {:>7} {:>7} {:>7}  {:44} {}"
_TITLES = ("model", "family", "input", "map", "params", "weights", "layer", "all methods but")


@command(
    {
        "camcli models": "all networks of torchvision, and mini",
        "camcli models resnet": "those with resnet in their name",
        "camcli models 'timm:vit_*'": "some of timm",
    },
    no_args_is_help=False,
)
@click.argument("filter", default="", metavar="[FILTER]", shell_complete=complete_model)
@flag("--json", "Print one line of JSON for each network.")
@flag("--markdown", "Print a table with one network of each family.")
def models(filter: str, json: bool, markdown: bool) -> int:  # noqa: A002 - its name in --help
    """List the networks whose name contains FILTER, or matches it as a glob.

    Networks of timm are listed if FILTER begins with timm:. Nothing is downloaded. The columns are
    the name, the family, the side of the input in pixels, the size of the map, millions of
    parameters, whether weights are on this machine, the target layer, and the methods that do not
    apply.
    """
    from camcli.engine.catalogue import (
        describe_network,
        families_table,
        first_of_families,
        list_names,
    )

    names = list_names(filter)
    if markdown:
        chosen = [name for name in first_of_families() if name in set(names)]
        click.echo(families_table(map(describe_network, chosen)))  # of names in packages alone
        return DONE
    if not json:
        click.echo(_COLUMNS.format(*_TITLES))
    for entry in map(describe_network, names):
        click.echo(to_json(asdict(entry)) if json else _entry_line(entry), nl=not json)
    return DONE


def _entry_line(entry: NetworkEntry) -> str:
    from camcli.methods.registry import METHODS

    return _COLUMNS.format(
        entry.name,
        entry.family,
        entry.input,
        "x".join(map(str, entry.map or ("?",))),
        f"{entry.parameters / 1e6:.1f}M",
        "here" if entry.cached else "-",
        entry.layer or "by a trace",
        " ".join(name for name in METHODS if name not in entry.methods),
    ).rstrip()
