"""The options of `camcli evaluate`."""

from __future__ import annotations

from functools import partial

import click

from camcli.cli.complete import complete_layer
from camcli.cli.input_options import input_options, recursive_option
from camcli.cli.method_option import method_option
from camcli.cli.network_options import model_options
from camcli.cli.options import (
    field_option,
    flag,
    grouped,
    names_option,
    rare,
    stack,
    window_options,
)
from camcli.cli.preprocessing import preprocess_options
from camcli.cli.types import FILE_PATH, POSITIVE, Location, Name, Names, Real
from camcli.evaluation.annotations import ANNOTATION_FORMATS
from camcli.evaluation.protocol import (
    FILLS,
    GRADIENT_SIGNS,
    GRID_IMAGE_SIZES,
    MASKINGS,
    NORMALIZATIONS,
    NORMALIZE_ORDERS,
    PLACEMENTS,
    Protocol,
)
from camcli.evaluation.registry import METRICS, default_metrics

_protocol = partial(field_option, Protocol)

_details = rare(
    _protocol(
        "masking",
        Name("masking", MASKINGS),
        "The colour of masked pixels: black (raw pixels times the map) or the mean colour.",
    ),
    _protocol(
        "normalize",
        Name("normalization", NORMALIZATIONS),
        "How a map is scaled to [0, 1]: its positive part by the maximum (max), or from minimum to "
        "maximum (minmax).",
    ),
    _protocol(
        "normalize_order",
        Name("order", NORMALIZE_ORDERS),
        "Whether a map is scaled after upsampling to the input's size, or before.",
    ),
    _protocol(
        "gradient_sign",
        Name("gradient sign", GRADIENT_SIGNS),
        "What is summed over the colours of signed gradients: absolute values (abs), or the "
        "positive part (positive).",
    ),
    _protocol(
        "placement",
        Name("placement", PLACEMENTS),
        "Where the cells of a map are: at the centres of their receptive fields, or in equal parts "
        "of the input.",
    ),
    _protocol("insertion_fill", Name("fill", FILLS), "The image that insertion starts from."),
    _protocol(
        "deletion_fill", Name("fill", FILLS), "The replacement for pixels that deletion removes."
    ),
    _protocol("curve_steps", POSITIVE, "Steps of the insertion and deletion curves."),
    _protocol(
        "road_noise",
        Real(0),
        "Standard deviation of the noise on ROAD's imputed pixels, in the network's input.",
    ),
    _protocol(
        "min_confidence",
        Real(0, 1),
        "Least probability of the prediction for an image in a grid.",
        metavar="P",
    ),
    _protocol(
        "grid_image_size",
        Name("size", GRID_IMAGE_SIZES),
        "Size of the images in a grid: full, or half for networks with a fixed input size.",
    ),
    _protocol("sanity_steps", POSITIVE, "Steps in which the sanity check randomizes the weights."),
    _protocol("seed", click.IntRange(0, 2**63 - 1), "Seed of everything random."),
)

evaluate_options = stack(
    input_options,
    recursive_option,
    grouped(
        "Input",
        click.option(
            "--limit",
            type=POSITIVE,
            metavar="N",
            help="Measure at most N of the images, drawn at random.",
        ),
        click.option(
            "--boxes",
            metavar="FORMAT:PATH",
            help=f"Annotations, as {', '.join(ANNOTATION_FORMATS)}; images without an object of "
            "the class are skipped.",
        ),
        rare(
            click.option(
                "--class-map",
                type=FILE_PATH,
                metavar="FILE",
                help="The model's classes for each label of the annotations.  [default: by name]",
            ),
            click.option(
                "--min-objects",
                type=POSITIVE,
                default=1,
                metavar="N",
                help="With --boxes, leave out the classes with fewer objects in an image.",
            ),
        ),
    ),
    preprocess_options,
    model_options,
    method_option(text="Methods to measure.", auto=True),
    grouped(
        "What to explain",
        click.option(
            "--target",
            default="pred",
            metavar="T",
            help="Class to explain: pred, topK (the K-th best), a class index or name, or with "
            "--boxes annotated (the best of the image's annotated classes).",
        ),
        click.option(
            "--layer",
            shell_complete=complete_layer,
            default="auto",
            metavar="L",
            help="Target layer: auto, or a dotted path such as layer3.2.conv1.",
        ),
    ),
    window_options,
    grouped(
        "Measurement",
        names_option(
            "--metric",
            Names("metric", METRICS, "all"),
            f"[default: {', '.join(default_metrics(annotated=False))}; with --boxes "
            f"{', '.join(default_metrics(annotated=True))}]",
        ),
        _details,
    ),
    grouped(
        "Output",
        click.option(
            "--output",
            "-o",
            type=Location(file_okay=False),
            metavar="DIR",
            help="Write metrics.json, scores.csv, table.md and plots to a folder.",
        ),
        names_option(
            "--plots",
            Names("format", ("svg", "pdf")),
            "Write the plots in these formats, besides PNG; needs matplotlib.",
        ),
        flag("--json", "Print the content of metrics.json."),
        flag("--quiet", "Print only errors and the table."),
    ),
)
"""All options. The fields of Protocol, such as --masking, have options of the same names."""
