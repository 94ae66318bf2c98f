"""`camcli explain`: write overlays and raw maps of images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from camcli.cli.help import command
from camcli.cli.input_options import input_options
from camcli.cli.method_option import chosen_methods, method_option, note_alike
from camcli.cli.network_options import model_options
from camcli.cli.options import (
    box_options,
    drawing_options,
    flag,
    grouped,
    layer_option,
    output_option,
    place_options,
    rare,
    record,
    run_options,
    scale_option,
    target_option,
    window_options,
)
from camcli.cli.preprocessing import load_network, preprocess_options
from camcli.cli.progress import checked_preview, shown
from camcli.cli.selection_options import Selection, print_names, selected_images, selection_options
from camcli.cli.show import ShowOptions, show_options
from camcli.cli.truth_options import truth_options
from camcli.cli.types import POSITIVE, Corners, Count, Name
from camcli.errors import CamcliError
from camcli.images.source import Source
from camcli.images.store import AnyPath
from camcli.methods.backward import BACKWARDS, PLAIN
from camcli.methods.fusion import FUSIONS
from camcli.models.options import ModelOptions, PreprocessOptions
from camcli.runs.options import (
    DrawingOptions,
    ExplainOptions,
    InputOptions,
    RunOptions,
    TruthOptions,
)
from camcli.runs.shards import Shard
from camcli.speed import without_collections

if TYPE_CHECKING:
    from camcli.runs.job import Job


@dataclass(frozen=True)
class ExecutorOptions:
    """The executor of a run: this process, or a Ray cluster."""

    name: str = "local"
    address: str | None = None
    actors: int | None = None


explain_options = record(
    ExplainOptions,
    "explained",
    method_option(auto=True),
    target_option,
    layer_option,
    grouped(
        "What to explain",
        click.option(
            "--instances",
            type=Count(),
            metavar="K|all",
            help="Explain each of the K best boxes of a detection network, of any class or of "
            "those of --target.  [default: the best box of a class]",
        ),
        rare(
            click.option(
                "--fuse",
                type=Name("fusion", FUSIONS),
                help="Fuse the maps of several layers into one.",
            ),
            click.option(
                "--backward",
                type=Name("backward rule", BACKWARDS),
                default=PLAIN,
                show_default=True,
                help="The rule of the backward pass: derivatives, or those of LibraGrad, for "
                "methods of gradients on transformers.",
            ),
            click.option(
                "--region",
                type=Corners(),
                metavar="X0,Y0,X1,Y1",
                help="Explain a segmentation network's score of this part of the image, in pixels "
                "of the original.  [default: the pixels that the network gives the class]",
            ),
            window_options,
        ),
    ),
    methods="method",
    targets="target",
    layers="layer",
    backward_rule="backward",
)

_executor = rare(
    click.option(
        "--executor",
        default="local",
        type=Name("executor", ("local", "ray")),
        help="Run in this process, or on the actors of a Ray cluster.",
    ),
    click.option(
        "--ray-address",
        metavar="ADDR",
        help="The cluster: auto or HOST:PORT.  [default: RAY_ADDRESS, or one on this machine]",
    ),
    click.option(
        "--num-actors",
        type=POSITIVE,
        metavar="N",
        help="Actors that share the cluster.  [default: one per GPU, or one per core]",
    ),
)
executor_options = record(
    ExecutorOptions,
    "executor",
    grouped("Speed", _executor),
    name="executor",
    address="ray_address",
    actors="num_actors",
)


@command(
    {
        "camcli explain photo.jpg": "the best class of a photo",
        "camcli explain photo.jpg --target tabby,lynx": "two other classes",
        "camcli explain photos/ -m resnet50 -o heat": "a folder, another network",
        "camcli explain photo.jpg --method cam,gradcam": "two methods",
    }
)
@click.argument("paths", nargs=-1)
@input_options
@selection_options
@preprocess_options
@model_options
@explain_options
@truth_options
@output_option
@drawing_options(scale_option, box_options, place_options)
@grouped("Output", flag("--dry-run", "Print the files that would be written, and stop."))
@run_options
@show_options
@executor_options
def explain(
    paths: tuple[str, ...],
    *,
    selection: Selection,
    output: AnyPath,
    inputs: InputOptions,
    explained: ExplainOptions,
    truth: TruthOptions,
    drawing: DrawingOptions,
    executor: ExecutorOptions,
    dry_run: bool,
    show: ShowOptions,
    **options: Any,
) -> int:
    """Write a heatmap for each image in PATHS: files, folders, globs, URLs of a store, or - for
    standard input."""
    sources, shard = selected_images(paths, selection, output, inputs.batch_size)
    if dry_run:
        return print_names(sources, output, explained, truth, drawing)
    if drawing.scale == "run" and (show.json or show.preview):
        raise CamcliError("--scale run: --json and --preview come before the scale is known")
    show = checked_preview(show, drawing)
    given = sources, output, explained, truth, drawing, inputs, shard, show
    job = partial(_make_job, *given, **options)
    if executor.name == "local":
        if executor != ExecutorOptions():
            raise CamcliError("--ray-address and --num-actors are for --executor ray")
        return shown(job(), show)
    return _on_cluster(job, executor, options["model"], inputs, show)


def _on_cluster(
    job: Callable[..., Job],
    executor: ExecutorOptions,
    model: ModelOptions,
    inputs: InputOptions,
    show: ShowOptions,
) -> int:
    """Run a job on a Ray cluster. The model is loaded here, on the CPU, and sent to the actors."""
    from camcli.runs.cluster import connected
    from camcli.runs.ray import check_divisible, ray_executor

    context = click.get_current_context()
    workers = inputs.workers if context.params.get("workers") else None
    local = job(model=replace(model, device="cpu"))
    check_divisible(local)
    with connected(executor.address):
        there, actors = ray_executor(local, str(model.device), executor.actors, workers)
        return shown(there, show, executor=actors)


@without_collections()
def _make_job(
    sources: Sequence[Source],
    output: AnyPath,
    explained: ExplainOptions,
    truth: TruthOptions,
    drawing: DrawingOptions,
    inputs: InputOptions,
    shard: Shard | None,
    show: ShowOptions,
    *,
    model: ModelOptions,
    preprocessing: PreprocessOptions,
    options: RunOptions,
) -> Job:
    from camcli.models.fold_batchnorm import fold_batchnorm
    from camcli.runs.filters import read_filters
    from camcli.runs.from_options import make_job
    from camcli.runs.truth import read_truth

    network = load_network(model, preprocessing, quiet=show.quiet)
    methods = chosen_methods(explained.methods, network, explained.layers[0], quiet=show.quiet)
    explained = replace(explained, methods=methods)
    if explained.instances and not show.quiet:
        note_alike(methods, network)
    given = sources, network, output, explained, drawing, inputs, options
    known = read_truth(truth, network)
    only = read_filters(truth.only, network, known)
    job = make_job(*given, truth=known, only=only, shard=shard)
    return replace(job, model=fold_batchnorm(network, job.layers))
