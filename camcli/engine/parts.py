"""Explanations with a map for each of several parts, such as the classes of the target `p>T`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from camcli.capture.parted import PartedTarget
from camcli.engine.explanation import Explanation


def join(parts: Sequence[Explanation]) -> Explanation:
    """Return one explanation with the maps (N,P,h,w) of P parts.

    Classes, their scores, probabilities and boxes become (N,P,...). The scores of texts are added.
    """
    first = parts[0]
    names = ("maps", "scores", "classes", "probabilities", "boxes", "drawn")
    columns = {name: [getattr(part, name) for part in parts] for name in names}
    stacked: dict[str, Any] = {
        name: torch.stack(column, 1) for name, column in columns.items() if column[0] is not None
    }
    if first.classes is None:
        maps, drawn = stacked["maps"], stacked.get("drawn")
        return replace(first, maps=maps, drawn=drawn, scores=stacked["scores"].sum(1))
    return replace(first, **stacked)


def only_there(target: PartedTarget, shown: Explanation) -> Explanation:
    """Return an explanation without the parts of other images: class -1, NaN and a map of zeros."""
    assert shown.classes is not None
    assert shown.probabilities is not None
    there = target.is_there(shown.classes, shown.probabilities)
    nothing = torch.full_like(shown.scores, torch.nan)

    def kept(maps: Tensor) -> Tensor:
        return maps * there.view(*there.shape, *[1] * (maps.ndim - 2))

    return replace(
        shown,
        maps=kept(shown.maps),
        drawn=None if shown.drawn is None else kept(shown.drawn),
        scores=shown.scores.where(there, nothing),
        classes=shown.classes.where(there, -1),
        probabilities=shown.probabilities.where(there, nothing.to(shown.probabilities)),
    )
