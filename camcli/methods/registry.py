"""The registry METHODS, and EVIDENCE, which methods request by their parameter names.

A new method is one function in `maps`. A new kind of evidence is one row in EVIDENCE. Neither needs
a change anywhere else: the watched layers, the backward passes, the errors for unsuitable networks
and the sizes of batches follow from the rows.

torch is imported for types only, so that `camcli --help` can list the methods without it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

Where: TypeAlias = Literal["layer", "input", "output"]
"""Where evidence is taken: at the target layer, at the input image, or at the network's output."""
Cost: TypeAlias = Literal[
    "nothing", "backward", "backward per class", "another pass", "forwards", "vmapped forwards"
]
"""The cost of evidence beside the watched forward pass. `another pass` has a graph of all blocks.
`forwards` run on changed images, `Window.batch_size` at once; `vmapped forwards` run on changed
copies of the layer's map."""
Requirement: TypeAlias = Literal["head", "relu", "attention", "softmax", "classes", "one class"]
"""Requirements of evidence: a head that CAM can read, a ReLU to guide, attention among all tokens,
a softmax over class scores, a score that is a weighted sum of classes, or the unchanged score of
one class."""


@dataclass(frozen=True)
class EvidenceKind:
    """One kind of evidence.

    `take` computes it from a `capture.evidence.Evidence`. None reads the property of the same name.
    """

    shape: str
    meaning: str
    where: Where
    cost: Cost = "nothing"
    requires: tuple[Requirement, ...] = ()
    take: Callable[[Any], Any] | None = None


_evidence: dict[str, EvidenceKind] = {
    "acts": EvidenceKind("(N,C,h,w)", "A, the target layer's output", "layer"),
    "grads": EvidenceKind("(N,C,h,w)", "g = dS/dA", "layer", "backward"),
    "log_grads": EvidenceKind(
        "(N,C,h,w)",
        "d log Y / dA, Y the softmax of the class",
        "layer",
        "backward",
        ("softmax", "one class"),
    ),
    "mean_square": EvidenceKind(
        "(N,C,h,w)",
        "mean over all classes of their squared log_grads, weighted by their Y",
        "layer",
        "backward per class",
        ("softmax",),
    ),
    "mean_cube": EvidenceKind(
        "(N,C,h,w)",
        "mean over all classes of their cubed log_grads, weighted by their Y",
        "layer",
        "backward per class",
        ("softmax",),
    ),
    "pooled": EvidenceKind(
        "(N,C,h,w)", "the map that the head averages over space", "layer", requires=("head",)
    ),
    "weights": EvidenceKind(
        "(N,C)",
        "the head's weights for the target, one per channel of `pooled`",
        "output",
        requires=("head", "classes"),
    ),
    "bias": EvidenceKind(
        "(N,)",
        "what a convolutional head adds at each position, zero for a linear head",
        "output",
        requires=("head", "classes"),
    ),
    "masked": EvidenceKind(
        "(N,C)", "S on the image times each channel, scaled to 0..1", "layer", "forwards"
    ),
    "ablated": EvidenceKind(
        "(N,C)", "S with each channel of the layer set to zero", "layer", "vmapped forwards"
    ),
    "vertical": EvidenceKind(
        "(H,h)", "the weights of the map's rows in each row of the input", "layer"
    ),
    "horizontal": EvidenceKind(
        "(w,W)", "the weights of the map's columns in each column of the input", "layer"
    ),
    "attention": EvidenceKind(
        "L times (N,H,Q,T)",
        "A, the weights of each of L attentions, by which H heads of Q tokens attend to T tokens",
        "layer",
        "another pass",
        ("attention",),
    ),
    "attention_grads": EvidenceKind(
        "L times (N,H,Q,T)", "dS/dA of each", "layer", "backward", ("attention",)
    ),
    "block_grads": EvidenceKind(
        "L times (N,H,Q,T)",
        "ds/dA of each, s the score of the block's own tokens by the rest of the network",
        "layer",
        "backward",
        ("attention",),
    ),
    "reading": EvidenceKind(
        "(N,Q)",
        "the shares of the tokens of the last attention in those that the score reads",
        "layer",
        "another pass",
        ("attention",),
    ),
    "cells": EvidenceKind(
        "(h,w)", "the index of the token of each cell", "layer", requires=("attention",)
    ),
    "guided": EvidenceKind(
        "(N,3,H,W)", "dS/d(input) under the guided ReLU rule", "input", "backward", ("relu",)
    ),
    "score": EvidenceKind("(N,)", "S on the whole image", "output"),
    "occluded": EvidenceKind(
        "(N,r,c)", "S with the window grey, at each of its positions", "output", "forwards"
    ),
    "rows": EvidenceKind(
        "(r,H)", "1 where the window at a vertical position covers a row, else 0", "output"
    ),
    "columns": EvidenceKind(
        "(c,W)", "1 where the window at a horizontal position covers a column, else 0", "output"
    ),
}
EVIDENCE = MappingProxyType(_evidence)


