"""The method of the name `auto`: the one that docs/quality.md recommends for the target layer."""

from __future__ import annotations

from typing import Any, NamedTuple

from camcli.engine.inputs import noise_for
from camcli.engine.survey import layouts_at, with_target_layer
from camcli.models.families import Layer, find_layer
from camcli.models.model import Model

FOR_MAPS, FOR_TOKENS, FOR_OBJECTS = "gradcam", "layercam", "layercam"
"""The methods for maps of convolutions, for tokens of a transformer, and for single objects.

Each token keeps its own meaning, so that the mean gradient of Grad-CAM fits none of them. Nor does
a mean over all places tell two objects of a class apart.
"""
_TOKENS = 3
"""The number of dimensions of tokens (N,T,C)."""


class Recommendation(NamedTuple):
    """The name of a method, and the kind of layer that it is recommended for, in words."""

    method: str
    reason: str


def recommended_method(
    model: Model, layer: Layer | None = None, inputs: tuple[Any, ...] | None = None
) -> Recommendation:
    """Return the recommended method for a layer; None is the automatic one.

    A traced forward pass over `inputs`, or over an image of noise, finds out what is not recorded
    of the network. Raises ModelError for a layer that cannot be found, or that gives no map.
    """
    inputs = inputs or (noise_for(model),)
    path = find_layer(model.module, layer) if layer else with_target_layer(model, inputs).layer
    assert path is not None
    if model.task == "detection":
        return Recommendation(FOR_OBJECTS, f"single objects at layer '{path}'")
    tokens = layouts_at(model.module, [path], inputs)[path].ndim == _TOKENS
    if tokens:
        return Recommendation(FOR_TOKENS, f"the tokens of layer '{path}'")
    return Recommendation(FOR_MAPS, f"the maps of layer '{path}'")
