"""The tasks of `transformers`' networks, and what differs between them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from torch import nn

from camcli.errors import ModelError
from camcli.models.families import resolve_path
from camcli.models.hf_outputs import DETECTORS, PixelClassifier, QueryDetector

Names = Sequence[str] | None
_BACKBONE = "network.model.backbone.model"
"""The backbone of a detector."""


@dataclass(frozen=True)
class HFTask:
    """A task of networks of `transformers`.

    `name` is one of `families.TASKS`, and `classes` the name of the class that builds and loads its
    networks. `wrap` returns a network, whose classes have names, in the form that readers know.
    `layer` returns its automatic layer; None is the one that a traced pass finds.
    """

    name: str
    classes: str
    wrap: Callable[[Any, Names], nn.Module] = lambda network, _: network
    layer: Callable[[nn.Module], str | None] = lambda _: None


def _queries(network: Any, _: Names) -> nn.Module:
    return QueryDetector(network)


def _pixels(network: Any, names: Names) -> nn.Module:
    first = names[0].strip("_").casefold() if names else ""
    return PixelClassifier(network, background=first in ("background", "unlabeled"))


def _last_stage(module: nn.Module) -> str | None:
    """Return the last stage of a backbone of transformers or timm, as for torchvision."""
    backbone = module.get_submodule(_BACKBONE)
    if isinstance(backbone, nn.ModuleDict):  # of timm
        return resolve_path(module, f"{_BACKBONE}.-1")
    stages = getattr(getattr(backbone, "encoder", None), "stages", None)
    return resolve_path(module, f"{_BACKBONE}.encoder.stages.-1") if stages else None


def _last_of_encoder(module: nn.Module) -> str | None:
    """Return the last stage of a SegFormer, as for torchvision's segmentation networks."""
    stages = getattr(getattr(module.get_submodule("network"), "segformer", None), "stages", None)
    return resolve_path(module, "network.segformer.stages.-1") if stages else None


TASKS: Mapping[str, HFTask] = MappingProxyType(
    {
        "ForImageClassification": HFTask("classification", "AutoModelForImageClassification"),
        "ForObjectDetection": HFTask(
            "detection", "AutoModelForObjectDetection", _queries, _last_stage
        ),
        "ForSemanticSegmentation": HFTask(
            "segmentation", "AutoModelForSemanticSegmentation", _pixels, _last_of_encoder
        ),
    }
)
"""The tasks, by a part of the name of an architecture."""


def task_of(config: Any, name: str) -> HFTask:
    """Return the task of a configuration, by default that of classifiers. Raises ModelError."""
    (architecture,) = (config.architectures or [""])[:1]
    task = next((task for kind, task in TASKS.items() if kind in architecture), None)
    if task is None and re.search("Segmentation|Detection", architecture):
        raise ModelError(f"model '{name}' is a {architecture}: expected {', '.join(TASKS)}")
    task = task or TASKS["ForImageClassification"]
    focal = getattr(config, "use_focal_loss", True)
    if task.name == "detection" and (config.model_type not in DETECTORS or not focal):
        rest = "" if focal else " without use_focal_loss"
        raise ModelError(
            f"model '{name}' is a detector of the kind {config.model_type}{rest}: expected one of "
            f"{', '.join(DETECTORS)}"
        )
    return task
