"""`camcli merge`: merge the records of a run's shards."""

from __future__ import annotations

import click

from camcli.cli import DONE
from camcli.cli.help import command
from camcli.cli.printing import echo, show_name
from camcli.cli.types import Location
from camcli.errors import CamcliError
from camcli.images.store import AnyPath


@command({"camcli merge heat": "after camcli explain --shard 1/2 -o heat, and 2/2"})
@click.argument("dirs", nargs=-1, type=Location(), metavar="DIR...")
@click.option(
    "--output",
    "-o",
    type=Location(),
    metavar="DIR",
    help="The output folder; files of other folders are linked or copied there."
    "  [default: DIR, if there is only one]",
)
def merge(dirs: tuple[AnyPath, ...], *, output: AnyPath | None) -> int:
    """Merge the folders that camcli explain --shard wrote into one, with one manifest."""
    from camcli.runs.merge import merge as merge_shards

    if output is None and len(dirs) != 1:
        raise CamcliError(f"{len(dirs)} folders: expected --output DIR")
    to = output or dirs[0]
    shards, counts = merge_shards(dirs, to)
    failed = f" ({counts['error']} results failed)" if counts["error"] else ""
    place = show_name(to, err=True)
    echo(f"{shards} shards, {counts['images']} images -> {place}{failed}", err=True)
    return DONE
