"""`camcli merge`: the records of a run's shards, joined."""

from __future__ import annotations

import click

from camcli.cli import DONE
from camcli.cli.options import Location
from camcli.errors import CamcliError
from camcli.images.store import AnyPath


@click.command(no_args_is_help=True)
@click.argument("dirs", nargs=-1, type=Location(), metavar="DIR...")
@click.option(
    "--output",
    type=Location(),
    metavar="DIR",
    help="Where to; the files of several folders are linked or copied there."
    "  [default: the folder itself, if it is one]",
)
def merge(dirs: tuple[AnyPath, ...], *, output: AnyPath | None) -> int:
    """Join what camcli explain --shard wrote: into the manifest of a run of all."""
    from camcli.runs.merge import merged

    if output is None and len(dirs) != 1:
        raise CamcliError(f"{len(dirs)} folders: expected --output DIR, to join them in")
    to = output or dirs[0]
    shards, counts = merged(dirs, to)
    failed = f" ({counts['error']} results failed)" if counts["error"] else ""
    click.echo(f"{shards} shards, {counts['images']} images -> {to}{failed}", err=True)
    return DONE
