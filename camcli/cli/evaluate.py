"""`camcli evaluate`: how good the maps of some methods are, as a table."""

from __future__ import annotations

import os
import random
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from camcli.cli import DONE, SOME_FAILED
from camcli.cli.options import (
    Name,
    Real,
    input_options,
    model_options,
    recursive_option,
    stack,
    window_options,
)
from camcli.errors import CamcliError, OutputError
from camcli.evaluation.annotations import FORMATS
from camcli.evaluation.metrics import DEFAULT, METRICS, ON_TRUTH
from camcli.evaluation.protocol import CELLS, FILLS, GRADIENTS, PRODUCTS, SCALES, Protocol
from camcli.images.decode import STDIN
from camcli.images.find import EVALUATION, Source, find
from camcli.images.store import real
from camcli.methods.registry import METHODS
from camcli.models.options import ModelOptions
from camcli.runs.files import prepare, to_json, write
from camcli.runs.options import InputOptions

if TYPE_CHECKING:
    from camcli.evaluation.run import Scores, Study

_PICTURES = tuple(f"{name}.png" for name in (*METRICS, "distributions"))
_TABLE = "table.md"
_PAPERS = Protocol()
"""What the papers say, where they do."""

protocol_options = stack(
    click.option(
        "--product",
        default=_PAPERS.product,
        show_default=True,
        type=Name("product", PRODUCTS),
        help="What a map hides becomes black (raw pixels times the map), or the mean colour.",
    ),
    click.option(
        "--scale",
        default=_PAPERS.scale,
        show_default=True,
        type=Name("scale", SCALES),
        help="How a map comes to [0, 1]: its positive part by its maximum, or from minimum to "
        "maximum (range).",
    ),
    click.option(
        "--gradients",
        default=_PAPERS.gradients,
        show_default=True,
        type=Name("choice", GRADIENTS),
        help="What counts of an image of signed gradients, added up over colours: absolute values, "
        "or the positive ones.",
    ),
    click.option(
        "--insertion-fill",
        default=_PAPERS.insertion_fill,
        show_default=True,
        type=Name("fill", FILLS),
        help="What insertion begins with.",
    ),
    click.option(
        "--deletion-fill",
        default=_PAPERS.deletion_fill,
        show_default=True,
        type=Name("fill", FILLS),
        help="What deletion puts in a pixel's place.",
    ),
    click.option(
        "--steps",
        type=click.IntRange(1),
        default=_PAPERS.steps,
        show_default=True,
        help="Steps of insertion and deletion.",
    ),
    click.option(
        "--noise",
        type=Real(0),
        default=_PAPERS.noise,
        show_default=True,
        help="Deviation of the noise on what ROAD imputes, in the network's input.",
    ),
    click.option(
        "--sure",
        type=Real(0, 1),
        default=_PAPERS.sure,
        show_default=True,
        metavar="P",
        help="Least probability of an image that goes into a grid.",
    ),
    click.option(
        "--cells",
        default=_PAPERS.cells,
        show_default=True,
        type=Name("size", CELLS),
        help="Images in a grid at their full size, or at half of it for a network that takes one "
        "input size only.",
    ),
    click.option(
        "--stages",
        type=click.IntRange(1),
        default=_PAPERS.stages,
        show_default=True,
        help="How often the sanity check makes more layers random.",
    ),
    window_options,
    click.option(
        "--seed",
        type=click.IntRange(0, 2**63 - 1),
        default=_PAPERS.seed,
        show_default=True,
        help="Decides everything random.",
    ),
)
"""What the papers leave open; the names are those of Protocol's fields."""


