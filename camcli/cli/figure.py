"""`camcli figure`: draw the maps of images by several methods and models for a paper."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from camcli.cli import DONE
from camcli.cli.extras import require_matplotlib
from camcli.cli.help import command
from camcli.cli.input_options import fit_option, reading_options
from camcli.cli.method_option import method_option
from camcli.cli.network_options import models_options
from camcli.cli.options import (
    flag,
    grouped,
    layer_option,
    quiet_option,
    rare,
    record,
    style_options,
    target_option,
    window_options,
)
from camcli.cli.preprocessing import load_network, preprocess_options
from camcli.cli.printing import echo, show_name
from camcli.cli.types import FILE_PATH, LocalPath, Name
from camcli.errors import CamcliError
from camcli.images.decode import STDIN, Reading, read
from camcli.models.options import ModelOptions, PreprocessOptions
from camcli.models.sources import find_source, true_name
from camcli.report.figure.sheet import FIRST_MODEL_METHODS, OTHER_MODEL_METHODS, SCALE_SCOPES
from camcli.runs.files import prepare, write

if TYPE_CHECKING:
    from camcli.images.geometry import Pixels
    from camcli.models.model import Model
    from camcli.report.figure.layout import PrintOptions
    from camcli.report.figure.sheet import Sheet


@command(
    {
        "camcli figure cat.jpg dog.jpg -o figure.pdf": "two images",
        "camcli figure cat.jpg -m resnet50,vgg16": "two networks",
        "camcli figure cat.jpg --target tabby,lynx": "two classes",
    }
)
@click.argument(
    "images",
    metavar="IMAGE...",
    nargs=-1,
    required=True,
    type=LocalPath(allow_dash=True),
)
@fit_option
@record(Reading, "reading", reading_options)
@preprocess_options
@models_options
@method_option(
    None,
    f"A column.  [default: {', '.join(FIRST_MODEL_METHODS)} of the first model, "
    f"{', '.join(OTHER_MODEL_METHODS)} of the others]",
)
@target_option
@layer_option
@window_options
@grouped(
    "Output",
    click.option(
        "--output",
        "-o",
        type=FILE_PATH,
        default="figure.png",
        metavar="FILE",
        help="The file to write: .png, .jpg, .pdf or .svg.",
    ),
    style_options,
    click.option(
        "--scale",
        default="image",
        type=Name("scale", SCALE_SCOPES),
        help="The maps of a method that share a colour scale: none (image), those of a row, or "
        "all.",
    ),
    flag("--trim", "Draw only the part of each image that the network saw."),
    flag("--letters", "Mark the pictures (a), (b), and so on."),
    click.option(
        "--width",
        type=click.FloatRange(1, 50),
        default=7.0,
        metavar="INCHES",
        help="The figure's width; 7 inches are two columns of most papers, 3.35 are one.",
    ),
    rare(
        click.option(
            "--font",
            default="DejaVu Sans",
            metavar="NAME",
            help="The font of all text, one that is installed, such as STIXGeneral (Times).",
        ),
        click.option(
            "--font-size",
            type=click.FloatRange(4, 24),
            default=7.0,
            metavar="PT",
            help="The size of the rows' labels in points; numbers and captions are a point "
            "smaller.",
        ),
        click.option(
            "--dpi",
            type=click.IntRange(50, 1200),
            default=300,
            metavar="N",
            help="Pixels per inch; in PDF and SVG files, those of the photos.",
        ),
    ),
    quiet_option,
)
def figure(
    images: Sequence[Path], *, output: Path, reading: Reading, quiet: bool, **options: Any
) -> int:
    """Draw images and their maps side by side.

    There is a row for each image and target, and a column for each model, method and layer. Columns
    that do not fit side by side continue below. A default method that does not apply to a model
    gives an empty cell with the reason.
    """
    require_matplotlib("camcli figure")
    from camcli.report.figure.typesetting import check_ending, typeset

    ending, printing = check_ending(output), _print_options(**options)
    _check_images(images, output)
    prepare(output.parent)
    photos = {str(image): read(image, reading).pixels for image in images}
    sheet = _make_sheet(photos, _load_models(quiet=quiet, **options), **options)
    write(output, typeset(sheet, ending, printing))
    echo(show_name(output))
    for reason in () if quiet else sheet.empty_reasons:
        echo(f"Note: {reason}", err=True)
    return DONE


def _check_images(images: Sequence[Path], output: Path) -> None:
    """Raise CamcliError if standard input is given twice, or an image would be overwritten."""
    if images.count(STDIN) > 1:
        raise CamcliError("standard input is given as several images: expected '-' once")
    for image in images:
        if image != STDIN and os.path.realpath(image) == os.path.realpath(output):
            raise CamcliError(f"'{image}' is an input and would be overwritten by --output")


def _load_models(
    *,
    model: Sequence[str],
    weights: Sequence[str],
    labels: Sequence[str],
    model_arg: Mapping[str, Any],
    device: str,
    precision: str,
    activation: str,
    text: tuple[str, ...],
    template: str | None,
    preprocessing: PreprocessOptions,
    quiet: bool,
    **_: Any,
) -> list[Model]:
    files, names = _per_model(weights, model, "--weights"), _per_model(labels, model, "--labels")
    model = [true_name(name) for name in model]
    takers = [name for name in model if find_source(name).takes_texts] or model
    options = (
        ModelOptions(
            *given,
            device=device,
            precision=precision,
            activation=activation,
            arguments=model_arg,
            texts=text if given[0] in takers else (),
            template=template if given[0] in takers else None,
        )
        for given in zip(model, files, names, strict=True)
    )
    return [load_network(one, preprocessing, quiet=quiet) for one in options]


def _make_sheet(
    photos: Mapping[str, Pixels],
    models: Sequence[Model],
    *,
    method: Sequence[str],
    target: Sequence[str],
    layer: Sequence[str],
    window: int | None,
    stride: int | None,
    fit: str,
    scale: str,
    trim: bool,
    **_: Any,
) -> Sheet:
    from camcli.capture.target_parser import split_targets
    from camcli.capture.windows import Window
    from camcli.report.figure.maps import SheetOptions, make_sheet

    names = [*dict.fromkeys(name for model in models for name in model.class_names or ())]
    return make_sheet(
        photos,
        models,
        SheetOptions(
            methods=tuple(dict.fromkeys(method)),
            targets=split_targets(target, names),
            layers=tuple(None if path == "auto" else path for path in dict.fromkeys(layer)),
            fit=fit,
            window=Window(window, stride),
            scale=scale,
            trim=trim,
        ),
    )


def _print_options(
    *,
    width: float,
    dpi: int,
    scale: str,
    colormap: str,
    alpha: float | None,
    blend: str,
    letters: bool,
    font: str,
    font_size: float,
    **_: Any,
) -> PrintOptions:
    from camcli.render.figure_files import check_font
    from camcli.render.style import Style
    from camcli.report.figure.layout import PrintOptions

    style, shared = Style(colormap, alpha, blend), scale == "figure"
    return PrintOptions(width, dpi, style, shared, letters, check_font(font), font_size)


def _per_model(values: Sequence[str], models: Sequence[str], option: str) -> Sequence[Any]:
    """Return an option's value for each model, given once for all models or once for each."""
    if len(values) in (0, 1):
        return [*values, None][:1] * len(models)
    if len(values) != len(models):
        raise CamcliError(
            f"{option} is given {len(values)} times for {len(models)} models: expected once, or "
            "once for each model"
        )
    return values
