"""explain(): one watched forward pass per batch, every method and target from it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, SupportsIndex, TypeAlias, overload

import torch
from PIL import Image
from torch import Tensor, nn

from camcli import capture
from camcli.capture import Pass, Watch, Window
from camcli.errors import MethodError, unknown
from camcli.grids import PLAIN
from camcli.images import decode, preprocess, upright
from camcli.methods import METHODS, Method
from camcli.models import Model, find_layer, grid_of, row_layer
from camcli.survey import survey
from camcli.targets import Score, Target, parse_target

Inputs: TypeAlias = Any
"""Tensor (N,3,H,W); a tuple, the model's arguments; or a PIL image, a path, or a list of these."""
TargetLike: TypeAlias = str | SupportsIndex | Score


@dataclass(frozen=True)
class Explanation:
    """Where the network looked, for one method and one target over a batch.

    `maps` (N,h,w) at the layer's resolution, or (N,3,H,W) for methods that give images: raw,
    unscaled, in the model's own precision. `scores` (N,) are the pre-softmax scores explained,
    `classes` (N,) the class indices and `probabilities` (N,) their softmax; these two are None for
    a function as target. All are detached and on the model's device.
    """

    method: str
    target: str
    layer: str | None
    maps: Tensor
    scores: Tensor
    classes: Tensor | None
    probabilities: Tensor | None


@overload
def explain(
    model: Model | nn.Module,
    inputs: Inputs,
    method: str = ...,
    target: TargetLike = ...,
    layer: str | None = ...,
    *,
    window: Window = ...,
) -> Explanation: ...
@overload
def explain(
    model: Model | nn.Module,
    inputs: Inputs,
    method: Sequence[str],
    target: TargetLike | Sequence[TargetLike] = ...,
    layer: str | None = ...,
    *,
    window: Window = ...,
) -> list[Explanation]: ...
@overload
def explain(
    model: Model | nn.Module,
    inputs: Inputs,
    method: str = ...,
    *,
    target: Sequence[TargetLike],
    layer: str | None = ...,
    window: Window = ...,
) -> list[Explanation]: ...
def explain(
    model: Model | nn.Module,
    inputs: Inputs,
    method: str | Sequence[str] = "gradcam",
    target: TargetLike | Sequence[TargetLike] = "pred",
    layer: str | None = None,
    *,
    window: Window = Window(),  # noqa: B008 - frozen
) -> Explanation | list[Explanation]:
    """Explain a model's scores on a batch.

    `model`: from `camcli.load`, or any `nn.Module`. `inputs`: a tensor (N,3,H,W), already
    preprocessed; a tuple of the model's arguments, the first image batch among them being the one
    explained; or, for a Model, a PIL image, a path, or a list of these. `method`: names in METHODS.
    `target`: `pred`, `topK`, a class index, a class name, or a function from the model's output to
    one score per image (N,). `layer`: a dotted path; None finds the last feature map before the
    head. `window` is the square of the occlusion method.

    One method and one target give an Explanation, a list of either gives a list, methods outermost;
    all share one forward pass. The model is unchanged afterwards. Raises CamcliError for a method,
    target or layer that does not fit, ValueError and TypeError for misuse.
    """
    model = model if isinstance(model, Model) else Model(model)
    methods = [method] if isinstance(method, str) else list(method)
    single = isinstance(target, str | SupportsIndex) or callable(target)
    targets: list[Any] = [target] if single else list(target)  # type: ignore[arg-type]
    parsed = [parse_target(spec, model.class_names, model.num_classes) for spec in targets]
    batch = as_inputs(model, inputs)
    found = _explain(model, batch, pick_methods(methods), parsed, layer, window)
    return found[0] if single and isinstance(method, str) else found


def pick_methods(names: Sequence[str]) -> list[Method]:
    """The registered methods of these names. Raises MethodError for one that is not registered."""
    for name in names:
        if name not in METHODS:
            raise MethodError(unknown("method", name, METHODS))
    return [METHODS[name] for name in names]


def as_inputs(model: Model, inputs: Inputs) -> tuple[Any, ...]:
    """The model's arguments on its device, from whatever `explain` takes."""
    if isinstance(inputs, tuple):
        return tuple(x.to(model.device) if isinstance(x, Tensor) else x for x in inputs)
    if isinstance(inputs, Tensor):
        if inputs.ndim != 4 or not len(inputs):
            raise ValueError(f"expected images (N,3,H,W), got a tensor {tuple(inputs.shape)}")
        return (inputs.to(model.device),)
    images = inputs if isinstance(inputs, list) else [inputs]
    if not images:
        raise ValueError("no images given")
    batch = torch.stack([_prepared(model, image) for image in images])
    dtype = next((p.dtype for p in model.module.parameters()), batch.dtype)
    return (batch.to(model.device, dtype),)


def surveyed(model: Model, inputs: tuple[Any, ...]) -> Model:
    """The model with its automatic layer and its CAM head, found by a traced pass if not known."""
    if model.layer is not None:
        return model
    if (known := row_layer(model.module)) is not None:
        return replace(model, layer=known)
    with capture.borrowed(model.module):
        layer, head = survey(*capture.trace(model.module, inputs))
    return replace(model, layer=layer, head=head)


def needs_survey(methods: Sequence[Method], layer: str | None) -> bool:
    """Whether these methods ask for the automatic layer, or for the head that CAM reads."""
    needs = _needs(methods)
    return "pooled" in needs or (layer is None and bool(needs & _AT_LAYER))


def _explain(
    model: Model,
    inputs: tuple[Any, ...],
    methods: Sequence[Method],
    targets: Sequence[Target],
    layer: str | None,
    window: Window,
) -> list[Explanation]:
    needs = _needs(methods)
    if needs_survey(methods, layer):
        model = surveyed(model, inputs)
    path = model.layer if layer is None else find_layer(model.module, layer)
    if "pooled" in needs:
        _check_cam(model, path)
    tap = path if needs & _AT_LAYER else None
    grid = PLAIN if tap is None else grid_of(model.module, tap)
    watch = Watch(model.module, tap, model.head, "guided" in needs, window, grid)
    with capture.borrowed(model.module), closing(Pass(watch, inputs, targets)) as run:
        return [
            Explanation(
                method=method.name,
                target=shown.target.spec,
                layer=path if method.needs & _AT_LAYER else None,
                maps=method.function(**{name: getattr(shown, name) for name in method.needs}),
                scores=shown.score,
                classes=shown.classes,
                probabilities=shown.probability,
            )
            for method, shown in itertools.product(methods, run.evidence)
        ]


_AT_LAYER = frozenset({"acts", "grads", "pooled"})


def _needs(methods: Sequence[Method]) -> frozenset[str]:
    return frozenset[str]().union(*(method.needs for method in methods))


def _check_cam(model: Model, path: str | None) -> None:
    if model.head is None:
        raise MethodError(
            f"cam needs a network that ends in global average pooling and one linear layer, and "
            f"{model.name} does not: use gradcam, which equals it up to scale where both exist"
        )
    if path != model.layer:
        raise MethodError(
            f"cam reads the layer before the pooling, '{model.layer}', not '{path}': "
            f"leave the layer on auto, or use gradcam"
        )


def _prepared(model: Model, image: Any) -> Tensor:
    if isinstance(image, str | PathLike):
        pixels = decode(Path(image))
    elif isinstance(image, Image.Image):
        pixels = upright(image)
    else:
        raise TypeError(f"expected a tensor, a PIL image or a path, got {type(image).__name__}")
    tensor: Tensor = preprocess(pixels, model.preset)[0]
    return tensor
