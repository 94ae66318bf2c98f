"""Models: torchvision's by name, weights by name or from a file, and the facts about families."""

from __future__ import annotations

import json
import math
import os
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
import torchvision.models as zoo
from torch import Tensor, nn
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from camcli import factories
from camcli.capture import Head
from camcli.errors import ModelError, nearest, one_line, unknown
from camcli.grids import PLAIN, Grid, Rule, channels_last, patches, windows
from camcli.hollow import Hollow
from camcli.images import Preset
from camcli.weights import locate, read_tensors, sha256


@dataclass(frozen=True)
class ModelSpec:
    """What has to be known of a family of networks, and cannot be asked of torchvision.

    `layer` is the last feature map before the head; a negative number counts a Sequential's parts
    from the end. `head` is the linear map of a GAP head (see capture.Head), or None where the head
    is another one and CAM undefined. `grids` are the layers whose output is no (N,C,h,w), as
    patterns of their paths, and their layout. `build` are arguments for the constructor; weights
    whose key starts with one of `unused` serve training alone; `renamed` mends the keys of old
    files. `positions` is the weight with a row per token, which holds a network to one input size.
    `task` is one of TASKS. `exact` are names whose first published weights were made with
    normalisations that add nothing to the variance.
    """

    layer: str
    head: str | None = None
    rectified: bool = False
    grids: tuple[tuple[str, Rule], ...] = ()
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
            "features", grids=((r"features\.\d+\.\d+\.block\.[1-5]", channels_last),)
        ),
        "swin_transformer": ModelSpec(
            "permute", head="head", grids=((r"features(?!\.0\.0$).*|norm", channels_last),)
        ),
        "vision_transformer": ModelSpec(
            # Behind the last attention nothing but the class token goes on to the head.
            "encoder.layers.-1.ln_1",
            grids=((r"encoder(\..+)?", patches),),
            renamed=((r"mlp\.linear_1\.", "mlp.0."), (r"mlp\.linear_2\.", "mlp.3.")),
            positions="encoder.pos_embedding",
        ),
        "maxvit": ModelSpec(
            "blocks.-1",
            grids=((r"blocks\..+_attention\.(?!departition_op$).+", windows),),
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


MINI = Path(__file__).parent / "assets" / "mini"
"""The bundled model, which needs no download: ten everyday classes. Its model.md says the rest."""
CARD = "model.json"
"""What makes a folder a trained model: its architecture, preprocessing, classes and accuracy."""


@dataclass(frozen=True)
class Model:
    """A network ready to explain images: in evaluation mode, with its own preprocessing.

    `weights` says where they came from; `layer` is the automatic target layer and `head` the head
    that CAM reads, both None where only a traced forward pass can tell.
    """

    module: nn.Module
    name: str = "custom"
    weights: str = "given"
    preset: Preset = field(default_factory=Preset)
    class_names: tuple[str, ...] | None = None
    num_classes: int | None = None
    layer: str | None = None
    head: Head | None = None
    weights_hash: str | None = None
    task: str = "classification"

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next((p.device for p in self.module.parameters()), torch.device("cpu"))


def load(
    name: str = "mini",
    weights: str | Path = "DEFAULT",
    *,
    labels: str | Path | None = None,
    device: str | torch.device = "cpu",
    seed: int = 0,
) -> Model:
    """A torchvision model by name (for a task in TASKS), one of your own, or the bundled `mini`.

    One of your own is the folder that `camcli train` wrote, whose weights, preprocessing and class
    names are its own; or `package.module:factory`, a function or class to import and call, which
    executes it. It is called with `num_classes` where the weights' file has another number than it
    makes by itself, and it takes that. Its images are preprocessed as for most of torchvision's.

    `weights`: `DEFAULT` or another name from torchvision (downloaded once, into TORCH_HOME), a
    `.pth` or `.safetensors` file (read without executing anything in it), or `none` for random
    ones from `seed`. The number of classes follows the file. `labels`: class names for a custom
    head, a text file with one a line or a JSON list. Raises ModelError.
    """
    if (folder := _trained(name)) is not None:
        return _from_folder(folder, weights, labels, device)
    if ":" in name:
        return _from_factory(name, str(weights), labels, device, seed)
    if name not in (names := model_names(*TASKS)):
        raise ModelError(unknown("model", name, ["mini", *names]))
    to, published = pick_device(device), zoo.get_model_weights(name)
    weights = str(weights)
    if weights == "none":
        used, entry, digest = f"none (random, seed {seed})", published.DEFAULT, None
        module = _random(name, seed, _preset(entry).crop)
    else:
        file, used, entry = locate(name, weights, published)
        module, digest = _assembled(name, read_tensors(file), weights), sha256(file)
    module.to(to, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    spec = _spec(name)
    task = task_of(name)
    if task == "detection":
        _prepare_detector(module, exact=used == "COCO_V1" and name in (spec.exact if spec else ()))
        num_classes = len(entry.meta["categories"])
    else:
        num_classes = _classifier(module)[1].shape[0]
    return Model(
        module=module,
        name=name,
        weights=used,
        weights_hash=digest,
        preset=_fixed(_preset(entry), module),
        task=task,
        class_names=_class_names(labels, num_classes, entry),
        num_classes=num_classes,
        layer=_resolved(module, spec.layer) if spec else None,
        head=Head(module.get_submodule(spec.head), spec.rectified) if spec and spec.head else None,
    )


def untrained(name: str, class_names: Sequence[str], seed: int = 0) -> Model:
    """A torchvision model with random weights from `seed`, for these classes. Raises ModelError."""
    if name not in model_names():
        raise ModelError(unknown("model", name, model_names()))
    spec = _spec(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = _built(name, **(spec.pretrained if spec else {}), num_classes=len(class_names))
    return Model(
        module=module,
        name=name,
        weights=f"none (random, seed {seed})",
        class_names=tuple(class_names),
        num_classes=len(class_names),
        layer=_resolved(module, spec.layer) if spec else None,
    )


def hollow(name: str, size: int | None = None, **arguments: Any) -> Model:
    """A torchvision model without its weights: parts, shapes and facts, on the meta device.

    `size` is the input's, where the network is held to one; the default is the preset's.
    `arguments` are for the constructor.
    """
    preset, spec = _preset(zoo.get_model_weights(name).DEFAULT), _spec(name)
    with Hollow():
        module = _built(name, **_sized(spec, size or preset.crop), **arguments).eval()
    return Model(
        module=module,
        name=name,
        weights="none",
        preset=_fixed(preset, module),
        task=task_of(name),
        num_classes=len(_classifier(module)[1]),
        layer=_resolved(module, spec.layer) if spec else None,
        head=Head(module.get_submodule(spec.head), spec.rectified) if spec and spec.head else None,
    )


def with_classes(model: Model, class_names: Sequence[str]) -> Model:
    """A trained model for other classes: its last linear map is made anew, with zeros.

    One that has these very classes is given back as it is. The module is changed in place.
    """
    if model.class_names == tuple(class_names):
        return model
    path, weight = _classifier(model.module)
    is_conv = isinstance(model.module.get_submodule(path), nn.Conv2d)
    shape = weight.shape[1], len(class_names)
    new: nn.Module = nn.Conv2d(*shape, kernel_size=1) if is_conv else nn.Linear(*shape)
    for parameter in new.parameters():
        nn.init.zeros_(parameter)
    model.module.set_submodule(path, new)
    return replace(model, class_names=tuple(class_names), num_classes=len(class_names), head=None)


def model_names(*tasks: str) -> list[str]:
    """The names of torchvision's models for these tasks; without one, for classification."""
    wanted = tasks or ("classification",)
    return [name for task in wanted for name in zoo.list_models(module=TASKS[task])]


def pick_device(name: str | torch.device) -> torch.device:
    """The device of a name; `auto` takes CUDA, then MPS, then the CPU. Raises ModelError."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    if str(name).partition(":")[0] not in ("cpu", "cuda", "mps"):
        raise ModelError(f"unknown device '{name}': expected auto, cpu, cuda, cuda:N or mps")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = one_line(error)
        raise ModelError(f"device '{name}' is not to be had here: {reason}") from None
    return device


def find_layer(module: nn.Module, path: str) -> str:
    """The canonical path of a layer given by a user. Raises ModelError with the nearest paths."""
    try:
        return _resolved(module, path)
    except (AttributeError, IndexError):
        paths = [known for known, _ in module.named_modules() if known]
        line = f"unknown layer '{path}': did you mean {nearest(path, paths)}?"
        raise ModelError(line) from None


def spec_of(module: nn.Module) -> ModelSpec | None:
    """The row of a network of one of torchvision's own classes, however it was made."""
    home, _, family = type(module).__module__.rpartition(".")
    return SPECS.get(family) if home == zoo.__name__ else None


def row_layer(module: nn.Module) -> str | None:
    """The layer of a network of tokens that a caller built, where its class has a row.

    No trace shows through which layers the patches still reach the score; whatever else there is
    to know of other networks, `survey` finds in one.
    """
    spec = spec_of(module)
    return _resolved(module, spec.layer) if spec and spec.positions else None


def grid_of(module: nn.Module, path: str) -> Grid:
    """The layout of a layer's output, by the row of the network that the layer is part of.

    That may be the whole, or one of torchvision's networks inside a network of one's own.
    """
    parts = path.split(".")
    for depth in range(len(parts)):
        network = module.get_submodule(".".join(parts[:depth]))
        inner = ".".join(parts[depth:])
        for pattern, rule in ((spec := spec_of(network)) and spec.grids) or ():
            if re.fullmatch(pattern, inner):
                return rule(network, inner)
    return PLAIN


_NUMBERED = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
"""Containers whose parts can be counted from the end."""


def _resolved(module: nn.Module, path: str) -> str:
    parts: list[str] = []
    for part in path.split("."):
        if isinstance(module, _NUMBERED) and re.fullmatch(r"-\d+", part):
            part = list(dict(module.named_children()))[int(part)]
        module = module.get_submodule(part)
        parts.append(part)
    return ".".join(parts)


def _trained(name: str) -> Path | None:
    """The folder of a trained model that `name` stands for, or None where it stands for none."""
    if name == "mini":
        return MINI
    if name in model_names() or not os.path.isdir(name):
        return None
    folder = Path(name)
    if not (folder / CARD).is_file():
        raise ModelError(f"model '{name}': no {CARD} in it; expected a folder of `camcli train`")
    return folder


def _from_folder(
    folder: Path, weights: str | Path, labels: str | Path | None, device: str | torch.device
) -> Model:
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        architecture, preset = str(card["architecture"]), _preset_of(card["preprocessing"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise ModelError(f"model '{folder}': {CARD} is not readable ({reason})") from None
    if architecture not in model_names():
        raise ModelError(
            f"model '{folder}': {unknown('architecture', architecture, model_names())}"
        )
    if str(weights) == "none":
        raise ModelError(f"model '{folder}' comes with its weights: leave them on DEFAULT")
    file = folder / "weights.safetensors" if str(weights) == "DEFAULT" else weights
    model = load(architecture, file, labels=labels or folder / "labels.txt", device=device)
    return replace(model, name=folder.resolve().name, preset=preset)


def _from_factory(
    name: str, weights: str, labels: str | Path | None, device: str | torch.device, seed: int
) -> Model:
    to, factory = pick_device(device), factories.find(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module, used, digest = factories.build(name, factory), f"of {name}", None
        linear = any(isinstance(part, nn.Linear | nn.Conv2d) for part in module.modules())
        if weights not in ("DEFAULT", "none"):
            if not (file := Path(weights)).is_file():
                raise ModelError(f"weights '{weights}': no such file")
            state, used, digest = read_tensors(file), file.name, sha256(file)
            state = {_key(key, ModelSpec("")): value for key, value in state.items()}
            follows = _follows(module, ModelSpec(""), state) if linear else {}
            if "num_classes" in follows:
                module = factories.build(name, factory, follows["num_classes"])
            _fit(module, state, weights, name)
    module.to(to, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    count = len(_classifier(module)[1]) if linear else None
    names = None if labels is None else _given_names(labels, count)
    return Model(module, name, used, Preset(), names, count, weights_hash=digest)


def _preset_of(values: Mapping[str, Any]) -> Preset:
    return Preset(
        resize=int(values["resize"]),
        crop=int(values["crop"]),
        mean=tuple(map(float, values["mean"])),
        std=tuple(map(float, values["std"])),
        bicubic=bool(values["bicubic"]),
    )


def family(name: str) -> str:
    """The family of a torchvision model: the module that its builder lives in."""
    return str(zoo.get_model_builder(name).__module__.rpartition(".")[2])


def task_of(name: str) -> str:
    """What a torchvision model is for, one of TASKS."""
    spec = _spec(name)
    return spec.task if spec else "classification"


def _spec(name: str) -> ModelSpec | None:
    return SPECS.get(family(name))


def _built(name: str, **arguments: Any) -> nn.Module:
    spec = _spec(name)
    module: nn.Module = zoo.get_model(name, **{**(spec.build if spec else {}), **arguments})
    return module


def _random(name: str, seed: int, size: int | None) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _built(name, **_sized(_spec(name), size))


def _sized(spec: ModelSpec | None, size: int | None) -> dict[str, Any]:
    """The constructor's argument for the input's size, where there is one."""
    return {"image_size": size} if spec and spec.positions else {}


def _assembled(name: str, state: dict[str, Tensor], given: str) -> nn.Module:
    """The network with these weights, built without initialising anything first."""
    spec = _spec(name) or ModelSpec("")
    state = {_key(key, spec): value for key, value in state.items()}
    state = {key: value for key, value in state.items() if not key.startswith(spec.unused or "\0")}
    with Hollow():
        module = _built(name, **spec.pretrained)
        if follows := _follows(module, spec, state):
            module = _built(name, **spec.pretrained, **follows)
    _fit(module, state, given, name)
    return module


def _fit(module: nn.Module, state: dict[str, Tensor], given: str, name: str) -> None:
    """Put weights into a network that may have none yet. Raises ModelError where they differ."""
    expected = module.state_dict()
    for key in expected.keys() - state.keys():
        if key.endswith("num_batches_tracked"):  # absent from old files, and of no use here
            state[key] = torch.zeros((), dtype=torch.long)
    if problems := _differences(expected, state):
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise ModelError(f"weights '{given}' do not fit {name}: {'; '.join(problems[:3])}{more}")
    floats = OrderedDict((k, v.float() if v.is_floating_point() else v) for k, v in state.items())
    # The shapes are this version's, so the keys are: modules that ask for theirs may be told so.
    floats._metadata = expected._metadata  # type: ignore[attr-defined]
    module.load_state_dict(floats, assign=True)


def _follows(module: nn.Module, spec: ModelSpec, state: Mapping[str, Tensor]) -> dict[str, int]:
    """Arguments by which the network follows its weights: number of classes, size of the input."""
    path, classifier = _classifier(module)
    head, tokens = state.get(f"{path}.weight"), state.get(spec.positions or "")
    found = {}
    if head is not None and head.ndim and len(head) != len(classifier):
        found["num_classes"] = len(head)
    if tokens is not None and tokens.ndim == 3:
        size = math.isqrt(tokens.shape[1] - 1) * int(module.patch_size)  # type: ignore[arg-type]
        if size != module.image_size:
            found["image_size"] = size
    return found


def _fixed(preset: Preset, module: nn.Module) -> Preset:
    """The preset, at the size that the network is held to if it is.

    A detector resizes and normalises by itself: it is given what it would make, unnormalised.
    """
    if isinstance(own := getattr(module, "transform", None), GeneralizedRCNNTransform):
        if own.fixed_size is not None:
            return replace(preset, resize=own.fixed_size[0])
        return replace(preset, resize=own.min_size[-1], multiple=_STRIDE, longest=own.max_size)
    size = getattr(module, "image_size", None)
    return preset if size in (None, preset.crop) else replace(preset, resize=int(size), crop=size)


def _key(key: str, spec: ModelSpec) -> str:
    key = key.removeprefix("module.")  # left there by DataParallel
    for old, new in spec.renamed:
        key = re.sub(old, new, key)
    return key


def _differences(expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> list[str]:
    shapes = [
        f"{key} is {_kind(given[key])}, expected {_kind(value)}"
        for key, value in expected.items()
        if key in given and _kind(given[key]) != _kind(value)
    ]
    missing = [f"no {key} {tuple(v.shape)}" for key, v in expected.items() if key not in given]
    return shapes + missing + [f"unexpected {key}" for key in given if key not in expected]


def _kind(value: Tensor) -> str:
    return f"{tuple(value.shape)}{'' if value.is_floating_point() else ' of whole numbers'}"


def _classifier(module: nn.Module) -> tuple[str, Tensor]:
    """Path and weight of the last linear map, whose rows are the classes."""
    return [
        (path, part.weight)
        for path, part in module.named_modules()
        if isinstance(part, nn.Linear | nn.Conv2d)
    ][-1]


def _prepare_detector(module: nn.Module, *, exact: bool) -> None:
    """Let a detector take images as they come, in multiples of 32 pixels (see `_preset`)."""
    transform = module.transform
    assert not isinstance(transform, Tensor)
    if transform.fixed_size is None:
        transform.max_size -= transform.max_size % _STRIDE
    for part in module.modules():
        if exact and isinstance(part, nn.BatchNorm2d):
            part.eps = 0.0


_STRIDE = 32
"""Detectors pad their images to multiples of this; where there is no padding, maps fit exactly."""


def _preset(entry: Any) -> Preset:
    transform = entry.transforms()
    if not hasattr(transform, "resize_size"):  # of detection: see `_fixed`
        return Preset(crop=None, mean=(0, 0, 0), std=(1, 1, 1))
    if not hasattr(transform, "crop_size"):  # of segmentation: the whole image
        return Preset(transform.resize_size[0], None, tuple(transform.mean), tuple(transform.std))
    return Preset(
        resize=transform.resize_size[0],
        crop=transform.crop_size[0],
        mean=tuple(transform.mean),
        std=tuple(transform.std),
        bicubic=transform.interpolation.value == "bicubic",
    )


def _class_names(labels: str | Path | None, count: int, entry: Any) -> tuple[str, ...] | None:
    if labels is None:
        names = tuple(entry.meta["categories"])
        return names if len(names) == count else None
    return _given_names(labels, count)


def _given_names(labels: str | Path, count: int | None) -> tuple[str, ...]:
    names = _read_labels(Path(labels))
    if count is not None and len(names) != count:
        raise ModelError(f"labels '{labels}': {len(names)} names, the model has {count} classes")
    return names


def _read_labels(file: Path) -> tuple[str, ...]:
    try:
        text = file.read_text(encoding="utf-8-sig")
        if file.suffix != ".json":
            return tuple(line.strip() for line in text.splitlines() if line.strip())
        names = json.loads(text)
    except OSError as error:
        raise ModelError(f"labels '{file}': {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ModelError(f"labels '{file}': not readable ({one_line(error)})") from None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ModelError(f"labels '{file}': expected a JSON list of names")
    return tuple(names)
