"""Families of torchvision's networks: what has to be known of each, and cannot be asked of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from torch import nn

from camcli.errors import ModelError, nearest
from camcli.models.layouts import PLAIN, Layout, Rule, channels_last, patches, windows
from camcli.models.torchvision import models as zoo


@dataclass(frozen=True)
class ModelSpec:
    """What has to be known of a family of networks, and cannot be asked of torchvision.

    `layer` is the last feature map before the head; a negative number counts a Sequential's parts
    from the end. `head` is the linear map of a GAP head (see capture.Head), or None where the head
    is another one and CAM undefined. `layouts` are the layers whose output is no (N,C,h,w), as
    patterns of their paths, and their layout. `build` are arguments for the constructor; weights
    whose key starts with one of `unused` serve training alone; `renamed` mends the keys of old
    files. `positions` is the weight with a row per token, which holds a network to one input size.
    `task` is one of TASKS. `exact` are names whose first published weights were made with
    normalisations that add nothing to the variance.
    """

    layer: str
    head: str | None = None
    rectified: bool = False
    layouts: tuple[tuple[str, Rule], ...] = ()
    build: Mapping[str, Any] = field(default_factory=dict)
    pretrained: Mapping[str, Any] = field(default_factory=dict)
    unused: tuple[str, ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()
    positions: str | None = None
    task: str = "classification"
    exact: tuple[str, ...] = ()


TASKS = MappingProxyType(
    {"classification": zoo, "segmentation": zoo.segmentation, "detection": zoo.detection}
)
"""What networks are for, and torchvision's module of each."""


SPECS: Mapping[str, ModelSpec] = MappingProxyType(
    {
        "alexnet": ModelSpec("features.-2"),
        "vgg": ModelSpec("features.-2", build={"init_weights": False}),
        "resnet": ModelSpec("layer4", head="fc"),
        "squeezenet": ModelSpec("features", head="classifier.1"),
        "densenet": ModelSpec(
            "features",
            head="classifier",
            rectified=True,
            renamed=((r"(denselayer\d+\.(?:norm|conv))\.(\d)\.", r"\1\2."),),
        ),
        "googlenet": ModelSpec(
            "inception5b",
            head="fc",
            build={"aux_logits": False, "init_weights": False},
            pretrained={"transform_input": True},
            unused=("aux1.", "aux2."),
        ),
        "inception": ModelSpec(
            "Mixed_7c",
            head="fc",
            build={"aux_logits": False, "init_weights": False},
            pretrained={"transform_input": True},
            unused=("AuxLogits.",),
        ),
        "mobilenetv2": ModelSpec("features", head="classifier.1"),
        "mobilenetv3": ModelSpec("features"),
        "mnasnet": ModelSpec("layers", head="classifier.1"),
        "shufflenetv2": ModelSpec("conv5", head="fc"),
        "efficientnet": ModelSpec("features", head="classifier.1"),
        "regnet": ModelSpec("trunk_output", head="fc"),
        "convnext": ModelSpec(
            "features", layouts=((r"features\.\d+\.\d+\.block\.[1-5]", channels_last),)
        ),
        "swin_transformer": ModelSpec(
            "permute", head="head", layouts=((r"features(?!\.0\.0$).*|norm", channels_last),)
        ),
        "vision_transformer": ModelSpec(
            # Behind the last attention nothing but the class token goes on to the head.
            "encoder.layers.-1.ln_1",
            layouts=((r"encoder(\..+)?", patches),),
            renamed=((r"mlp\.linear_1\.", "mlp.0."), (r"mlp\.linear_2\.", "mlp.3.")),
            positions="encoder.pos_embedding",
        ),
        "maxvit": ModelSpec(
            "blocks.-1",
            layouts=((r"blocks\..+_attention\.(?!departition_op$).+", windows),),
        ),
        **{
            family: ModelSpec(
                "backbone.-1",
                build={"weights_backbone": None},
                pretrained={"weights_backbone": None},
                unused=("aux_classifier.",),
                task="segmentation",
            )
            for family in ("fcn", "deeplabv3", "lraspp")
        },
        **{
            family: ModelSpec(
                layer,
                build={"weights_backbone": None},
                pretrained={"weights_backbone": None},
                task="detection",
                exact=exact,
            )
            for family, layer, exact in (
                ("faster_rcnn", "backbone.body.-1", ("fasterrcnn_resnet50_fpn",)),
                ("mask_rcnn", "backbone.body.-1", ("maskrcnn_resnet50_fpn",)),
                ("keypoint_rcnn", "backbone.body.-1", ("keypointrcnn_resnet50_fpn",)),
                ("retinanet", "backbone.body.-1", ("retinanet_resnet50_fpn",)),
                ("fcos", "backbone.body.-1", ()),
                ("ssd", "backbone.features", ()),
                ("ssdlite", "backbone.features.0", ()),
            )
        },
    }
)
"""Facts by family: the torchvision module that a model's builder lives in. For every other network,
and for modules that a caller built, `survey` finds layer and head in a traced forward pass."""


