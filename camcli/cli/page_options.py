"""Options of the commands that write a page about output folders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from camcli.cli.options import grouped
from camcli.cli.types import Location

images_option = grouped(
    "Input",
    click.option(
        "--images",
        multiple=True,
        type=Location(exists=True, file_okay=False),
        metavar="DIR",
        help="A folder with the original images; repeatable.  [default: the same images in the "
        "folder that holds the output folder, or in a folder beside it]",
    ),
)


def size_option(default: int, text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return --size, the limit of what a page holds, in MB."""
    size = click.option(
        "--size", type=click.IntRange(1, 1024), default=default, metavar="MB", help=text
    )
    return grouped("Output", size)


def page_option(page: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return --output, the page to write, which is named `page` by default."""
    text = f"The page to write.  [default: DIR/{page}]"
    return click.option("--output", "-o", type=Location(dir_okay=False), metavar="FILE", help=text)
