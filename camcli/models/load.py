"""Models ready to explain images: torchvision's by name, trained folders, networks of one's own."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from camcli.errors import ModelError, one_line, unknown
from camcli.images.preprocess import Preset
from camcli.models import custom
from camcli.models.build import assembled, classifier, empty, fit, implied, renamed, seeded
from camcli.models.families import TASKS, model_names, resolved, spec_named, task_of
from camcli.models.fold_batchnorm import merge
from camcli.models.head import Head
from camcli.models.precision import PRECISIONS
from camcli.models.torchvision import models as zoo
from camcli.models.weights import locate, read_tensors, sha256

MINI = Path(__file__).parents[1] / "assets" / "mini"
"""The bundled model, which needs no download: ten everyday classes. Its README.md says the rest."""


CARD, WEIGHTS, LABELS = "model.json", "weights.safetensors", "labels.txt"
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

    @property
    def dtype(self) -> torch.dtype:
        """What the parameters are, and images have to be."""
        return next((p.dtype for p in self.module.parameters()), torch.float32)

    def merged(self, *layers: str | None) -> Model:
        """The model, quicker: its batch normalisations merged into its convolutions, in place.

        Scores and maps stay the same up to rounding. `layers` are those that will be looked at,
        besides the automatic one: a convolution among them stays as it is, for its output would be
        the normalised one. Its weights are no longer the published ones, by name or number. A
        network whose operations cannot be told beforehand stays whole.
        """
        merge(self.module, [layer for layer in (self.layer, *layers) if layer])
        return self


def load(
    name: str = "mini",
    weights: str | Path = "DEFAULT",
    *,
    labels: str | Path | None = None,
    device: str | torch.device = "cpu",
    seed: int = 0,
    precision: str = "fp32",
) -> Model:
    """A torchvision model by name (for a task in TASKS), one of your own, or the bundled `mini`.

    One of your own is the folder that `camcli train` wrote, whose weights, preprocessing and class
    names are its own; or `package.module:factory`, a function or class to import and call, which
    executes it. It is called with `num_classes` where the weights' file has another number than it
    makes by itself, and it takes that. Its images are preprocessed as for most of torchvision's.

    `weights`: `DEFAULT` or another name from torchvision (downloaded once, into TORCH_HOME), a
    `.pth` or `.safetensors` file (read without executing anything in it), or `none` for random
    ones from `seed`. The number of classes follows the file. `labels`: class names for a custom
    head, a text file with one a line or a JSON list. `precision` is one of PRECISIONS. Raises
    ModelError.
    """
    if precision not in PRECISIONS:
        raise ModelError(unknown("precision", precision, PRECISIONS))
    model = _loaded(name, weights, labels, device, seed)
    if precision != "fp32":
        if model.task == "detection":
            raise ModelError(f"{name} finds boxes, which takes fp32: leave the precision on that")
        model.module.to(PRECISIONS[precision])
    return model


def _loaded(
    name: str,
    weights: str | Path,
    labels: str | Path | None,
    device: str | torch.device,
    seed: int,
) -> Model:
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
        module = seeded(name, seed, _preset(entry).crop)
    else:
        file, used, entry = locate(name, weights, published)
        module, digest = assembled(name, read_tensors(file), weights), sha256(file)
    module.to(to, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    spec = spec_named(name)
    task = task_of(name)
    if task == "detection":
        _prepare_detector(module, exact=used == "COCO_V1" and name in (spec.exact if spec else ()))
        num_classes = len(entry.meta["categories"])
    else:
        num_classes = classifier(module)[1].shape[0]
    return Model(
        module=module,
        name=name,
        weights=used,
        weights_hash=digest,
        preset=_fixed(_preset(entry), module),
        task=task,
        class_names=_class_names(labels, num_classes, entry),
        num_classes=num_classes,
        layer=resolved(module, spec.layer) if spec else None,
        head=Head(module.get_submodule(spec.head), spec.rectified) if spec and spec.head else None,
    )


def untrained(name: str, class_names: Sequence[str], seed: int = 0) -> Model:
    """A torchvision model with random weights from `seed`, for these classes. Raises ModelError."""
    if name not in model_names():
        raise ModelError(unknown("model", name, model_names()))
    spec = spec_named(name)
    pretrained = spec.pretrained if spec else {}
    module = seeded(name, seed, **pretrained, num_classes=len(class_names))
    return Model(
        module=module,
        name=name,
        weights=f"none (random, seed {seed})",
        class_names=tuple(class_names),
        num_classes=len(class_names),
        layer=resolved(module, spec.layer) if spec else None,
    )


def hollow(name: str, size: int | None = None, **arguments: Any) -> Model:
    """A torchvision model without its weights: parts, shapes and facts, on the meta device.

    `size` is the input's, where the network is held to one; the default is the preset's.
    `arguments` are for the constructor.
    """
    preset, spec = _preset(zoo.get_model_weights(name).DEFAULT), spec_named(name)
    module = empty(name, size or preset.crop, **arguments).eval()
    return Model(
        module=module,
        name=name,
        weights="none",
        preset=_fixed(preset, module),
        task=task_of(name),
        num_classes=len(classifier(module)[1]),
        layer=resolved(module, spec.layer) if spec else None,
        head=Head(module.get_submodule(spec.head), spec.rectified) if spec and spec.head else None,
    )


def with_classes(model: Model, class_names: Sequence[str]) -> Model:
    """A trained model for other classes: its last linear map is made anew, with zeros.

    One that has these very classes is given back as it is. The module is changed in place.
    """
    if model.class_names == tuple(class_names):
        return model
    path, weight = classifier(model.module)
    is_conv = isinstance(model.module.get_submodule(path), nn.Conv2d)
    shape = weight.shape[1], len(class_names)
    new: nn.Module = nn.Conv2d(*shape, kernel_size=1) if is_conv else nn.Linear(*shape)
    for parameter in new.parameters():
        nn.init.zeros_(parameter)
    model.module.set_submodule(path, new)
    return replace(model, class_names=tuple(class_names), num_classes=len(class_names), head=None)


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
    file = folder / WEIGHTS if str(weights) == "DEFAULT" else weights
    model = load(architecture, file, labels=labels or folder / LABELS, device=device)
    return replace(model, name=folder.resolve().name, preset=preset)


def _from_factory(
    name: str, weights: str, labels: str | Path | None, device: str | torch.device, seed: int
) -> Model:
    to, factory = pick_device(device), custom.find(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module, used, digest = custom.build(name, factory), f"of {name}", None
        linear = any(isinstance(part, nn.Linear | nn.Conv2d) for part in module.modules())
        if weights not in ("DEFAULT", "none"):
            if not (file := Path(weights)).is_file():
                raise ModelError(f"weights '{weights}': no such file")
            state, used, digest = renamed(read_tensors(file)), file.name, sha256(file)
            arguments = implied(module, state) if linear else {}
            if "num_classes" in arguments:
                module = custom.build(name, factory, arguments["num_classes"])
            fit(module, state, weights, name)
    module.to(to, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    count = len(classifier(module)[1]) if linear else None
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


def _fixed(preset: Preset, module: nn.Module) -> Preset:
    """The preset, at the size that the network is held to if it is.

    A detector resizes and normalises by itself: it is given what it would make, unnormalised.
    """
    own = getattr(module, "transform", None)
    if isinstance(own, zoo.detection.transform.GeneralizedRCNNTransform):
        if own.fixed_size is not None:
            return replace(preset, resize=own.fixed_size[0])
        return replace(preset, resize=own.min_size[-1], multiple=_STRIDE, longest=own.max_size)
    size = getattr(module, "image_size", None)
    return preset if size in (None, preset.crop) else replace(preset, resize=int(size), crop=size)


def _prepare_detector(module: nn.Module, *, exact: bool) -> None:
    """Let a detector take images as they come, in multiples of 32 pixels (see `_fixed`)."""
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
