"""Facts about families of networks that cannot be read from the networks themselves."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeAlias

from torch import nn
from torch.jit import ScriptModule

from camcli.errors import ModelError, nearest
from camcli.models import torchvision
from camcli.models.layouts import PLAIN, Layout, Rule, channels_last, maxvit_windows, patch_tokens

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


@dataclass(frozen=True)
class ModelSpec:
    """The facts of one family of networks.

    layer: the last feature map before the head; a negative number counts from the end of a
        Sequential.
    head: the linear map that CAM reads (see `Head`); None if CAM is not defined.
    rectified: whether a functional ReLU follows the layer.
    layouts: the layers whose output is not (N,C,h,w): patterns of their paths, and their layout.
    build: arguments for the constructor.
    pretrained: further arguments, for networks with published weights.
    unused: prefixes of weights that are used in training only.
    renamed: patterns and replacements for the keys of old weights files.
    positions: the weight with one row per token, which fixes the input size.
    task: one of TASKS.
    zero_eps: the networks whose first published weights were made with batch normalisations that
        have an epsilon of 0.
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
    zero_eps: tuple[str, ...] = ()


TASKS = MappingProxyType(
    {
        "classification": torchvision.models,
        "segmentation": torchvision.models.segmentation,
        "detection": torchvision.models.detection,
    }
)
"""The tasks of networks, and the torchvision module of each."""

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
            # After the last attention only the class token reaches the head.
            "encoder.layers.-1.ln_1",
            layouts=((r"encoder(\..+)?", patch_tokens),),
            renamed=((r"mlp\.linear_1\.", "mlp.0."), (r"mlp\.linear_2\.", "mlp.3.")),
            positions="encoder.pos_embedding",
        ),
        "maxvit": ModelSpec(
            "blocks.-1",
            layouts=((r"blocks\..+_attention\.(?!departition_op$).+", maxvit_windows),),
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
                zero_eps=names,
            )
            for family, layer, names in (
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
"""Facts by family, which is the torchvision module that defines a network.

For all other networks `find_layer_and_head` finds layer and head in a traced forward pass."""

VISION_ENCODERS: Mapping[str, ModelSpec] = MappingProxyType(
    {
        "transformers.models.blip.modeling_blip.BlipVisionModel": ModelSpec(
            # The tokens as the text decoder reads them. Before the layer norm, which acts on each
            # token alone, the gradient is orthogonal to the token, so their products sum to zero.
            "post_layernorm",
            layouts=(
                (
                    r"embeddings|post_layernorm"
                    r"|encoder\.layers\.\d+(\.(layer_norm[12]|mlp(\..+)?))?",
                    patch_tokens,
                ),
            ),
            positions="embeddings.position_embedding",
        ),
    }
)
"""Facts about the vision encoders of the `transformers` library, by their class."""


def model_names(*tasks: str) -> list[str]:
    """Return the names of torchvision's networks for some tasks; the default is classification."""
    wanted = tasks or ("classification",)
    return [name for task in wanted for name in torchvision.models.list_models(module=TASKS[task])]


def family(name: str) -> str:
    """Return the family of a torchvision network: the name of the module that defines it."""
    return str(torchvision.models.get_model_builder(name).__module__.rpartition(".")[2])


def spec_of_name(name: str) -> ModelSpec:
    """Return the facts of a torchvision network; without a layer if none are recorded."""
    return SPECS.get(family(name), ModelSpec(""))


def spec_of_module(module: nn.Module) -> ModelSpec | None:
    """Return the facts of a network by its class in torchvision or `transformers`.

    A subclass has the facts of its base class, unless it has another forward pass.
    """
    for base in type(module).__mro__:
        spec = _spec_of_class(base)
        if spec and getattr(base, "forward", None) is type(module).forward:
            return spec
    return None


def _spec_of_class(kind: type) -> ModelSpec | None:
    home, _, family = kind.__module__.rpartition(".")
    if home == torchvision.models.__name__:
        return SPECS.get(family)
    return VISION_ENCODERS.get(f"{home}.{family}.{kind.__qualname__}")


def recorded_layer(module: nn.Module) -> str | None:
    """Return the target layer of a transformer by its class; None if it has none recorded.

    A traced pass cannot find through which layers of tokens the patches reach the score. For
    other networks `find_layer_and_head` finds the layer.
    """
    spec = spec_of_module(module)
    return resolve_path(module, spec.layer) if spec and spec.positions else None


def recorded_layout(module: nn.Module, path: str) -> Layout | None:
    """Return the layout of a layer's output by the facts of its network; None without facts.

    They are recorded for the network or for a part of it, such as a library's network inside
    another. Layers that no pattern matches are (N,C,h,w) there, unless a part of another origin has
    replaced them.
    """
    parts = path.split(".")
    owners = [module.get_submodule(".".join(parts[:depth])) for depth in range(len(parts) + 1)]
    found = None
    for depth, network in enumerate(owners[:-1]):
        if (spec := spec_of_module(network)) is None:
            continue
        inner = ".".join(parts[depth:])
        if all(_is_of_library(part) for part in owners[depth + 1 :]):
            found = PLAIN
        for pattern, rule in spec.layouts:
            if re.fullmatch(pattern, inner):
                return rule(network, inner)
    return found


def _is_of_library(part: nn.Module) -> bool:
    return type(part).__module__.partition(".")[0] in ("torch", "torchvision", "transformers")


Layer: TypeAlias = str | nn.Module
"""A layer by its dotted path, or the module itself."""


def find_layer(module: nn.Module, path: Layer) -> str:
    """Return the full path of a layer that a user gave, by its path or as a part of the network.

    Raises ModelError, also for a layer that no hook can watch.
    """
    check_watchable(module)
    found = _find_layer(module, path)
    parts = found.split(".")
    for depth in range(1, len(parts) + 1):
        if isinstance(module.get_submodule(".".join(parts[:depth])), ScriptModule):
            raise ModelError(
                f"layer '{found}' is scripted or traced, and cannot be watched: choose another "
                f"layer, or use guided-backprop or occlusion"
            )
    return found


def check_watchable(module: nn.Module) -> None:
    """Raise ModelError for a network whose layers no hook can watch."""
    if isinstance(module, ScriptModule):
        raise ModelError(
            "the network is scripted or traced, and its layers cannot be watched: use "
            "guided-backprop or occlusion, or the network that it was made from"
        )


def _find_layer(module: nn.Module, path: Layer) -> str:
    if isinstance(path, nn.Module):
        for name, part in module.named_modules():
            if part is path:
                return str(name)
        raise ModelError(f"layer {type(path).__name__}: it is not a part of this network")
    with suppress(AttributeError, IndexError):
        if path:
            return resolve_path(module, path)
    paths = [known for known, _ in module.named_modules() if known]
    raise ModelError(f"unknown layer '{path}': did you mean {nearest(path, paths)}?")


def resolve_path(module: nn.Module, path: str) -> str:
    """Return a dotted path with negative numbers, which count from the end, replaced by names."""
    parts: list[str] = []
    for part in path.split("."):
        if isinstance(module, _CONTAINERS) and re.fullmatch(r"-\d+", part):
            part = list(dict(module.named_children()))[int(part)]
        module = module.get_submodule(part)
        parts.append(part)
    return ".".join(parts)
