"""What `camcli ask` and `camcli caption` share: options, and the job from them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
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
from camcli.errors import CamcliError
from camcli.images import Source, find

if TYPE_CHECKING:
    from camcli.job import Job
    from camcli.language.loading import Talker
    from camcli.language.prompts import Prompt

talking_options = stack(
    click.option(
        "--model",
        metavar="NAME",
        help="A BLIP of the transformers library: the folder that save_pretrained wrote, or a name "
        "on the hub.  [default: Salesforce's base model]",
    ),
    device_option,
    method_option,
    layer_option,
    drawing_options,
    window_options,
    image_options,
    running_options,
)


def sources_of(paths: tuple[str, ...], output: Path, *, recursive: bool) -> list[Source]:
    """The images of PATHS. Raises CamcliError where there is none."""
    if not paths:
        raise CamcliError("no PATHS: expected files, folders, globs or -")
    if not (sources := find(paths, recursive=recursive, skip=output)):
        raise CamcliError(f"no images in {', '.join(paths)}: nothing to do")
    return sources


def job_of(
    skill: str,
    wish: Callable[[Talker], Prompt],
    sources: list[Source],
    output: Path,
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
    **_: Any,
) -> Job:
    """A job that explains the `wish` of a model with this skill."""
    from camcli.capture import Window
    from camcli.families import find_layer
    from camcli.job import Job
    from camcli.language.loading import load
    from camcli.render import Style

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
