"""The methods that docs/quality.md recommends for a target layer, the best ones first."""

from __future__ import annotations

from typing import Any, NamedTuple

from camcli.engine.survey import layouts_at, with_target_layer
from camcli.models.families import Layer, find_layer
from camcli.models.model import Model

FOR_MAPS: tuple[str, ...] = ("gradcam",)
FOR_OBJECTS: tuple[str, ...] = ("layercam",)
"""The methods for maps of convolutions, and for single objects.

The mean gradient over all places does not tell two objects of a class apart.
"""
FOR_TOKENS: tuple[str, ...] = ("legrad", "layercam")
"""The methods for tokens of a transformer. Not every transformer allows the first one."""
_TOKENS = 3
"""The number of dimensions of tokens (N,T,C)."""


class Recommendation(NamedTuple):
    """The name of a method, and what it is recommended for, in words."""

    method: str
    reason: str


def recommendations(
    model: Model, inputs: tuple[Any, ...], layer: Layer | None = None
) -> list[Recommendation]:
    """Return the recommended methods for a layer, the best one first; None is the automatic one.

    A traced forward pass over `inputs` finds out what is not recorded of the network. Raises
    ModelError for a layer that cannot be found, or that gives no map.
    """
    path = find_layer(model.module, layer) if layer else with_target_layer(model, inputs).layer
    assert path is not None
    if model.task == "detection":
        methods, reason = FOR_OBJECTS, "single objects at"
    elif layouts_at(model.module, [path], inputs)[path].ndim == _TOKENS:
        methods, reason = FOR_TOKENS, "the tokens of"
    else:
        methods, reason = FOR_MAPS, "the maps of"
    return [Recommendation(method, f"{reason} layer '{path}'") for method in methods]