@dataclass(frozen=True)
class Method:
    """A registered method.

    `needs` are the rows of EVIDENCE that it requests. `signed` means that negative values carry
    meaning, so that the map is drawn around zero. `image` means that the result is (N,3,H,W) at the
    input's size instead of a map (N,h,w). `trainable` means that a loss can be put on its maps,
    which requires a method of activations and gradients only.
    """

    name: str
    function: Callable[..., Tensor]
    source: str
    needs: frozenset[str]
    signed: bool
    image: bool
    trainable: bool

    @property
    def summary(self) -> str:
        """The first line of the function's docstring."""
        return (inspect.getdoc(self.function) or "").split("\n", 1)[0]

    @property
    def title(self) -> str:
        """The method's name in papers: the beginning of `summary`."""
        return re.split("[:,]", self.summary, maxsplit=1)[0]

    @property
    def kinds(self) -> tuple[EvidenceKind, ...]:
        """The rows of EVIDENCE that the method requests."""
        return tuple(EVIDENCE[name] for name in sorted(self.needs))

    @property
    def at_layer(self) -> bool:
        """True if some of its evidence is taken at a layer."""
        return any(kind.where == "layer" for kind in self.kinds)

    @property
    def requires(self) -> frozenset[Requirement]:
        """Its requirements on the network and the target."""
        return frozenset(need for kind in self.kinds for need in kind.requires)

    @property
    def reruns(self) -> bool:
        """True if it runs the network on changed images, `Window.batch_size` of them at once."""
        return any(kind.cost == "forwards" for kind in self.kinds)


AUTO = "auto"
"""The name that stands for the method recommended for a network."""

_methods: dict[str, Method] = {}
METHODS = MappingProxyType(_methods)


def register(
    name: str, *, source: str, signed: bool = False, image: bool = False, trainable: bool = False
) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Add a function to METHODS under `name`. Its parameter names must be rows of EVIDENCE."""

    def add(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        needs = frozenset(inspect.signature(function).parameters)
        if name in _methods:
            raise ValueError(f"method {name!r} is registered twice")
        if unknown := needs - EVIDENCE.keys():
            raise ValueError(
                f"method {name!r} asks for {sorted(unknown)}: expected names of {list(EVIDENCE)}"
            )
        if trainable and needs != {"acts", "grads"}:
            raise ValueError(f"method {name!r}: a trainable method needs acts and grads only")
        _methods[name] = Method(name, function, source, needs, signed, image, trainable)
        return function

    return add


def register_evidence(name: str, kind: EvidenceKind) -> None:
    """Add a row to EVIDENCE, for methods registered after it."""
    if name in _evidence:
        raise ValueError(f"evidence {name!r} is registered twice")
    _evidence[name] = kind
