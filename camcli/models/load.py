"""Load networks by name."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from camcli.errors import ModelError, one_line, unknown
from camcli.images.preprocess import Preset
from camcli.models.checkpoint import is_state
from camcli.models.factory import preset_for
from camcli.models.folder import CARD, read_card, with_files
from camcli.models.head import count_classes, replace_classifier
from camcli.models.labels import read_labels
from camcli.models.model import Model
from camcli.models.options import Labels, ModelOptions, PreprocessOptions
from camcli.models.precision import PRECISIONS
from camcli.models.preprocessing import with_preprocessing
from camcli.models.sources import SOURCES, describe, find_source, trainable_sources, true_name

_LOADING = threading.RLock()
GIVEN = "given"
"""The name of weights that are given as a state dict."""


def load(
    name: str | nn.Module = "mini",
    weights: str | Path | Mapping[str, Tensor] = "DEFAULT",
    *,
    labels: Labels | None = None,
    device: str | torch.device = "cpu",
    seed: int = 0,
    precision: str = "fp32",
    arguments: Mapping[str, Any] | None = None,
    activation: str = "auto",
    preset: Preset | None = None,
    texts: Sequence[str] = (),
    template: str | None = None,
) -> Model:
    """Load a network by name, or wrap a module.

    A module is used as it is, with its weights and on its device: only `labels`, `activation` and
    `preset` apply. Its mode does not matter.

    `name` is otherwise one that a source in `sources.SOURCES` accepts: `mini`, the bundled model; a
    torchvision model, also spelled as ResNet-50; a folder written by `camcli train`, with its own
    weights, preprocessing and class names; `timm:NAME`; `hf:NAME` or a folder that
    `save_pretrained` wrote; `clip:NAME`, a CLIP or SigLIP; or `package.module:factory` or
    `path/to/file.py:factory`, a function or class that is imported and called, which runs its code.
    Images of a factory's network are preprocessed as for most of torchvision's.

    `weights` is `DEFAULT` or another name from torchvision (downloaded once, into TORCH_HOME), a
    file such as `.pth`, `.ckpt` or `.safetensors` (no code in it is run), a state dict, a folder
    written by `camcli train`, or `none` for random weights from `seed`. The number of classes
    follows the weights. `labels` are class names for a custom head: a file, a list, or a mapping
    between names and indices (see `labels.read_labels`), or `imagenet`. `precision` is one of
    PRECISIONS. `arguments` are passed to the function that builds the network, where the source
    takes them. `preset` is the preprocessing; None is that of the source. `texts` are the classes
    of `clip:NAME`; without them, the names in `labels` are, each put in the place of `{}` in
    `template`.

    `activation` says what the network's values are. `softmax`: scores of classes of which one is
    true. `sigmoid`: the logit of class 1 against class 0, or one logit for each of several
    independent labels. `none`: values without probabilities, as of a regression. `auto` is softmax
    for several values; explaining one value then raises TargetError. The values are those before a
    softmax or sigmoid of this kind that the network ends in. Raises ModelError.
    """
    if isinstance(name, nn.Module):
        given = weights, device, seed, precision, arguments, tuple(texts), template
        if given != ("DEFAULT", "cpu", 0, "fp32", None, (), None):
            raise ValueError(
                "a module is used as it is: expected no weights, device, arguments or texts"
            )
        options = ModelOptions(type(name).__name__, labels=labels, activation=activation)
        return _wrapped(name, options, preset)
    state = None
    if isinstance(weights, Mapping):
        if not is_state(weights):
            raise ModelError("weights: expected a state_dict, a mapping of names to tensors")
        state, weights = weights, GIVEN
    options = ModelOptions(
        name=name,
        weights=str(weights),
        labels=labels,
        device=device,
        seed=seed,
        precision=precision,
        activation=activation,
        arguments=arguments or {},
        state=state,
        texts=(texts,) if isinstance(texts, str) else tuple(texts),
        template=template,
    )
    model = load_model(options)
    return model if preset is None else replace(model, preset=preset, preset_from="given")


def _wrapped(module: nn.Module, options: ModelOptions, preset: Preset | None) -> Model:
    """Return a Model of a module, which stays as it is. Raises ModelError."""
    count = count_classes(module)
    own, preset_from = preset_for(module)
    model = Model(
        module=module,
        name=options.name,
        preset=preset or own,
        preset_from="given" if preset else preset_from,
        class_names=None if options.labels is None else read_labels(options.labels, count),
        num_classes=count,
    )
    return _with_activation(model, options)


def load_model(
    options: ModelOptions,
    preprocessing: PreprocessOptions = PreprocessOptions(),  # noqa: B008 - frozen
) -> Model:
    """Load the network of some options; see `load`. Raises ModelError.

    Threads load one after the other: random weights come from torch's own generator.
    """
    with _LOADING:
        return _loaded(replace(options, name=true_name(options.name)), preprocessing)


def _loaded(options: ModelOptions, preprocessing: PreprocessOptions) -> Model:
    if options.precision not in PRECISIONS:
        raise ModelError(unknown("precision", options.precision, PRECISIONS))
    device = pick_device(options.device)
    model = _with_activation(_load_from_source(options), options)
    if model.num_classes == 0:
        raise ModelError(f"model '{model.name}' has no classes: expected at least one")
    model = with_preprocessing(model, preprocessing)
    module = model.module.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    if options.precision != "fp32":
        if model.task == "detection":
            raise ModelError(f"{model.name} is a detection model, which needs precision fp32")
        module.to(PRECISIONS[options.precision])
    return model


def outline(name: str, arguments: Mapping[str, Any] | None = None) -> Model:
    """Return a network on the meta device if its source can build it there. Raises ModelError.

    Otherwise the network is loaded with its weights. With arguments for the function that builds
    it, it has random weights.
    """
    name = true_name(name)
    source = find_source(name)
    if arguments:
        return load_model(ModelOptions(name, "none", arguments=arguments))
    return source.outline(name) if source.outline else load_model(ModelOptions(name))


def load_for_training(options: ModelOptions, class_names: Sequence[str]) -> Model:
    """Return a classifier for some classes, with random or given weights. Raises ModelError.

    The last linear map is replaced if the given weights have other classes.
    """
    options = replace(options, name=true_name(options.name))
    source = find_source(options.name)
    if source.initialise is None:
        expected = describe(trainable_sources())
        raise ModelError(f"model '{options.name}' cannot be trained: expected {expected}")
    if source.outline and (task := source.outline(options.name).task) != "classification":
        raise ModelError(f"model '{options.name}' is for {task}: expected a classification model")
    if options.weights == "none":
        return source.initialise(options.name, class_names, options.seed)
    return with_classes(load_model(options), class_names)


def with_classes(model: Model, class_names: Sequence[str]) -> Model:
    """Return a model for other classes; the last linear map is replaced in place.

    Returns the model itself if it has these classes. Raises ModelError if it is no classifier.
    """
    if model.class_names == tuple(class_names):
        return model
    if model.task != "classification" or count_classes(model.module) is None:
        raise ModelError(f"model '{model.name}': expected a classifier, with a last linear layer")
    replace_classifier(model.module, len(class_names))
    return replace(model, class_names=tuple(class_names), num_classes=len(class_names), head=None)


def pick_device(name: str | torch.device) -> torch.device:
    """Return the device of a name; `auto` prefers CUDA, then MPS, then the CPU.

    Raises ModelError if the name is unknown or the device is not available.
    """
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
        raise ModelError(f"device '{name}' is not available: {reason}") from None
    return device


def _with_activation(model: Model, options: ModelOptions) -> Model:
    """Return a model with its activation, and with two classes for a sigmoid of one logit.

    `auto` keeps an activation that the source knows.
    """
    activation = model.activation if options.activation == "auto" else options.activation
    names, count = model.class_names, model.num_classes
    if activation == "sigmoid" and count == 1:
        # A source's own single name is that of the logit.
        count, names = 2, names if options.labels or len(names or ()) == 2 else None
    if names and len(names) != count is not None:
        raise ModelError(
            f"labels: {len(names)} names given, {count} expected for {model.name} with activation "
            f"{activation}; two classes by one logit have activation sigmoid"
        )
    return replace(model, activation=activation, num_classes=count, class_names=names)


def _load_from_source(options: ModelOptions) -> Model:
    """Load a network from its source. Weights may be a folder written by `camcli train`."""
    source, folder = find_source(options.name), Path(options.weights)
    if options.arguments and not source.takes_arguments:
        takers = describe(source for source in SOURCES if source.takes_arguments)
        raise ModelError(f"model '{options.name}' takes no arguments (--model-arg): only {takers}")
    if (options.texts or options.template) and not source.takes_texts:
        takers = describe(source for source in SOURCES if source.takes_texts)
        raise ModelError(
            f"model '{options.name}' takes no texts (--text, --template): only {takers}"
        )
    if options.state is not None or not (folder / CARD).is_file():
        return source.load(options)
    model = source.load(with_files(options, folder))
    return replace(model, preset=read_card(folder)[1], preset_from="camcli train")
