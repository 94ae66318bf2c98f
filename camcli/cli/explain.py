"""`camcli explain`: images in, overlays and raw maps out."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from camcli.cli import DONE
from camcli.cli.options import (
    Corners,
    Name,
    Text,
    drawing_options,
    engine_options,
    image_options,
    layer_option,
    method_option,
    model_options,
    running_options,
    target_option,
    window_options,
)
from camcli.cli.progress import can_preview, line_of, shown
from camcli.errors import CamcliError
from camcli.images.find import Source, find
from camcli.images.select import filter_sources, read_list
from camcli.images.store import AnyPath
from camcli.methods.fusion import FUSIONS
from camcli.render.boxes import BOXES
from camcli.runs.names import check_names, check_stems, every_result, name_of
from camcli.runs.shards import Shard, shard_of

if TYPE_CHECKING:
    from camcli.models.load import Model
    from camcli.runs.job import Job


@click.command(no_args_is_help=True)
@click.argument("paths", nargs=-1)
@model_options
@method_option()
@target_option
@layer_option
@click.option(
    "--fuse",
    type=Name("fusion", list(FUSIONS)),
    help="Make one map of those of several layers.",
)
@click.option(
    "--region",
    type=Corners(),
    metavar="X0,Y0,X1,Y1",
    help="Where a segmentation network is asked, in pixels of the original.  [default: wherever it "
    "sees the class]",
)
@drawing_options
@click.option(
    "--boxes",
    default=BOXES[0],
    show_default=True,
    type=Name("choice of boxes", BOXES),
    help="Which boxes --save boxes takes from a map: of its largest region, or of all.",
)
@click.option(
    "--box-threshold",
    type=float,
    metavar="S",
    help="Where boxes are cut, as a share of the map's maximum.  [default: 0.15; for cam 0.2]",
)
@window_options
@image_options
@click.option(
    "--from-file",
    metavar="LIST",
    help="Explain the paths in a file as well, or for - on standard input: one a line, or with "
    "NULs between them.",
)
@click.option(
    "--include", multiple=True, type=Text(), metavar="GLOB", help="Only such images; repeatable."
)
@click.option(
    "--exclude", multiple=True, type=Text(), metavar="GLOB", help="No such images; repeatable."
)
@engine_options
@click.option(
    "--shard", metavar="I/N", help="Only every N-th batch, from the I-th; see camcli merge."
)
@click.option("--dry-run", is_flag=True, help="Print the files that would be written, and stop.")
@running_options
def explain(
    paths: tuple[str, ...],
    *,
    from_file: str | None,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    shard: str | None,
    recursive: bool,
    dry_run: bool,
    output: AnyPath,
    **options: Any,
) -> int:
    """Write a heatmap for each image in PATHS: files, folders, globs, URLs of a store, or - for
    standard input."""
    if not paths and not from_file:
        raise CamcliError("no PATHS: expected files, folders, globs, - or --from-file LIST")
    given = [*paths, *(read_list(from_file) if from_file else ())]
    found = find(given, recursive=recursive, skip=output)
    sources, part = filter_sources(found, include, exclude), None
    if not sources:
        where = ", ".join(paths) or from_file
        raise CamcliError(f"no images in {where}: nothing to do")
    if shard is not None:
        check_stems(sources)  # of all: shards may share a folder
        sources, part = shard_of(sources, shard, options["batch_size"])
    if dry_run:
        return _foretell(sources, output, **options)
    return _explain(sources, output, shard=part, **options)


def _foretell(
    sources: Sequence[Source],
    output: AnyPath,
    *,
    method: Sequence[str],
    target: Sequence[str],
    layer: Sequence[str],
    fuse: str | None,
    save: Sequence[str],
    **_: Any,
) -> int:
    """Print what a run would write, without loading a model."""
    layers = [None if path == "auto" else path for path in dict.fromkeys(layer)]
    results = every_result([*dict.fromkeys(method)], [*dict.fromkeys(target)], layers, fuse)
    check_names(output, sources, results)
    for source, wanted, what in itertools.product(sources, results, save):
        line = f"{source.path} -> {output / name_of(source, wanted, what)}"
        click.echo(os.fsencode(line.replace("\n", "\\n")))
    return DONE


def _explain(
    sources: Sequence[Source],
    output: AnyPath,
    *,
    engine: str,
    ray_address: str | None,
    num_actors: int | None,
    json: bool,
    quiet: bool,
    preview: bool,
    fail_fast: bool,
    **options: Any,
) -> int:
    preview = preview and can_preview(options["save"], quiet=quiet)
    show = partial(shown, line=_line, json=json, quiet=quiet, preview=preview, fail_fast=fail_fast)
    if engine == "local":
        if ray_address or num_actors:
            raise CamcliError("--ray-address and --num-actors are for --engine ray")
        return show(_job(sources, output, quiet, **options))
    from camcli.runs.ray import connected, hired

    workers, device = options["workers"], options["device"]
    job = _job(sources, output, quiet, **options | {"device": "cpu"})
    with connected(ray_address):
        crew, explainers = hired(job, device, num_actors, workers)
        return show(crew, engine=explainers)


def _job(
    sources: Sequence[Source],
    output: AnyPath,
    quiet: bool,
    *,
    model: str,
    weights: str,
    labels: str | None,
    device: str,
    precision: str,
    method: tuple[str, ...],
    target: tuple[str, ...],
    layer: tuple[str, ...],
    fuse: str | None,
    region: tuple[float, float, float, float] | None,
    save: Sequence[str],
    fit: str,
    colormap: str,
    alpha: float,
    boxes: str,
    box_threshold: float | None,
    window: int | None,
    stride: int | None,
    batch_size: int,
    workers: int | None,
    max_pixels: int,
    skip_existing: bool,
    overwrite: bool,
    shard: Shard | None,
) -> Job:
    from camcli.capture.windows import Window
    from camcli.models.families import find_layer
    from camcli.models.load import load
    from camcli.render.boxes import BoxRule
    from camcli.render.draw import Style
    from camcli.runs.job import Job

    style, rule = Style(colormap, alpha), BoxRule(boxes, box_threshold)
    if rule != BoxRule() and "boxes" not in save:
        raise CamcliError("--boxes and --box-threshold say which boxes --save boxes takes: give it")
    network = load(model, weights, labels=labels, device=device, precision=precision)
    if not quiet and (note := _note(network)):
        click.echo(f"Note: {note}", err=True)
    layers = [None if path == "auto" else find_layer(network.module, path) for path in layer]
    return Job(
        sources=sources,
        model=network.merged(*layers),
        methods=tuple(dict.fromkeys(method)),
        targets=tuple(dict.fromkeys(target)),
        layers=tuple(dict.fromkeys(layers)),
        fuse=fuse,
        region=region,
        output=output,
        saves=save,
        fit=fit,
        style=style,
        boxes=rule,
        window=Window(window, stride, batch_size),
        batch_size=batch_size,
        workers=workers or os.cpu_count() or 1,
        max_pixels=max_pixels,
        skip_existing=skip_existing,
        overwrite=overwrite,
        shard=shard,
    )


def _note(network: Model) -> str:
    """What one should know of a network before believing its maps."""
    if network.weights.startswith("none"):
        return f"{network.name} with weights {network.weights} has learnt nothing."
    if click.get_current_context().get_parameter_source("model") is not ParameterSource.DEFAULT:
        return ""
    return (
        f"by mini, the bundled model of {len(network.class_names or ())} classes; --model resnet50 "
        f"and the like know ImageNet's 1000, and download their weights."
    )


def _line(row: dict[str, Any], output: AnyPath) -> str:
    """A result for people: the image, what was explained, and where to look."""
    boxes = "".join(f"  box {','.join(map(str, box))}" for box in row["boxes"] or ())
    return line_of(row, row["class_name"] or f"class {row['class_index']}", output, boxes)
