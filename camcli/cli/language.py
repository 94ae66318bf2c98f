"""The options and the run of `camcli ask` and `camcli caption`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from camcli.cli.input_options import input_options, recursive_option
from camcli.cli.method_option import method_option
from camcli.cli.network_options import device_option
from camcli.cli.options import (
    drawing_options,
    grouped,
    layer_option,
    output_option,
    record,
    run_options,
    stack,
    window_options,
)
from camcli.cli.progress import checked_preview, shown
from camcli.cli.show import ShowOptions, show_options
from camcli.errors import CamcliError
from camcli.images.find import find
from camcli.images.store import AnyPath
from camcli.runs.options import DrawingOptions, ExplainOptions, InputOptions, RunOptions

if TYPE_CHECKING:
    from camcli.engine.language.load import LanguageModel
    from camcli.engine.language.prompts import Query

language_options: Callable[[Callable[..., Any]], Callable[..., Any]] = stack(
    grouped(
        "Network",
        click.option(
            "--model",
            "-m",
            metavar="NAME",
            help="A BLIP of the transformers library: a folder that save_pretrained wrote, or a "
            "name on the hub.  [default: Salesforce's base model]",
        ),
    ),
    device_option,
    record(
        ExplainOptions,
        "explained",
        method_option(default="hirescam"),  # the best at tokens: see docs/language.md
        layer_option,
        window_options,
        methods="method",
        layers="layer",
    ),
    output_option,
    drawing_options(),
    input_options,
    recursive_option,
    run_options,
    show_options,
)


def explain_texts(
    skill: str,
    query_of: Callable[[LanguageModel], Query],
    paths: tuple[str, ...],
    *,
    model: str | None,
    device: str,
    explained: ExplainOptions,
    output: AnyPath,
    drawing: DrawingOptions,
    inputs: InputOptions,
    recursive: bool,
    options: RunOptions,
    show: ShowOptions,
) -> int:
    """Explain the texts of a query for the images in PATHS, and return the exit code."""
    if not paths:
        raise CamcliError("no PATHS: expected files, folders, globs or -")
    if not (sources := find(paths, recursive=recursive, skip=output)):
        raise CamcliError(f"no images in {', '.join(paths)}: nothing to do")
    show = checked_preview(show, drawing)

    from camcli.engine.language.load import load_language_model
    from camcli.runs.from_options import make_job

    query = query_of(load_language_model(skill, model, device))
    job = make_job(
        *(sources, query.model, output, explained, drawing, inputs, options),
        targets=query.targets,
    )
    return shown(job, show)
