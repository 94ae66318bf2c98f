"""`camcli audit`: findings from an output folder whose images have true classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from camcli.audit.conditions import MEASURES, Condition, parse_condition
from camcli.cli import DIFFERS, DONE
from camcli.cli.complete import complete_layer
from camcli.cli.help import command
from camcli.cli.network_options import model_options
from camcli.cli.options import flag, grouped, list_option, rare
from camcli.cli.page_options import images_option, page_option, size_option
from camcli.cli.preprocessing import load_network, preprocess_options
from camcli.cli.printing import echo, echo_json, show_name
from camcli.cli.types import FILE_PATH, Location, Name
from camcli.errors import CamcliError, spelled
from camcli.evaluation.annotations import ANNOTATION_FORMATS
from camcli.images.store import AnyPath
from camcli.methods.registry import METHODS
from camcli.models.options import ModelOptions, PreprocessOptions
from camcli.runs.files import to_json, write
from camcli.runs.manifest import Row, read_run

if TYPE_CHECKING:
    from camcli.audit.interventions import Laboratory
    from camcli.audit.read import Selection
    from camcli.audit.samples import Samples

PAGE = "audit.html"


@command(
    {
        "camcli audit judged": "confusions and suspicions",
        "camcli audit judged -m resnet50": "test each suspicion",
        "camcli audit judged --fail-if 'accuracy<0.9'": "exit with 3 if it holds",
    }
)
@click.argument("folder", metavar="DIR", type=Location())
@grouped(
    "Input",
    click.option(
        "--method",
        metavar="M",
        shell_complete=Name("method", METHODS).shell_complete,
        help="The method of the maps.  [default: the only one]",
    ),
    click.option("--target", metavar="T", help="The target of the maps.  [default: the only one]"),
    click.option(
        "--layer",
        metavar="L",
        shell_complete=complete_layer,
        help="The layer of the maps.  [default: the only one]",
    ),
    click.option(
        "--boxes",
        metavar="FORMAT:PATH",
        help=f"Annotations, as {', '.join(ANNOTATION_FORMATS)}: how much of the heat is in objects "
        "of the true class.",
    ),
    click.option(
        "--class-map",
        type=FILE_PATH,
        metavar="FILE",
        help="The model's classes, by index, for each label of the images and annotations, as for "
        "camcli explain.  [default: by name]",
    ),
)
@images_option
@preprocess_options
@model_options
@grouped(
    "Output",
    page_option(PAGE),
    list_option(
        "--fail-if",
        "CONDITION",
        f"Exit with 3 if it holds, as accuracy<0.9 or suspects>0: {', '.join(MEASURES)}.",
    ),
    size_option(32, "The size limit for the pictures of examples in the page."),
    rare(
        click.option(
            "--seed",
            type=click.IntRange(0, 2**32 - 1),
            default=0,
            metavar="N",
            help="Seed of everything random.",
        )
    ),
    flag("--json", "Print the record of the audit as JSON."),
    flag("--quiet", "Print errors, warnings and failed conditions only."),
)
def audit(
    folder: AnyPath,
    *,
    boxes: str | None,
    class_map: Path | None,
    model: ModelOptions,
    preprocessing: PreprocessOptions,
    images: tuple[AnyPath, ...],
    fail_if: tuple[str, ...],
    seed: int,
    output: AnyPath | None,
    size: int,
    json: bool,
    quiet: bool,
    **selection: Any,
) -> int:
    """Find what goes wrong in DIR, an output folder of camcli explain --truth --save map.

    Suspected shortcuts come first, then confusions of classes, and where the heat of each class
    lies. With --model, the network runs again on changed images, which confirms a suspicion or
    drops it. A page with pictures is written beside the maps. DIR may be on a store, such as
    s3://bucket/heat.
    """
    from camcli.audit.read import Selection
    from camcli.audit.record import audit_record

    wanted = [parse_condition(text) for text in fail_if]
    if any(one.measure == "inside" for one in wanted) and not boxes:
        raise CamcliError("--fail-if inside without --boxes: expected both")
    run, error = read_run(folder)
    if error:
        raise CamcliError(f"'{folder}': unreadable {error}")
    selection["method"] = selection["method"] and spelled(selection["method"], METHODS)
    samples = _samples(folder, Selection(**selection), boxes, class_map)
    laboratory = _laboratory(samples, run, model, preprocessing, images, seed, quiet)
    record = audit_record(samples, run, laboratory.tests if laboratory else None, seed)
    file = output or folder / PAGE
    _write_page(record, samples, file, images, size)
    _print(record, file, json, quiet)
    return _check(record, wanted)


def _samples(
    folder: AnyPath, selection: Selection, boxes: str | None, class_map: Path | None
) -> Samples:
    from camcli.audit.read import read_samples

    if not (boxes or class_map):
        return read_samples(folder, selection)
    from camcli.audit.objects import coverage, labels_by_class  # imports torch
    from camcli.runs.class_map import class_finder

    finder = class_finder(class_map, None, None) if class_map else None
    covered = coverage(boxes, finder) if boxes else None
    return read_samples(folder, selection, covered, labels_by_class(finder) if finder else {})


def _laboratory(
    samples: Samples,
    run: Row,
    model: ModelOptions,
    preprocessing: PreprocessOptions,
    images: Sequence[AnyPath],
    seed: int,
    quiet: bool,
) -> Laboratory | None:
    """Load the network if --model was given."""
    context = click.get_current_context()
    if context.get_parameter_source("model") in (ParameterSource.DEFAULT, None):
        return None
    from camcli.audit.network import open_laboratory

    network = load_network(model, preprocessing, quiet=quiet)
    return open_laboratory(samples, run, network, images, seed)


def _write_page(
    record: dict[str, Any], samples: Samples, file: AnyPath, images: Sequence[AnyPath], size: int
) -> None:
    from camcli.report.audit_page import audit_page  # imports OpenCV

    write(file, audit_page(record, samples.examples, samples.folder, file, images, size))


def _print(record: dict[str, Any], page: AnyPath, json: bool, quiet: bool) -> None:
    from camcli.audit.tables import audit_lines

    if json:
        echo_json(to_json(record))
    elif not quiet:
        for line in audit_lines(record):
            echo(line)
        echo(f"-> {show_name(page)}")


def _check(record: dict[str, Any], conditions: Sequence[Condition]) -> int:
    """Print the conditions that hold, and return the exit code."""
    failures = [line for one in conditions if (line := one.failure(record))]
    for line in failures:
        echo(f"Failed: {line}", err=True)
    return DIFFERS if failures else DONE
