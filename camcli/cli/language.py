"""What `camcli ask` and `camcli caption` share: options, and the run that they ask for."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from camcli.cli.options import (
    device_option,
    drawing_options,
    image_options,
    layer_option,
    method_option,
    running_options,
    stack,
    window_options,
)
from camcli.cli.progress import can_preview, shown
from camcli.errors import CamcliError
from camcli.images.find import Source, find
from camcli.images.store import AnyPath

if TYPE_CHECKING:
    from camcli.engine.language.load import Talker
    from camcli.engine.language.prompts import Prompt
    from camcli.runs.job import Job

talking_options = stack(
    click.option(
        "--model",
        metavar="NAME",
        help="A BLIP of the transformers library: the folder that save_pretrained wrote, or a name "
        "on the hub.  [default: Salesforce's base model]",
    ),
    device_option,
    method_option(default="hirescam"),  # of tokens the better one: see the README's table
    layer_option,
    drawing_options,
    window_options,
    image_options,
    running_options,
)


def talk(
    skill: str,
    wish: Callable[[Talker], Prompt],
    line: Callable[[dict[str, Any], AnyPath], str],
    paths: tuple[str, ...],
    *,
    output: AnyPath,
    recursive: bool,
    json: bool,
    quiet: bool,
    preview: bool,
    fail_fast: bool,
    save: tuple[str, ...],
    **options: Any,
) -> int:
    """Explain the `wish` of a model with this skill for the images of PATHS; the exit code."""
    if not paths:
        raise CamcliError("no PATHS: expected files, folders, globs or -")
    if not (sources := find(paths, recursive=recursive, skip=output)):
        raise CamcliError(f"no images in {', '.join(paths)}: nothing to do")
    preview = preview and can_preview(save, quiet=quiet)
    job = _job(skill, wish, sources, output, save=save, **options)
    return shown(job, line, json=json, quiet=quiet, preview=preview, fail_fast=fail_fast)


def _job(
    skill: str,
    wish: Callable[[Talker], Prompt],
    sources: list[Source],
    output: AnyPath,
    *,
    model: str | None,
    device: str,
    method: tuple[str, ...],
    layer: tuple[str, ...],
    save: tuple[str, ...],
    colormap: str,
    alpha: float,
    window: int | None,
    stride: int | None,
    fit: str,
    batch_size: int,
    workers: int | None,
    max_pixels: int,
    skip_existing: bool,
    overwrite: bool,
) -> Job:
    from camcli.capture.windows import Window
    from camcli.engine.language.load import load
    from camcli.models.families import find_layer
    from camcli.render.draw import Style
    from camcli.runs.job import Job

    style = Style(colormap, alpha)
    prompt = wish(load(skill, model, device))
    module = prompt.model.module
    layers = [None if path == "auto" else find_layer(module, path) for path in layer]
    return Job(
        sources=sources,
        model=prompt.model,
        methods=tuple(dict.fromkeys(method)),
        targets=prompt.targets,
        layers=tuple(dict.fromkeys(layers)),
        output=output,
        saves=save,
        fit=fit,
        style=style,
        window=Window(window, stride, batch_size),
        batch_size=batch_size,
        workers=workers or os.cpu_count() or 1,
        max_pixels=max_pixels,
        skip_existing=skip_existing,
        overwrite=overwrite,
        prompt=prompt,
    )
