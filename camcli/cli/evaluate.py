"""`camcli evaluate`: measure the maps of methods, and print a table."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Sequence
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from camcli.cli import DONE, SOME_FAILED
from camcli.cli.evaluate_options import evaluate_options
from camcli.cli.extras import require_matplotlib
from camcli.cli.help import command
from camcli.cli.method_option import chosen_methods
from camcli.cli.preprocessing import load_network
from camcli.cli.printing import echo, echo_json, show_name, terminal_width
from camcli.cli.progress import echo_error, progress_bar
from camcli.errors import CamcliError, OutputError
from camcli.evaluation.protocol import Protocol
from camcli.evaluation.registry import METRICS, default_metrics
from camcli.images.decode import STDIN
from camcli.images.find import EVALUATION_FILES, find
from camcli.images.source import Source
from camcli.images.store import AnyPath, canonical
from camcli.models.options import ModelOptions, PreprocessOptions
from camcli.runs.files import prepare, to_json, write

if TYPE_CHECKING:
    from tqdm import tqdm

    from camcli.evaluation.scores import Scores
    from camcli.evaluation.study import Study
    from camcli.evaluation.summary import Summary

_TABLE = "table.md"


@command(
    {
        "camcli evaluate photos/ --limit 100": "better than random maps?",
        "camcli evaluate photos/ --method gradcam,gae": "two methods",
        "camcli evaluate photos/ --boxes voc:boxes": "is the heat in the objects?",
    }
)
@click.argument("paths", nargs=-1)
@evaluate_options
def evaluate(
    paths: tuple[str, ...],
    *,
    recursive: bool,
    limit: int | None,
    output: AnyPath | None,
    plots: tuple[str, ...],
    json: bool,
    quiet: bool,
    **options: Any,
) -> int:
    """Measure the maps of one or more methods on the images in PATHS.

    Without annotations, images are perturbed according to the map and the network runs on them
    again. With --boxes, maps are compared with the objects in the images.

    Two baselines are always measured as well: a random map and a Gaussian in the centre. A method
    that does not beat them shows nothing.
    """
    if not paths:
        raise CamcliError("no PATHS: expected files, folders or globs")
    _check_plots(plots, output)
    sources = _draw(find(paths, recursive=recursive, skip=output), limit, options["seed"])
    if not sources:
        raise CamcliError(f"no images in {', '.join(paths)}: nothing to do")
    _check_names(sources, output, options["boxes"])
    study = _study(sources, quiet, **options)
    study.check()
    if output:
        prepare(output)
    scores = _measured(study, quiet)
    _show(scores, output, json, plots, quiet)
    return SOME_FAILED if scores.failures else DONE


def _check_plots(formats: Sequence[str], output: AnyPath | None) -> None:
    """Raise CamcliError for formats of plots that cannot be written."""
    if formats and output is None:
        raise CamcliError(f"--plots {','.join(formats)} is given without --output: expected both")
    if formats:
        require_matplotlib(f"--plots {','.join(formats)}")


def _draw(sources: Sequence[Source], limit: int | None, seed: int) -> list[Source]:
    """Draw at most `limit` images, since a folder is often sorted by class. Keep their order.

    Paths that do not exist are kept and do not count: reading them reports the error.
    """
    existing = [i for i, source in enumerate(sources) if _exists(source)]
    if limit is None or limit >= len(existing):
        return list(sources)
    drawn = random.Random(seed).sample(existing, limit)  # noqa: S311 - no secret
    missing = {*range(len(sources))} - {*existing}
    return [sources[i] for i in sorted(missing | {*drawn})]


def _exists(source: Source) -> bool:
    local = isinstance(source.path, Path) and source.path != STDIN
    return not local or os.path.exists(str(source.path))


def _check_names(sources: Sequence[Source], output: AnyPath | None, boxes: str | None) -> None:
    """Raise OutputError for images that share an annotation, and for inputs to be overwritten."""
    first: dict[str, Source] = {}
    for source in sources if boxes else ():
        other = first.setdefault(source.stem, source)
        if other is not source:
            raise OutputError(
                f"'{other.path}' and '{source.path}' would have the same annotations: evaluate "
                "them separately"
            )
    if not output:
        return
    from camcli.evaluation.plots import plot_names

    written = {canonical(output / name) for name in (*EVALUATION_FILES, _TABLE, *plot_names())}
    for source in sources:
        if canonical(source.path) in written:
            raise OutputError(
                f"'{source.path}' is an input and would be overwritten: expected another folder"
            )


def _study(
    sources: Sequence[Source],
    quiet: bool,
    *,
    model: ModelOptions,
    preprocessing: PreprocessOptions,
    method: tuple[str, ...],
    metric: tuple[str, ...],
    boxes: str | None,
    class_map: Path | None,
    layer: str,
    **options: Any,
) -> Study:
    """Load the network and the annotations; the other options are fields of Protocol and Study."""
    from camcli.capture.activations import gives_probabilities
    from camcli.evaluation.ground_truth import ground_truth
    from camcli.evaluation.study import Study
    from camcli.models.families import find_layer
    from camcli.models.fold_batchnorm import fold_batchnorm

    if class_map and not boxes:
        raise CamcliError("--class-map without --boxes: expected both")
    network = load_network(model, preprocessing, quiet=quiet)
    of_class = gives_probabilities(network.activation)
    metrics = _chosen_metrics(metric, annotated=bool(boxes), of_class=of_class)
    path = None if layer == "auto" else find_layer(network.module, layer)
    if not any(METRICS[name].randomizes for name in metrics):  # which needs the original layers
        network = fold_batchnorm(network, [path])
    protocol = Protocol(**{field.name: options.pop(field.name) for field in fields(Protocol)})
    return Study(
        sources=sources,
        model=network,
        methods=chosen_methods(method, network, layer, quiet=quiet),
        metrics=metrics,
        protocol=protocol,
        layer=path,
        truth=ground_truth(boxes, class_map, network) if boxes else None,
        **options,
    )


def _chosen_metrics(
    names: Sequence[str], *, annotated: bool, of_class: bool = True
) -> tuple[str, ...]:
    """Return the metrics to measure; `all` are those that do not lack annotations or a class."""
    if "all" in names:
        return tuple(
            name
            for name, metric in METRICS.items()
            if (annotated or metric.place != "annotation") and (of_class or not metric.needs_class)
        )
    return tuple(dict.fromkeys(names)) or default_metrics(annotated=annotated)


def _measured(study: Study, quiet: bool) -> Scores:
    from camcli.evaluation.run import run_study
    from camcli.evaluation.scores import BatchScores, Failure, Scores

    scores = Scores(study)
    with progress_bar(len(study.sources), quiet) as bar:
        progress = _Progress(bar)
        with closing(run_study(study, progress.passed)) as results:
            for result in results:
                scores.add(result)
                if isinstance(result, Failure):
                    bar.clear()
                    echo_error(result.error)
                if done := len(result.classes) if isinstance(result, BatchScores) else 1:
                    progress.finished(done)
    return scores


class _Progress:
    """Moves a bar of images with every forward pass of the batch that is being measured."""

    def __init__(self, bar: tqdm[NoReturn]) -> None:
        bar.miniters = 0  # one image may take minutes
        self._bar = bar
        self._images = self._part = 0.0
        self._lock = threading.Lock()

    def passed(self, images: float) -> None:
        """Move the bar by a part of the work for an image."""
        with self._lock:  # several threads run batches
            self._part += images
            self._show()

    def finished(self, images: int) -> None:
        """Move the bar to the number of images that are measured now."""
        with self._lock:
            self._images += images
            self._part = max(0.0, self._part - images)  # the rest is of other batches
            self._show()

    def _show(self) -> None:
        """Show hundredths of images. A batch that runs again does not move the bar back."""
        done = min(self._images + self._part, self._bar.total)
        self._bar.n = max(self._bar.n, round(done, 2))
        self._bar.update(0)


def _show(
    scores: Scores, output: AnyPath | None, json: bool, formats: Sequence[str], quiet: bool
) -> None:
    from camcli.evaluation.export import metrics_record
    from camcli.evaluation.summary import Summary, left_out
    from camcli.evaluation.table import terminal_table

    if not scores.classes:
        message = "; ".join(["no image could be measured", *left_out(scores)])
        if not scores.failures:
            raise CamcliError(message)
        echo(f"Error: {message}", err=True)
        return
    summary = Summary(scores)
    record = metrics_record(summary)
    if json:
        echo_json(to_json(record))
    else:
        for line in terminal_table(summary, terminal_width()).removesuffix("\n").split("\n"):
            echo(line)
    if output:
        names = ", ".join(_write_files(summary, record, output, formats))
        if not quiet:
            echo(f"{names} -> {show_name(output, err=True)}", err=True)


def _write_files(
    summary: Summary, record: dict[str, Any], output: AnyPath, formats: Sequence[str]
) -> list[str]:
    """Write the files of an evaluation, and return their names; those of the plots are counted."""
    from camcli.evaluation.export import scores_csv
    from camcli.evaluation.plots import plot_names, plots
    from camcli.evaluation.table import markdown_table

    metrics, rows = (output / name for name in EVALUATION_FILES)
    if metrics.is_file():  # the plots of an earlier evaluation would be taken for those of this one
        for name in plot_names():
            (output / name).unlink(missing_ok=True)
    write(metrics, to_json(record, indent=2))
    write(rows, scores_csv(summary.scores))
    write(output / _TABLE, markdown_table(summary).encode())
    drawn = plots(summary, [".png", *(f".{one}" for one in formats)])
    for name, plot in drawn.items():
        write(output / name, plot)
    plotted = "1 plot" if len(drawn) == 1 else f"{len(drawn)} plots"
    return [*EVALUATION_FILES, _TABLE, plotted]
