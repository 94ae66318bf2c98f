"""torchvision's networks by name: with weights, with random weights, or without weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from camcli.images.preprocess import Preset
from camcli.models import torchvision
from camcli.models.families import TASKS, ModelSpec, model_names, resolve_path, spec_of_name
from camcli.models.head import Head, count_classes
from camcli.models.keys import match_keys
from camcli.models.labels import read_labels, stored_names
from camcli.models.model import Model
from camcli.models.options import Labels, ModelOptions
from camcli.models.skip_init import SkipInit
from camcli.models.weights import (
    GivenWeights,
    file_of,
    fit,
    from_file,
    implied_arguments,
    locate,
    published_name,
    random_weights,
)

_STRIDE = 32
"""Detectors pad their images to multiples of this. Without padding, maps fit the image exactly."""


def torchvision_names() -> list[str]:
    """Return the names of torchvision's networks for all of TASKS."""
    return model_names(*TASKS)


def load_torchvision(options: ModelOptions) -> Model:
    """Load a network with the weights of the options. Raises ModelError."""
    name, published = options.name, torchvision.models.get_model_weights(options.name)
    entry, given = published.DEFAULT, GivenWeights({}, random_weights(options.seed))
    if options.state is not None:
        given = GivenWeights(options.state, options.weights)
        module = _build_from_state(name, options.state, options.weights)
    elif options.weights == "none":
        module = _build_random(name, options.seed, _preset_of(entry).shape[0])
    else:
        file, used, entry = locate(name, options.weights, published)
        given = replace(from_file(file), name=used)
        module = _build_from_state(name, given.state, options.weights)
    spec = spec_of_name(name)
    if spec.task == "detection":
        _prepare_detector(module, zero_eps=given.name == "COCO_V1" and name in spec.zero_eps)
    model = _described(name, module, entry)
    names = _class_names(options.labels, given.labels, model.num_classes, entry)
    own = options.weights not in (*published.__members__, "none")
    return replace(
        model,
        weights=given.name,
        weights_hash=given.digest,
        class_names=names,
        preset_from="assumed" if own and given.name != published_name(entry) else "torchvision",
    )


def without_weights(name: str, size: int | None = None, **arguments: Any) -> Model:
    """Build a network whose parameters have shapes but no storage.

    `size` is the input size, for networks that have a fixed one; the default is the preset's.
    `arguments` are passed to the constructor.
    """
    entry = torchvision.models.get_model_weights(name).DEFAULT
    module = _build_empty(name, size or _preset_of(entry).shape[0], **arguments)
    return _described(name, module.eval(), entry)


def outline_torchvision(name: str) -> Model:
    """Build a network entirely on the meta device, with what its constructor computes."""
    model = without_weights(name)
    model.module.to("meta")
    return model


def initialise_torchvision(name: str, class_names: Sequence[str], seed: int = 0) -> Model:
    """Build a classifier of these classes with random weights, to be trained."""
    spec = spec_of_name(name)
    module = _build_random(name, seed, **spec.pretrained, num_classes=len(class_names))
    return Model(
        module=module,
        name=name,
        weights=random_weights(seed),
        class_names=tuple(class_names),
        num_classes=len(class_names),
        layer=_layer(module, spec),
    )


def cached_weights(name: str) -> list[str]:
    """Return the names of the published weights that are in torch's cache."""
    published = torchvision.models.get_model_weights(name)
    return [entry.name for entry in published if file_of(entry).exists()]


def _described(name: str, module: nn.Module, entry: Any) -> Model:
    spec = spec_of_name(name)
    detects = spec.task == "detection"
    return Model(
        module=module,
        name=name,
        weights="none",
        preset=_preset_for(module, _preset_of(entry)),
        task=spec.task,
        num_classes=len(entry.meta["categories"]) if detects else count_classes(module),
        layer=_layer(module, spec),
        head=Head(module.get_submodule(spec.head), spec.rectified) if spec.head else None,
    )


def _layer(module: nn.Module, spec: ModelSpec) -> str | None:
    return resolve_path(module, spec.layer) if spec.layer else None


def _class_names(
    labels: Labels | None, stored: Any, count: int | None, entry: Any
) -> tuple[str, ...] | None:
    if labels is not None:
        return read_labels(labels, count)
    if found := stored_names(stored, count):
        return found
    names = tuple(entry.meta["categories"])
    return names if len(names) == count else None


def _build(name: str, size: int | None, **arguments: Any) -> nn.Module:
    spec = spec_of_name(name)
    fixed = {"image_size": size} if size and spec.positions else {}
    module: nn.Module = torchvision.models.get_model(name, **{**spec.build, **fixed, **arguments})
    return module


def _build_empty(name: str, size: int | None = None, **arguments: Any) -> nn.Module:
    with SkipInit():
        return _build(name, size, **arguments)


def _build_random(name: str, seed: int, size: int | None = None, **arguments: Any) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _build(name, size, **arguments)


def _build_from_state(name: str, given_state: Mapping[str, Tensor], given: str) -> nn.Module:
    spec = spec_of_name(name)
    module = _build_empty(name, **spec.pretrained)
    state = match_keys(given_state, module.state_dict(), given, spec)
    if arguments := implied_arguments(module, state, spec):
        module = _build_empty(name, **spec.pretrained, **arguments)
    fit(module, state, given, name)
    return module


def _preset_of(entry: Any) -> Preset:
    transform = entry.transforms()
    if not hasattr(transform, "resize_size"):  # detection: see `_preset_for`
        return Preset(crop=None, mean=(0, 0, 0), std=(1, 1, 1))
    return Preset(
        resize=transform.resize_size[0],
        crop=transform.crop_size[0] if hasattr(transform, "crop_size") else None,  # segmentation
        mean=tuple(transform.mean),
        std=tuple(transform.std),
        interpolation=transform.interpolation.value,
    )


def _preset_for(module: nn.Module, preset: Preset) -> Preset:
    """Return a preset with the input size that the network requires.

    A detector resizes and normalises by itself. It gets images of the size that it would make.
    """
    own = getattr(module, "transform", None)
    if isinstance(own, torchvision.models.detection.transform.GeneralizedRCNNTransform):
        if own.fixed_size is not None:
            return replace(preset, resize=own.fixed_size[0])
        return replace(preset, resize=own.min_size[-1], multiple=_STRIDE, longest=own.max_size)
    size = getattr(module, "image_size", None)
    return preset if size in (None, preset.crop) else replace(preset, resize=int(size), crop=size)


def _prepare_detector(module: nn.Module, *, zero_eps: bool) -> None:
    """Make a detector keep images of the size of `_preset_for`, in place.

    `zero_eps` sets the epsilon of its batch normalisations to 0.
    """
    transform = module.transform
    assert not isinstance(transform, Tensor)
    if transform.fixed_size is None:
        transform.max_size -= transform.max_size % _STRIDE
    for part in module.modules():
        if zero_eps and isinstance(part, nn.BatchNorm2d):
            part.eps = 0.0
