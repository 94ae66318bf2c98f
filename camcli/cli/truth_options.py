"""Options on the true classes of images, and on a choice by them."""

from __future__ import annotations

import click

from camcli.cli.options import record, texts_option
from camcli.cli.types import FILE_PATH
from camcli.runs.options import TruthOptions

truth_options = record(
    TruthOptions,
    "truth",
    click.option(
        "--truth",
        metavar="SOURCE",
        help="The true classes of the images: folder (the names of their folders), or csv:FILE "
        "with the columns image,class or image,class_index.",
    ),
    click.option(
        "--class-map",
        type=FILE_PATH,
        metavar="FILE",
        help="The model's classes for each name in --truth.  [default: by name]",
    ),
    texts_option(
        "--only",
        "WHICH",
        "Explain only these images; repeatable, all must hold: wrong or right (with --truth), "
        "unsure, confidence<P, confidence>=P, predicted=NAME, true=NAME, or != for another name.",
    ),
)
"""Where true classes are from, and which images are explained, as `truth`."""