TOWERS: Mapping[str, ModelSpec] = MappingProxyType(
    {
        "transformers.models.blip.modeling_blip.BlipVisionModel": ModelSpec(
            # The tokens as the text's decoder reads them. Before a norm of each token by itself
            # the gradient is at right angles to the token, and their products sum to nothing.
            "post_layernorm",
            layouts=(
                (
                    r"embeddings|post_layernorm"
                    r"|encoder\.layers\.\d+(\.(layer_norm[12]|mlp(\..+)?))?",
                    patches,
                ),
            ),
            positions="embeddings.position_embedding",
        ),
    }
)
"""Facts on the parts that see, of networks of the `transformers` library, by their class."""


def model_names(*tasks: str) -> list[str]:
    """The names of torchvision's models for these tasks; without one, for classification."""
    wanted = tasks or ("classification",)
    return [name for task in wanted for name in zoo.list_models(module=TASKS[task])]


def family(name: str) -> str:
    """The family of a torchvision model: the module that its builder lives in."""
    return str(zoo.get_model_builder(name).__module__.rpartition(".")[2])


def task_of(name: str) -> str:
    """What a torchvision model is for, one of TASKS."""
    spec = spec_named(name)
    return spec.task if spec else "classification"


def spec_named(name: str) -> ModelSpec | None:
    return SPECS.get(family(name))


def spec_of(module: nn.Module) -> ModelSpec | None:
    """The row of a network of torchvision's or another library's class, however it was made."""
    home, _, family = type(module).__module__.rpartition(".")
    if home == zoo.__name__:
        return SPECS.get(family)
    return TOWERS.get(f"{home}.{family}.{type(module).__qualname__}")


def row_layer(module: nn.Module) -> str | None:
    """The layer of a network of tokens that a caller built, where its class has a row.

    No trace shows through which layers the patches still reach the score; whatever else there is
    to know of other networks, `survey` finds in one.
    """
    spec = spec_of(module)
    return resolved(module, spec.layer) if spec and spec.positions else None


def layout_of(module: nn.Module, path: str) -> Layout:
    """The layout of a layer's output, by the row of the network that the layer is part of.

    That may be the whole, or a network of a library inside a network of one's own.
    """
    parts = path.split(".")
    for depth in range(len(parts)):
        network = module.get_submodule(".".join(parts[:depth]))
        inner = ".".join(parts[depth:])
        for pattern, rule in ((spec := spec_of(network)) and spec.layouts) or ():
            if re.fullmatch(pattern, inner):
                return rule(network, inner)
    return PLAIN


def find_layer(module: nn.Module, path: str) -> str:
    """The canonical path of a layer given by a user. Raises ModelError with the nearest paths."""
    with suppress(AttributeError, IndexError):
        if path:
            return resolved(module, path)
    paths = [known for known, _ in module.named_modules() if known]
    raise ModelError(f"unknown layer '{path}': did you mean {nearest(path, paths)}?")


_NUMBERED = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
"""Containers whose parts can be counted from the end."""


def resolved(module: nn.Module, path: str) -> str:
    parts: list[str] = []
    for part in path.split("."):
        if isinstance(module, _NUMBERED) and re.fullmatch(r"-\d+", part):
            part = list(dict(module.named_children()))[int(part)]
        module = module.get_submodule(part)
        parts.append(part)
    return ".".join(parts)
