"""Make the job of a user's options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from camcli.capture.target_parser import split_targets
from camcli.capture.targets import Target
from camcli.capture.windows import Window
from camcli.errors import CamcliError
from camcli.images.source import Source
from camcli.images.store import AnyPath
from camcli.models.families import find_layer
from camcli.models.model import Model
from camcli.render.boxes import BoxRule
from camcli.render.style import Style
from camcli.runs.filters import Filter
from camcli.runs.job import Job
from camcli.runs.options import DrawingOptions, ExplainOptions, InputOptions, RunOptions
from camcli.runs.outputs import OUTPUTS
from camcli.runs.references import with_references
from camcli.runs.shards import Shard
from camcli.runs.truth import Truth


def make_job(
    sources: Sequence[Source],
    model: Model,
    output: AnyPath,
    explained: ExplainOptions,
    drawing: DrawingOptions,
    inputs: InputOptions,
    options: RunOptions,
    *,
    targets: Sequence[str | Target] = (),
    truth: Truth | None = None,
    only: Sequence[Filter] = (),
    shard: Shard | None = None,
) -> Job:
    """Return the job for a user's options, each method, target and layer once. Raises CamcliError.

    `targets` replace those of `explained`.
    """
    split = split_targets(explained.targets, model.class_names, model.num_classes)
    given = targets or replace(explained, targets=split).every_target
    rule = BoxRule(drawing.boxes, drawing.box_threshold)
    if rule != BoxRule() and not any(OUTPUTS[name].boxes for name in drawing.saves):
        raise CamcliError("--boxes and --box-threshold apply to --save boxes: add boxes to --save")
    layers = [
        None if path == "auto" else find_layer(model.module, path) for path in explained.layers
    ]
    return Job(
        sources=sources,
        model=model,
        methods=tuple(dict.fromkeys(explained.methods)),
        targets=with_references(model, inputs, given),
        output=output,
        layers=tuple(dict.fromkeys(layers)),
        fuse=explained.fuse,
        backward_rule=explained.backward_rule,
        region=explained.region,
        saves=drawing.saves,
        style=Style(drawing.colormap, drawing.alpha, drawing.blend),
        scale=drawing.scale,
        picture_format=drawing.format,
        layout=drawing.layout,
        save_to=drawing.save_to,
        boxes=rule,
        window=Window(explained.window, explained.stride, inputs.batch_size),
        truth=truth,
        only=only,
        inputs=inputs,
        options=options,
        shard=shard,
    )
