"""Options on how images are found, read and batched."""

from __future__ import annotations

import click

from camcli.cli.options import field_option, grouped, rare, record
from camcli.cli.types import POSITIVE, Bytes, Name, WindowLevel
from camcli.images.decode import MAX_PIXELS
from camcli.images.preprocess import FITS
from camcli.runs.options import InputOptions

fit_option = grouped(
    "Input",
    field_option(
        InputOptions,
        "fit",
        Name("fit", FITS),
        "How an image becomes the network's input: resized and cropped as the weights' own "
        "preprocessing does, the whole image squashed, or the whole image in its own shape.",
    ),
)

_reading = rare(
    field_option(
        InputOptions,
        "max_pixels",
        click.IntRange(1, MAX_PIXELS),
        "Refuse larger images before they are decoded.",
        metavar="N",
    ),
    click.option(
        "--frame",
        type=POSITIVE,
        metavar="N",
        help="The frame of an animation, or the page of a file, from 1.  [default: the first]",
    ),
    click.option(
        "--window-level",
        type=WindowLevel(),
        metavar="C,W",
        help="Centre and width of the grey values that are shown from black to white, of images of "
        "more than 8 bits.  [default: from the file]",
    ),
)
reading_options = grouped("Input", _reading)
"""How image files are read, the fields of Reading."""

recursive_option = grouped(
    "Input",
    click.option("--recursive/--no-recursive", default=True, help="Search subfolders too."),
)

input_options = record(
    InputOptions,
    "inputs",
    fit_option,
    reading_options,
    grouped(
        "Speed",
        field_option(InputOptions, "batch_size", POSITIVE, "Images per batch.", metavar="N"),
        rare(
            click.option(
                "--workers",
                type=POSITIVE,
                metavar="N",
                help="Threads that read, and threads that write.  [default: one per core]",
            ),
            click.option(
                "--memory",
                type=Bytes(),
                metavar="SIZE",
                help="Limit for decoded images, as 2GB.  [default: a quarter of the available "
                "memory]",
            ),
        ),
    ),
)
"""How images are read and batched, as `inputs`."""
