"""Options on the true classes of images, and on a choice by them."""

from __future__ import annotations

import click

from camcli.cli.options import grouped, rare, record
from camcli.cli.types import FILE_PATH, WholeTexts
from camcli.runs.options import TruthOptions

truth_options = record(
    TruthOptions,
    "truth",
    grouped(
        "Input",
        click.option(
            "--truth",
            metavar="SOURCE",
            help="The true classes of the images: folder (the names of their folders), or csv:FILE "
            "with the columns image,class or image,class_index.",
        ),
        rare(
            click.option(
                "--class-map",
                type=FILE_PATH,
                metavar="FILE",
                help="The model's classes for each name in --truth.  [default: by name]",
            )
        ),
    ),
    grouped(
        "What to explain",
        click.option(
            "--only",
            multiple=True,
            type=WholeTexts(),
            metavar="WHICH,...",
            help="Only images for which all of these hold: wrong or right (with --truth), unsure, "
            "confidence<P, confidence>=P, predicted=NAME, true=NAME, or != for another name.",
        ),
    ),
)
"""Where true classes are from, and which images are explained, as `truth`."""
