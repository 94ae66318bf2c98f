"""Networks of the `transformers` library for TASKS, from a folder or from the hub."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from camcli.errors import ModelError, one_line
from camcli.models.head import count_classes
from camcli.models.hf_preprocessing import preset_of
from camcli.models.hf_tasks import task_of
from camcli.models.hub import (
    CONFIG,
    UNREADABLE,
    HubError,
    find_file,
    hub_folder,
    quiet,
    require_transformers,
)
from camcli.models.keys import match_keys
from camcli.models.labels import read_labels, stored_names
from camcli.models.model import Model
from camcli.models.options import ModelOptions
from camcli.models.skip_init import SkipInit
from camcli.models.weights import (
    GivenWeights,
    fit,
    given_weights,
    implied_arguments,
    random_weights,
    sha256,
)

PREFIX = "hf:"
WEIGHTS = "model.safetensors"
PROBLEMS = MappingProxyType({"multi_label_classification": "sigmoid", "regression": "none"})
"""The activations of a configuration's `problem_type`."""
_USE = "models of the hub need"


def load_hf(options: ModelOptions) -> Model:
    """Load a network with the weights of the options. Raises ModelError.

    Only weights in WEIGHTS are read, and no code that a folder holds is run.
    """
    name, transformers = options.name, require_transformers(_USE)
    with quiet(transformers):
        folder = folder_of(name)
        config = config_of(transformers, folder, name)
        task = task_of(config, name)
        classes = getattr(transformers, task.classes)
        preset, given = preset_of(transformers, folder, name), given_weights(options)
        module, used, digest = with_weights(classes, config, folder, given, options)
    count = int(module.config.num_labels)  # type: ignore[union-attr,arg-type]
    names = stored_names(given and given.labels, count) or _class_names(module)
    if options.labels is not None:
        names = read_labels(options.labels, count)
    activation = PROBLEMS.get(str(module.config.problem_type), "auto")  # type: ignore[union-attr]
    module = task.wrap(module, names)
    return Model(
        module=module,
        name=short_name(name),
        weights=used,
        weights_hash=digest,
        preset=preset,
        preset_from="transformers",
        class_names=names,
        num_classes=count,
        layer=task.layer(module),
        task=task.name,
        activation=activation,
    )


def outline_hf(name: str) -> Model:
    """Build a network on the meta device. Raises ModelError."""
    transformers = require_transformers(_USE)
    with quiet(transformers):
        folder = folder_of(name)
        preset = preset_of(transformers, folder, name)
        config = config_of(transformers, folder, name)
        task = task_of(config, name)
        with SkipInit():
            module = build(getattr(transformers, task.classes), config, name)
    names, count = _class_names(module), int(module.config.num_labels)  # type: ignore[union-attr,arg-type]
    module = task.wrap(module, names)
    return Model(
        module=module.to("meta").eval(),
        name=short_name(name),
        weights="none",
        preset=preset,
        preset_from="transformers",
        class_names=names,
        num_classes=count,
        layer=task.layer(module),
        task=task.name,
    )


def with_weights(
    classes: Any, config: Any, folder: Path, given: GivenWeights | None, options: ModelOptions
) -> tuple[nn.Module, str, str | None]:
    """Return a network with the weights of the options, their name and their digest.

    `given` are those of a file or a state dict. Raises ModelError.
    """
    if given is not None:
        return _given(classes, config, given, options), given.name, given.digest
    if options.weights == "none":
        module = random_network(classes, config, options.name, options.seed)
        return module, random_weights(options.seed), None
    return _pretrained(classes, folder, options.name), WEIGHTS, sha256(folder / WEIGHTS)


def short_name(name: str, prefix: str = PREFIX) -> str:
    """Return the name of a folder, without the path to it, or that of a model of the hub."""
    bare = name.removeprefix(prefix)
    return Path(bare).resolve().name if os.path.isdir(bare) else name


def folder_of(name: str, prefix: str = PREFIX) -> Path:
    """Return the folder of a model, downloaded if it is a name on the hub. Raises ModelError."""
    bare = name.removeprefix(prefix)
    if os.path.isdir(bare):
        return Path(bare)
    ways_out = "give a folder that save_pretrained wrote, or --model mini, which needs no download"
    try:
        return hub_folder(bare, [WEIGHTS])
    except HubError as error:
        if not error.known:
            raise ModelError(
                f"model '{name}' is neither a folder nor a name on the hub: {ways_out}"
            ) from None
        raise ModelError(f"cannot download {bare} for {name} ({error}): {ways_out}") from None


def config_of(transformers: Any, folder: Path, name: str) -> Any:
    """Return the configuration of a folder. Raises ModelError."""
    try:
        return transformers.AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except UNREADABLE as error:
        raise ModelError(f"model '{name}': {CONFIG} is not usable ({one_line(error)})") from None


def build(classes: Any, config: Any, name: str) -> nn.Module:
    """Build a network of one of the `Auto` classes from its configuration. Raises ModelError."""
    try:
        module: nn.Module = classes.from_config(
            config, trust_remote_code=False, dtype=torch.float32
        )
    except UNREADABLE as error:
        reason = one_line(error).partition(" for this kind of AutoModel")[0]
        raise ModelError(f"model '{name}' is no image classifier ({reason})") from None
    return module


def _pretrained(classes: Any, folder: Path, name: str) -> nn.Module:
    """Load a network of one of the `Auto` classes with its weights. Raises ModelError."""
    if find_file(folder, [WEIGHTS]) is None:
        raise ModelError(
            f"model '{name}': no {WEIGHTS} in it; other formats are not read: give --weights FILE, "
            f"or save it with save_pretrained(folder, safe_serialization=True)"
        )
    try:
        module, report = classes.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except UNREADABLE as error:
        reason = one_line(error).partition(" for this kind of AutoModel")[0]
        raise ModelError(f"model '{name}' cannot be loaded ({reason})") from None
    if missing := sorted(report["missing_keys"]):
        raise ModelError(
            f"model '{name}': {WEIGHTS} lacks {missing[0]} ({len(missing)} in all), which would "
            f"be random: expected all weights of the network"
        )
    loaded: nn.Module = module
    return loaded


def random_network(classes: Any, config: Any, name: str, seed: int) -> nn.Module:
    """Build a network of one of the `Auto` classes with random weights. Raises ModelError."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(classes, config, name)


def _given(classes: Any, config: Any, given: GivenWeights, options: ModelOptions) -> nn.Module:
    """Build the network for the classes of a state dict, and load it. Raises ModelError."""
    module = random_network(classes, config, options.name, options.seed)
    state = match_keys(given.state, module.state_dict(), options.weights)
    implied = implied_arguments(module, state) if count_classes(module) else {}
    if "num_classes" in implied:
        config.num_labels = implied["num_classes"]  # also resets the class names
        module = random_network(classes, config, options.name, options.seed)
    fit(module, state, options.weights, options.name)
    return module


def _class_names(module: nn.Module) -> tuple[str, ...] | None:
    """Return the class names of a configuration, unless they are those it makes up."""
    known: Mapping[Any, str] = module.config.id2label  # type: ignore[union-attr,assignment]
    names = {int(index): str(name) for index, name in known.items()}
    if names.keys() != set(range(len(names))):
        return None
    ordered = tuple(names[index] for index in range(len(names)))
    return None if all(re.fullmatch(r"LABEL_\d+", name) for name in ordered) else ordered