@click.command(no_args_is_help=True)
@click.argument("paths", nargs=-1)
@model_options
@click.option(
    "--method",
    multiple=True,
    default=["gradcam"],
    type=Name("method", list(METHODS)),
    help="What to measure; repeatable.  [default: gradcam]",
)
@click.option(
    "--metric",
    multiple=True,
    type=Name("metric", [*METRICS, "all"]),
    help="How to measure it, or all; repeatable.  "
    f"[default: {', '.join(DEFAULT)}; with --boxes {', '.join(ON_TRUTH)}]",
)
@click.option(
    "--boxes",
    metavar="FORMAT:PATH",
    help=f"Where the objects are, as {', '.join(FORMATS)}; images without one of the class are "
    "skipped.",
)
@click.option(
    "--class-map",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Which of the model's classes the annotations' classes are, unless the names are the "
    "same.",
)
@click.option(
    "--objects",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    metavar="N",
    help="With --boxes, only classes of which an image has at least N objects.",
)
@click.option(
    "--target",
    default="pred",
    show_default=True,
    metavar="T",
    help="The class that is followed: pred, topK (the K-th best), a class index or name, or with "
    "--boxes annotated (the best of the image's annotated ones).",
)
@click.option(
    "--layer",
    default="auto",
    show_default=True,
    metavar="L",
    help="The layer to look at: auto, or a dotted path such as layer3.2.conv1.",
)
@click.option(
    "--limit",
    type=click.IntRange(1),
    metavar="N",
    help="At most N of the images, drawn at random.",
)
@protocol_options
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write metrics.json, scores.csv, table.md and plots into a folder.",
)
@input_options
@recursive_option
@click.option("--json", is_flag=True, help="Print what metrics.json holds.")
@click.option("--quiet", is_flag=True, help="Print errors and the table only.")
def evaluate(
    paths: tuple[str, ...],
    *,
    recursive: bool,
    limit: int | None,
    seed: int,
    output: Path | None,
    json: bool,
    quiet: bool,
    **options: Any,
) -> int:
    """Measure how good the maps of some methods are on the images in PATHS.

    Without annotations the images are changed as a map says, and the network is asked again; with
    --boxes maps are held against the objects in the images.

    Two controls are always measured as well: a random map and a Gaussian in the centre. A method
    that is no better than they are shows nothing.
    """
    if not paths:
        raise CamcliError("no PATHS: expected files, folders or globs")
    sources = _drawn(find(paths, recursive=recursive, skip=output), limit, seed)
    if not sources:
        raise CamcliError(f"no images in {', '.join(paths)}: nothing to do")
    _tell_apart(sources, output, options["boxes"])
    study = _study(sources, seed, **options)
    study.check()
    if output:
        prepare(output)
    scores = _measured(study, quiet)
    _show(scores, output, json)
    return SOME_FAILED if scores.failures else DONE


def _drawn(sources: Sequence[Source], limit: int | None, seed: int) -> list[Source]:
    """At most `limit` images, drawn at random: a folder is often sorted by class.

    What is not there takes no image's place, and is kept: reading it will say so.
    """
    there = [i for i, source in enumerate(sources) if _is_there(source)]
    if limit is None or limit >= len(there):
        return list(sources)
    drawn = random.Random(seed).sample(there, limit)  # noqa: S311 - no secret
    missing = {*range(len(sources))} - {*there}
    return [sources[i] for i in sorted(missing | {*drawn})]


def _is_there(source: Source) -> bool:
    local = isinstance(source.path, Path) and source.path != STDIN
    return not local or os.path.exists(str(source.path))


def _tell_apart(sources: Sequence[Source], output: Path | None, boxes: str | None) -> None:
    """Refuse images that annotations or records would take for each other, and inputs that would
    be written over. Raises OutputError."""
    first: dict[Path, Source] = {}
    for source in sources if output or boxes else ():
        name = source.name.with_suffix("") if boxes else source.name
        other = first.setdefault(name, source)
        if other is not source:
            what = "annotations" if boxes else "name in scores.csv"
            raise OutputError(
                f"'{other.path}' and '{source.path}' would have the same {what}: evaluate them "
                "apart, or give a folder that holds both"
            )
    files = (*EVALUATION, _TABLE, *_PICTURES)
    written = {real(output / name) for name in files} if output else set()
    for source in sources:
        if real(source.path) in written:
            raise OutputError(
                f"'{source.path}' is an input and would be written over: name another folder"
            )


