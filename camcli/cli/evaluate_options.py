"""The options of `camcli evaluate`."""

from __future__ import annotations

from pathlib import Path

import click

from camcli.cli.options import (
    Name,
    Real,
    input_options,
    model_options,
    recursive_option,
    stack,
    window_options,
)
from camcli.evaluation.annotations import ANNOTATION_FORMATS
from camcli.evaluation.protocol import (
    FILLS,
    GRADIENT_SIGNS,
    GRID_IMAGE_SIZES,
    MASKINGS,
    NORMALIZATIONS,
    Protocol,
)
from camcli.evaluation.registry import METRICS, default_metrics
from camcli.methods.registry import METHODS

_DEFAULTS = Protocol()

protocol_options = stack(
    click.option(
        "--masking",
        default=_DEFAULTS.masking,
        show_default=True,
        type=Name("masking", MASKINGS),
        help="The colour of masked pixels: black (raw pixels times the map) or the mean colour.",
    ),
    click.option(
        "--normalize",
        default=_DEFAULTS.normalize,
        show_default=True,
        type=Name("normalization", NORMALIZATIONS),
        help="How a map is scaled to [0, 1]: its positive part by the maximum (max), or from "
        "minimum to maximum (minmax).",
    ),
    click.option(
        "--gradient-sign",
        default=_DEFAULTS.gradient_sign,
        show_default=True,
        type=Name("gradient sign", GRADIENT_SIGNS),
        help="What is summed over the colours of signed gradients: absolute values (abs), or the "
        "positive part (positive).",
    ),
    click.option(
        "--insertion-fill",
        default=_DEFAULTS.insertion_fill,
        show_default=True,
        type=Name("fill", FILLS),
        help="The image that insertion starts from.",
    ),
    click.option(
        "--deletion-fill",
        default=_DEFAULTS.deletion_fill,
        show_default=True,
        type=Name("fill", FILLS),
        help="The replacement for pixels that deletion removes.",
    ),
    click.option(
        "--curve-steps",
        type=click.IntRange(1),
        default=_DEFAULTS.curve_steps,
        show_default=True,
        help="Steps of the insertion and deletion curves.",
    ),
    click.option(
        "--road-noise",
        type=Real(0),
        default=_DEFAULTS.road_noise,
        show_default=True,
        help="Standard deviation of the noise on ROAD's imputed pixels, in the network's input.",
    ),
    click.option(
        "--min-confidence",
        type=Real(0, 1),
        default=_DEFAULTS.min_confidence,
        show_default=True,
        metavar="P",
        help="Least probability of the prediction for an image in a grid.",
    ),
    click.option(
        "--grid-image-size",
        default=_DEFAULTS.grid_image_size,
        show_default=True,
        type=Name("size", GRID_IMAGE_SIZES),
        help="Size of the images in a grid: full, or half for networks with a fixed input size.",
    ),
    click.option(
        "--sanity-steps",
        type=click.IntRange(1),
        default=_DEFAULTS.sanity_steps,
        show_default=True,
        help="Steps in which the sanity check randomizes the weights.",
    ),
    window_options,
    click.option(
        "--seed",
        type=click.IntRange(0, 2**63 - 1),
        default=_DEFAULTS.seed,
        show_default=True,
        help="Seed of everything random.",
    ),
)
"""The options that are fields of Protocol, by the same names."""

selection_options = stack(
    click.option(
        "--method",
        multiple=True,
        default=["gradcam"],
        type=Name("method", METHODS),
        help="Method to measure; repeatable.  [default: gradcam]",
    ),
    click.option(
        "--metric",
        multiple=True,
        type=Name("metric", METRICS, "all"),
        help="Metric, or all; repeatable.  "
        f"[default: {', '.join(default_metrics(annotated=False))}; with --boxes "
        f"{', '.join(default_metrics(annotated=True))}]",
    ),
    click.option(
        "--boxes",
        metavar="FORMAT:PATH",
        help=f"Annotations, as {', '.join(ANNOTATION_FORMATS)}; images without an object of the "
        "class are skipped.",
    ),
    click.option(
        "--class-map",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="The model's classes for each label of the annotations.  [default: by name]",
    ),
    click.option(
        "--min-objects",
        type=click.IntRange(1),
        default=1,
        show_default=True,
        metavar="N",
        help="With --boxes, leave out the classes with fewer objects in an image.",
    ),
    click.option(
        "--target",
        default="pred",
        show_default=True,
        metavar="T",
        help="Class to explain: pred, topK (the K-th best), a class index or name, or with --boxes "
        "annotated (the best of the image's annotated classes).",
    ),
    click.option(
        "--layer",
        default="auto",
        show_default=True,
        metavar="L",
        help="Target layer: auto, or a dotted path such as layer3.2.conv1.",
    ),
    click.option(
        "--limit",
        type=click.IntRange(1),
        metavar="N",
        help="Measure at most N of the images, drawn at random.",
    ),
)

output_options = stack(
    click.option(
        "--output",
        type=click.Path(path_type=Path, file_okay=False),
        metavar="DIR",
        help="Write metrics.json, scores.csv, table.md and plots to a folder.",
    ),
    input_options,
    recursive_option,
    click.option("--json", is_flag=True, help="Print the content of metrics.json."),
    click.option("--quiet", is_flag=True, help="Print only errors and the table."),
)

evaluate_options = stack(model_options, selection_options, protocol_options, output_options)
