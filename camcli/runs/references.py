"""The reference images of a run's targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from camcli.capture.similarity import LIKE, LikeTarget
from camcli.capture.target_parser import parse_target
from camcli.capture.targets import Target
from camcli.engine.references import with_embedding
from camcli.errors import TargetError
from camcli.images.decode import STDIN, fetch
from camcli.images.store import parse_path
from camcli.models.model import Model
from camcli.runs.batches import read_image
from camcli.runs.options import InputOptions
from camcli.runs.resume import input_digest


def with_references(
    model: Model, options: InputOptions, targets: Sequence[str | Target]
) -> list[str | Target]:
    """Return each target once, those named `like:REF.jpg` with the embedding of their image.

    The images are read and fitted as those of the run. Raises ImageError and TargetError.
    """
    return [_with_reference(model, options, target) for target in dict.fromkeys(targets)]


def contents_of(targets: Sequence[Target]) -> dict[str, str]:
    """Return the digests of the reference images of targets, by their names."""
    return {target.spec: target.content for target in targets if isinstance(target, LikeTarget)}


def _with_reference(model: Model, options: InputOptions, target: str | Target) -> str | Target:
    if not isinstance(target, str) or not target.strip().startswith(LIKE):
        return target
    parsed = parse_target(target, model.class_names, model.num_classes)
    if not isinstance(parsed, LikeTarget):
        return target
    if parsed.reference == str(STDIN):
        raise TargetError(f"target '{parsed.spec}': expected a file, not standard input")
    file = fetch(parse_path(parsed.reference))
    _, tensor, _ = read_image(file, model, options)
    image = tensor[None].to(model.device, model.dtype)
    return with_embedding(model, replace(parsed, content=input_digest(file, "")), image)
