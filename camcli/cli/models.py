"""`camcli models`: every network of torchvision, and what each takes."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from camcli.cli import DONE
from camcli.runs.files import to_json

if TYPE_CHECKING:
    from camcli.engine.catalogue import Entry

_COLUMNS = "{:38} {:18} {:>5} {:>7} {:>7} {:>7}  {:44} {}"


@click.command()
@click.argument("filter", default="", metavar="[FILTER]")
@click.option("--json", is_flag=True, help="Print a line of JSON for each.")
@click.option("--markdown", is_flag=True, help="Print a table of one network of each family.")
def models(filter: str, json: bool, markdown: bool) -> int:  # noqa: A002 - its name in --help
    """List the networks that have FILTER in their name, or match it as a glob.

    Nothing is downloaded. A row says the family, the input's side in pixels, the size of the map,
    millions of parameters, whether weights are on this machine, the target layer, and which methods
    do not apply.
    """
    from camcli.engine import catalogue

    if markdown:
        wanted = set(catalogue.names(filter))
        some = [name for name in catalogue.first_of_families() if name in wanted]
        click.echo(catalogue.by_family(map(catalogue.entry, some)))
        return DONE
    names = catalogue.names(filter)
    if not json:
        heads = ("model", "family", "input", "map", "params", "weights", "layer", "all methods but")
        click.echo(_COLUMNS.format(*heads))
    for name in names:
        entry = catalogue.entry(name)
        click.echo(to_json(asdict(entry)) if json else _line(entry), nl=not json)
    return DONE


def _line(entry: Entry) -> str:
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