def _study(
    sources: Sequence[Source],
    seed: int,
    *,
    model: ModelOptions,
    inputs: InputOptions,
    method: tuple[str, ...],
    metric: tuple[str, ...],
    boxes: str | None,
    class_map: Path | None,
    objects: int,
    target: str,
    layer: str,
    **protocol: Any,
) -> Study:
    from camcli.evaluation.ground_truth import ground_truth
    from camcli.evaluation.run import Study
    from camcli.models.families import find_layer
    from camcli.models.fold_batchnorm import fold_batchnorm
    from camcli.models.load import load

    if class_map and not boxes:
        raise CamcliError("--class-map says what --boxes are of: give both")
    network = load(
        *(model.name, model.weights),
        labels=model.labels,
        device=model.device,
        precision=model.precision,
    )
    metrics = _metrics(metric, annotated=bool(boxes))
    path = None if layer == "auto" else find_layer(network.module, layer)
    if not any(METRICS[name].unlearns for name in metrics):  # what it unlearns has to be there
        network = fold_batchnorm(network, [path])
    return Study(
        sources=sources,
        model=network,
        methods=tuple(dict.fromkeys(method)),
        metrics=metrics,
        protocol=Protocol(**protocol, seed=seed),
        target=target,
        layer=path,
        fit=inputs.fit,
        batch_size=inputs.batch_size,
        workers=inputs.workers,
        max_pixels=inputs.max_pixels,
        truth=ground_truth(boxes, class_map, network) if boxes else None,
        objects=objects,
    )


def _metrics(given: Sequence[str], *, annotated: bool) -> tuple[str, ...]:
    """The metrics of these names; all of them are those that can be taken."""
    if "all" in given:
        return tuple(name for name, metric in METRICS.items() if annotated or not metric.on_truth)
    return tuple(dict.fromkeys(given)) or (ON_TRUTH if annotated else DEFAULT)


def _measured(study: Study, quiet: bool) -> Scores:
    """Run it, with a progress bar and a line for each image that fails, which not all must."""
    from tqdm import tqdm  # not before the run: --help stays quick

    from camcli.evaluation.run import Failure, Measured, Scores, run

    scores = Scores(study)
    hidden = quiet or not sys.stderr.isatty()
    with tqdm(total=len(study.sources), unit="image", leave=False, disable=hidden) as progress:
        for found in run(study):
            scores.add(found)
            if isinstance(found, Failure):
                progress.clear()
                click.echo("Error: " + str(found.error).replace("\n", "\\n"), err=True)
            progress.update(len(found.facts) if isinstance(found, Measured) else 1)
    return scores


def _show(scores: Scores, output: Path | None, json: bool) -> None:
    from camcli.evaluation import export, plots
    from camcli.evaluation.summary import Summary, left_out
    from camcli.evaluation.table import markdown, table

    if not scores.facts:
        message = "; ".join(["not one image could be measured", *left_out(scores)])
        if not scores.failures:
            raise CamcliError(message)
        click.echo(f"Error: {message}", err=True)
        return
    summary = Summary(scores)
    record = export.record(summary)
    if json:
        click.echo(to_json(record), nl=False)
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        click.echo(table(summary, width), nl=False)
    if output:
        metrics, rows = (output / name for name in EVALUATION)
        if metrics.exists():  # an earlier evaluation's pictures would be taken for this one's
            for name in _PICTURES:
                (output / name).unlink(missing_ok=True)
        write(metrics, to_json(record, indent=2))
        write(rows, export.rows_csv(scores))
        write(output / _TABLE, markdown(summary).encode())
        for name, picture in plots.pictures(summary).items():
            write(output / name, picture)
