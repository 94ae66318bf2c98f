"""Reference images of targets: their embeddings by the network that is explained."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from camcli.capture.readers import reader_of
from camcli.capture.similarity import LikeTarget, find_embedding
from camcli.capture.targets import Target
from camcli.engine.inputs import prepare_inputs
from camcli.errors import TargetError
from camcli.models.model import Model


def with_embedding(model: Model, target: Target, image: Tensor | None = None) -> Target:
    """Return a target with the embedding of its reference image, if it has one without.

    `image` (1,C,H,W) is the reference as an input of the network, on its device; None prepares it
    as `explain` does. Raises TargetError for a network without pooled embeddings.
    """
    if not isinstance(target, LikeTarget) or target.embedding is not None:
        return target
    found = None
    if model.task == "classification":
        inputs = prepare_inputs(model, target.reference)[0] if image is None else (image,)
        if len(inputs[0]) != 1:
            raise ValueError(f"target '{target.spec}': {len(inputs[0])} images, expected one")
        found = find_embedding(model.module, reader_of(model), inputs)
    if found is None:
        raise TargetError(
            f"target '{target.spec}' needs a classifier whose scores are a linear map of a pooled "
            f"embedding, and {model.name} is none"
        )
    return replace(target, reader=found[0], embedding=found[1].cpu())
