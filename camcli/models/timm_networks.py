"""timm's networks, named `timm:NAME`, with its weights or those of a file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from camcli.errors import ModelError, ignored_warnings, one_line, unknown
from camcli.images.preprocess import Preset
from camcli.models.hub import HubError, cached_file, find_file, hub_folder
from camcli.models.keys import match_keys
from camcli.models.labels import imagenet_names, read_labels, stored_names
from camcli.models.model import Model
from camcli.models.options import ModelOptions, with_arguments
from camcli.models.preprocessing import preset_of_timm
from camcli.models.skip_init import SkipInit
from camcli.models.weights import (
    GivenWeights,
    class_count,
    fit,
    given_weights,
    random_weights,
    sha256,
)

PREFIX = "timm:"
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_RESERVED = frozenset(
    {"pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir"}
)
"""Arguments with which timm would load other weights than those that are recorded."""
_ERRORS = (RuntimeError, ValueError, TypeError, KeyError, AssertionError, AttributeError)
"""Errors that timm raises for arguments and tags that it does not know."""


def timm_names() -> list[str]:
    """Return the names of timm's networks. Raises ModelError if timm is not installed."""
    return [f"{PREFIX}{name}" for name in _timm().list_models()]


def load_timm(options: ModelOptions) -> Model:
    """Load a network with the weights of the options. Raises ModelError."""
    name, given, labels = options.name, given_weights(options), options.labels
    if reserved := sorted(_RESERVED & options.arguments.keys()):
        raise ModelError(f"model '{name}': --weights says which weights, not {reserved[0]}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        if given is not None:
            module, used, digest = _with_weights(given, options), given.name, given.digest
        elif options.weights == "none":
            module, used = _build(name, options.arguments), random_weights(options.seed)
            digest = None
        else:
            module, used, digest = _pretrained(options)
    model = _described(name, module, options.arguments)
    names = stored_names(given and given.labels, model.num_classes) or model.class_names
    if labels is not None:
        names = read_labels(labels, model.num_classes)
    shown = with_arguments(name, options.arguments)
    return replace(model, name=shown, weights=used, weights_hash=digest, class_names=names)


def _with_weights(given: GivenWeights, options: ModelOptions) -> nn.Module:
    """Build a network for the classes of a state dict, and load it. Raises ModelError."""
    module = _build(options.name, options.arguments)
    state = match_keys(given.state, module.state_dict(), options.weights)
    head = state.get(f"{_classifier(module)}.weight")
    if head is not None and len(head) != module.num_classes:
        module = _build(options.name, {"num_classes": class_count(head), **options.arguments})
    fit(module, state, options.weights, options.name)
    return module


def _pretrained(options: ModelOptions) -> tuple[nn.Module, str, str]:
    """Build a network with its published weights; return their name and digest, too."""
    used, file = _published(options.name)
    card = {"file": str(file), "custom_load": False}
    arguments = {"pretrained": True, "pretrained_cfg_overlay": card, **options.arguments}
    return _build(options.name, arguments), used, sha256(file)


def outline_timm(name: str) -> Model:
    """Build a network on the meta device. Raises ModelError."""
    with SkipInit():
        module = _build(name, {})
    return _described(name, module.to("meta").eval(), {})


def initialise_timm(name: str, class_names: Sequence[str], seed: int = 0) -> Model:
    """Build a classifier of these classes with random weights, to be trained. Raises ModelError."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = _build(name, {"num_classes": len(class_names)})
    names = tuple(class_names)
    return Model(module, name, random_weights(seed), class_names=names, num_classes=len(names))


def timm_family(name: str) -> str:
    """Return the name of timm's module that has a network."""
    module: str = _timm().model_entrypoint(_architecture(name).partition(".")[0]).__module__
    return module.rpartition(".")[2]


def cached_timm(name: str) -> list[str]:
    """Return the published weights of a network that are in the hub's cache."""
    source = _timm().get_pretrained_cfg(_architecture(name)).hf_hub_id
    return [source] if source and any(cached_file(source, file) for file in _WEIGHTS) else []


def _timm() -> Any:
    try:
        with ignored_warnings():
            import timm
    except ImportError as error:
        raise ModelError(
            f"models of timm need timm ({one_line(error)}): pip install 'camcli[timm]'"
        ) from None
    return timm


def _architecture(name: str) -> str:
    """Return timm's name of a network. Raises ModelError with the nearest ones."""
    timm, architecture = _timm(), name.removeprefix(PREFIX)
    if not timm.is_model(architecture.partition(".")[0]):
        raise ModelError(unknown("model", name, timm_names()))
    try:
        timm.get_pretrained_cfg(architecture)
    except RuntimeError:  # the part behind a point, which names its weights
        known = timm.list_pretrained(f"{architecture.partition('.')[0]}.*")
        raise ModelError(unknown("model", name, [f"{PREFIX}{one}" for one in known])) from None
    return architecture


def _build(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    timm, architecture = _timm(), _architecture(name)
    try:
        with ignored_warnings():  # for timm's developers, such as of names that it has renamed
            module: nn.Module = timm.create_model(architecture, **arguments)
    except _ERRORS as error:
        raise ModelError(f"model '{name}': timm cannot build it ({one_line(error)})") from None
    return module


def _published(name: str) -> tuple[str, Path]:
    """Return the name of a network's published weights, and their file. Raises ModelError."""
    card = _timm().get_pretrained_cfg(_architecture(name))
    ways_out = "give --weights FILE, or --weights none, or --model mini, which needs no download"
    if not card.hf_hub_id:
        where = f"are at {card.url}" if card.url else "are not published"
        raise ModelError(f"model '{name}': its weights {where}, not on the hub: {ways_out}")
    source: str = card.hf_hub_id
    files = (card.hf_hub_filename,) if card.hf_hub_filename else _WEIGHTS
    try:
        folder = hub_folder(source, files)
    except HubError as error:
        raise ModelError(f"cannot download {source} for {name} ({error}): {ways_out}") from None
    if (file := find_file(folder, files)) is None:
        raise ModelError(f"cannot download {source} for {name} (no {files[0]} in it): {ways_out}")
    return source, file


def _described(name: str, module: nn.Module, arguments: Mapping[str, Any]) -> Model:
    count = int(module.num_classes) or None  # type: ignore[arg-type] # 0 without a classifier
    preset, preset_from = _preset_of(name, module, arguments)
    return Model(
        module=module,
        name=name,
        weights="none",
        preset=preset,
        preset_from=preset_from,
        class_names=_class_names(module, count),
        num_classes=count,
    )


def _classifier(module: nn.Module) -> str:
    """Return the path of the classifier, or of the first of several."""
    path = _card(module).get("classifier") or ""
    return path if isinstance(path, str) else path[0]


def _card(module: nn.Module) -> Mapping[str, Any]:
    card: Any = module.pretrained_cfg
    return card  # type: ignore[no-any-return]


def _class_names(module: nn.Module, count: int | None) -> tuple[str, ...] | None:
    """Return the class names that timm has for a network's published weights.

    ImageNet's 1000 classes have torchvision's names, so that a target has one name everywhere.
    """
    from timm.data import ImageNetInfo, infer_imagenet_subset

    card = _card(module)
    if count is None or card.get("num_classes") != count:
        return None
    if names := card.get("label_names"):
        return tuple(names)
    if not re.search(r"in\d+k", card.get("tag") or ""):
        return None
    if count == len(imagenet_names()):
        return imagenet_names()
    subset = infer_imagenet_subset({"num_classes": count})
    return tuple(ImageNetInfo(subset).label_descriptions()) if subset else None


def _preset_of(name: str, module: nn.Module, arguments: Mapping[str, Any]) -> tuple[Preset, str]:
    """Return the preprocessing of a network and where it is from. Raises ModelError."""
    from timm.data import resolve_model_data_config

    card = resolve_model_data_config(module, args={"input_size": _input_size(module, arguments)})
    channels = card["input_size"][0]
    known = len(card["mean"]) == channels
    if not known:
        card = {**card, "mean": (0.0,) * channels, "std": (1.0,) * channels}
    try:
        return preset_of_timm(card), "timm" if known else "assumed"
    except ValueError as error:
        raise ModelError(f"model '{name}': its preprocessing is not supported ({error})") from None


def _input_size(module: nn.Module, arguments: Mapping[str, Any]) -> tuple[int, int, int]:
    """Return channels, height and width of a network's input, which arguments may change."""
    channels, *known = _card(module)["input_size"]
    sides = arguments.get("img_size", known)
    height, width = (sides, sides) if isinstance(sides, int) else sides
    return arguments.get("in_chans", channels), height, width
