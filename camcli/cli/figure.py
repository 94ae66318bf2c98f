"""`camcli figure`: one image by several methods and models, for a paper."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from camcli.cli import DONE
from camcli.cli.options import (
    Name,
    fit_option,
    max_pixels_option,
    models_options,
    style_options,
    target_option,
    window_options,
)
from camcli.errors import CamcliError
from camcli.images.decode import STDIN, decode
from camcli.methods.registry import METHODS
from camcli.report.figure.sheet import BESIDE, DEFAULT, SCALES
from camcli.runs.files import prepare, write

if TYPE_CHECKING:
    from camcli.images.geometry import Pixels


@click.command(no_args_is_help=True)
@click.argument("image", type=click.Path(path_type=Path, allow_dash=True))
@models_options
@click.option(
    "--method",
    multiple=True,
    type=Name("method", list(METHODS)),
    help=f"A column; repeatable.  [default: {', '.join(DEFAULT)} of the first model, "
    f"{', '.join(BESIDE)} of the others]",
)
@target_option
@click.option(
    "--scale",
    default="image",
    show_default=True,
    type=Name("scale", SCALES),
    help="What the maps of a method share their colours' values over.",
)
@style_options
@window_options
@fit_option
@max_pixels_option
@click.option(
    "--width",
    type=click.FloatRange(1, 50),
    default=7.0,
    show_default=True,
    metavar="INCHES",
    help="The figure's width; 7 are two columns of most papers.",
)
@click.option(
    "--dpi",
    type=click.IntRange(50, 1200),
    default=300,
    show_default=True,
    help="Pixels an inch, of PDF and SVG those of the photos in it.",
)
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path, dir_okay=False),
    default="figure.png",
    show_default=True,
    metavar="FILE",
    help="The file to write: .png, .jpg, .pdf or .svg.",
)
@click.option("--quiet", is_flag=True, help="Print errors only.")
def figure(
    image: Path,
    *,
    output: Path,
    max_pixels: int,
    quiet: bool,
    **options: Any,
) -> int:
    """Draw IMAGE and its maps side by side: a row for each target, a column for each method.

    What is drawn by default and a model does not take is an empty place with the reason.
    """
    from camcli.report.figure.typesetting import check_ending  # matplotlib, before any work

    ending = check_ending(output)
    if image != STDIN and os.path.realpath(image) == os.path.realpath(output):
        raise CamcliError(f"'{output}' is the image itself and would be written over")
    prepare(output.parent)
    data, gaps = _figure(decode(image, max_pixels), ending, **options)
    write(output, data)
    click.echo(output)
    for gap in gaps:
        if not quiet:
            click.echo(f"Note: {gap}", err=True)
    return DONE


def _figure(
    pixels: Pixels,
    ending: str,
    *,
    model: Sequence[str],
    weights: Sequence[str],
    labels: Sequence[str],
    device: str,
    precision: str,
    method: Sequence[str],
    target: Sequence[str],
    scale: str,
    colormap: str,
    alpha: float,
    window: int | None,
    stride: int | None,
    fit: str,
    width: float,
    dpi: int,
) -> tuple[bytes, list[str]]:
    """The figure's file, and why there are places without a map."""
    from camcli.capture.windows import Window
    from camcli.models.load import load
    from camcli.render.draw import Style
    from camcli.report.figure.maps import make
    from camcli.report.figure.typesetting import typeset

    style, count = Style(colormap, alpha), len(model)
    files, names = _each(weights, count, "--weights"), _each(labels, count, "--labels")
    sheet = make(
        pixels,
        [
            load(*given, labels=known, device=device, precision=precision)
            for *given, known in zip(model, files, names, strict=True)
        ],
        [*dict.fromkeys(method)],
        [*dict.fromkeys(target)],
        fit=fit,
        window=Window(window, stride),
        scale=scale,
    )
    shared = scale == "figure"
    return typeset(sheet, ending, style, width=width, dpi=dpi, shared=shared), sheet.gaps


def _each(given: Sequence[str], models: int, option: str) -> Sequence[Any]:
    """What an option says for each model: the same for all, or one for each."""
    if len(given) in (0, 1):
        return [*given, None][:1] * models
    if len(given) != models:
        raise CamcliError(
            f"{option} is given {len(given)} times for {models} models: give it once, or for each"
        )
    return given
