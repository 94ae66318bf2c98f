"""torchvision's networks by name: with weights, with random weights, or without weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from camcli.models import torchvision
from camcli.models.classifier import count_classes
from camcli.models.families import TASKS, ModelSpec, model_names, resolve_path, spec_of_name
from camcli.models.head import Head
from camcli.models.labels import read_labels
from camcli.models.model import Model
from camcli.models.options import ModelOptions
from camcli.models.skip_init import SkipInit
from camcli.models.state import fit, implied_arguments, rename_keys
from camcli.models.torchvision_presets import prepare_detector, preset_for, preset_of
from camcli.models.weights import file_of, locate, random_weights, read_tensors, sha256


def torchvision_names() -> list[str]:
    """Return the names of torchvision's networks for all of TASKS."""
    return model_names(*TASKS)


def is_torchvision(name: str) -> bool:
    """Return whether torchvision has a network of this name."""
    return name in torchvision_names()


def load_torchvision(options: ModelOptions) -> Model:
    """Load a network with the weights of the options. Raises ModelError."""
    name, published = options.name, torchvision.models.get_model_weights(options.name)
    if options.weights == "none":
        weights, entry, digest = random_weights(options.seed), published.DEFAULT, None
        module = _build_random(name, options.seed, preset_of(entry).crop)
    else:
        file, weights, entry = locate(name, options.weights, published)
        module, digest = _build_from_state(name, read_tensors(file), options.weights), sha256(file)
    spec = _spec(name)
    if spec.task == "detection":
        prepare_detector(module, zero_eps=weights == "COCO_V1" and name in spec.zero_eps)
    model = _described(name, module, entry)
    names = _class_names(options.labels, model.num_classes, entry)
    return replace(model, weights=weights, weights_hash=digest, class_names=names)


def without_weights(name: str, size: int | None = None, **arguments: Any) -> Model:
    """Build a network whose parameters have shapes but no storage.

    `size` is the input size, for networks that have a fixed one; the default is the preset's.
    `arguments` are passed to the constructor.
    """
    entry = torchvision.models.get_model_weights(name).DEFAULT
    module = _build_empty(name, size or preset_of(entry).crop, **arguments)
    return _described(name, module.eval(), entry)


def outline_torchvision(name: str) -> Model:
    """Build a network entirely on the meta device, with what its constructor computes."""
    model = without_weights(name)
    model.module.to("meta")
    return model


def initialise_torchvision(name: str, class_names: Sequence[str], seed: int = 0) -> Model:
    """Build a classifier of these classes with random weights, to be trained."""
    spec = _spec(name)
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
    """Return a model with the recorded facts of its network and of published weights."""
    spec = _spec(name)
    detects = spec.task == "detection"
    return Model(
        module=module,
        name=name,
        weights="none",
        preset=preset_for(module, preset_of(entry)),
        task=spec.task,
        num_classes=len(entry.meta["categories"]) if detects else count_classes(module),
        layer=_layer(module, spec),
        head=Head(module.get_submodule(spec.head), spec.rectified) if spec.head else None,
    )


def _spec(name: str) -> ModelSpec:
    return spec_of_name(name) or ModelSpec("")


def _layer(module: nn.Module, spec: ModelSpec) -> str | None:
    return resolve_path(module, spec.layer) if spec.layer else None


def _class_names(
    labels: str | Path | None, count: int | None, entry: Any
) -> tuple[str, ...] | None:
    if labels is not None:
        return read_labels(labels, count)
    names = tuple(entry.meta["categories"])
    return names if len(names) == count else None


def _build(name: str, size: int | None, **arguments: Any) -> nn.Module:
    spec = _spec(name)
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


def _build_from_state(name: str, state: Mapping[str, Tensor], given: str) -> nn.Module:
    """Build a network that fits a state dict, and load it. Raises ModelError."""
    spec = _spec(name)
    state = rename_keys(state, spec)
    state = {key: value for key, value in state.items() if not key.startswith(spec.unused)}
    module = _build_empty(name, **spec.pretrained)
    if arguments := implied_arguments(module, state, spec):
        module = _build_empty(name, **spec.pretrained, **arguments)
    fit(module, state, given, name)
    return module
