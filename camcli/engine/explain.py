"""explain(): one watched forward pass per batch, and every method and target from it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any, SupportsIndex, TypeAlias, overload

import torch
from torch import Tensor, nn

from camcli.capture.evidence import Evidence, Observation
from camcli.capture.forward import Pass, Watch
from camcli.capture.hooks import borrowed
from camcli.capture.readers import Reader
from camcli.capture.targets import Score, Target, WeightedClasses, parse_target
from camcli.capture.windows import Window
from camcli.engine.explanation import Explanation
from camcli.engine.inputs import Inputs, prepare_inputs
from camcli.engine.survey import layouts_at, with_target_layer
from camcli.errors import MethodError, unknown
from camcli.images.preprocess import Preset
from camcli.methods import fusion
from camcli.methods.registry import METHODS, Method
from camcli.models.families import find_layer
from camcli.models.model import Model

Region: TypeAlias = Tensor | Sequence[float]
"""x0, y0, x1, y1 in input pixels, or one region for each image (N,4)."""
TargetLike: TypeAlias = str | SupportsIndex | Score | Target
"""A tensor (N,) holds a class index for each image."""


@overload
def explain(
    model: Model | nn.Module,
    inputs: Inputs,
    method: str = ...,
    target: TargetLike = ...,
    layer: str | None = ...,
    *,
    window: Window = ...,
    region: Region | None = ...,
) -> Explanation: ...
@overload
def explain(
    model: Model | nn.Module,
    inputs: Inputs,
    method: str | Sequence[str] = ...,
    target: TargetLike | Sequence[TargetLike] = ...,
    layer: str | Sequence[str | None] | None = ...,
    *,
    window: Window = ...,
    fuse: str | None = ...,
    region: Region | None = ...,
) -> list[Explanation]: ...
def explain(
    model: Model | nn.Module,
    inputs: Inputs,
    method: str | Sequence[str] = "gradcam",
    target: TargetLike | Sequence[TargetLike] = "pred",
    layer: str | Sequence[str | None] | None = None,
    *,
    window: Window = Window(),  # noqa: B008 - frozen
    fuse: str | None = None,
    region: Region | None = None,
) -> Explanation | list[Explanation]:
    """Explain a model's scores on a batch.

    - `model`: from `camcli.load`, or any `nn.Module`.
    - `inputs`: a preprocessed tensor (N,3,H,W); or a tuple of the model's arguments, of which the
      first image batch is explained; or, for a Model, a PIL image, a path, or a list of these.
    - `method`: one or several names in METHODS.
    - `target`: `pred`, `topK`, a class index, a class name, one of these after `finer:` or `not:`,
      a tensor (N,) with an index for each image, a function from the model's output to one score
      per image (N,), or a `Target`.
    - `layer`: one or several dotted paths. None finds the last feature map before the head.
    - `window`: the square of the occlusion method.
    - `fuse`: a name in FUSIONS, which makes one map of the maps of several layers.
    - `region`: for a segmentation network, x0, y0, x1, y1 in input pixels, one for all images or
      (N,4), over which the class's scores are summed. None sums over the pixels where the class is
      the best one.

    Return an Explanation for one method, one target and one layer. A list of any of them returns a
    list: methods outermost, then targets, then layers for the methods that use a layer. All share
    one forward pass. The model is unchanged afterwards. Raises CamcliError for a method, target or
    layer that does not fit the model, and ValueError and TypeError for misuse.
    """
    model = model if isinstance(model, Model) else Model(model)
    methods = [method] if isinstance(method, str) else list(method)
    single = isinstance(target, str | SupportsIndex | Target) or callable(target)
    targets: list[Any] = [target] if single else list(target)  # type: ignore[arg-type]
    parsed = [parse_target(spec, model.class_names, model.num_classes) for spec in targets]
    batch, photos = prepare_inputs(model, inputs)
    one_layer = layer is None or isinstance(layer, str)
    layers: list[str | None] = [layer] if one_layer else list(layer)  # type: ignore[list-item, arg-type]
    reader = Reader(model.task, model.num_classes, _regions(region, batch))
    found = _explain(model, batch, pick_methods(methods), parsed, layers, window, fuse, reader)
    found = [replace(shown, photos=photos) for shown in found] if photos else found
    return found[0] if single and one_layer and isinstance(method, str) else found


def probabilities(
    model: Model | nn.Module, inputs: Inputs, *, region: Region | None = None
) -> Tensor:
    """Return the probability of every class for a batch, (N,K).

    They are the softmax of the scores. For a segmentation network they are means over the pixels of
    `region`, for a detection network the scores of the classes' best boxes. `inputs` and `region`
    are as for `explain`.
    """
    model = model if isinstance(model, Model) else Model(model)
    batch, _ = prepare_inputs(model, inputs)
    watch = Watch(
        model.module, reader=Reader(model.task, model.num_classes, _regions(region, batch))
    )
    with borrowed(model.module):
        return Pass(watch, batch).probabilities


def class_and_probability(
    model: Model | nn.Module, inputs: Inputs, target: TargetLike = "pred"
) -> tuple[Tensor, Tensor]:
    """Return the class that a target selects for each image (N,), and its probability (N,).

    They equal those of an Explanation and cost one forward pass. Raises TypeError for a target that
    is not a class.
    """
    model = model if isinstance(model, Model) else Model(model)
    parsed = parse_target(target, model.class_names, model.num_classes)
    watch = Watch(model.module, reader=Reader(model.task, model.num_classes))
    with borrowed(model.module):
        run = Pass(watch, prepare_inputs(model, inputs)[0])
        with closing(Observation(run, [parsed])) as observation:
            (scored,) = observation.scored
            if scored.target.classes is None or scored.probability is None:
                raise TypeError(f"target '{parsed.spec}' is a function: expected a class")
            return scored.target.classes, scored.probability


def pick_methods(names: Sequence[str]) -> list[Method]:
    """Return the registered methods with these names. Raises MethodError for an unknown name."""
    for name in names:
        if name not in METHODS:
            raise MethodError(unknown("method", name, METHODS))
    return [METHODS[name] for name in names]


def needs_target_layer(methods: Sequence[Method], layers: Sequence[str | None]) -> bool:
    """Return whether these methods need the automatic layer, or the head that CAM reads."""
    automatic = None in layers and any(method.at_layer for method in methods)
    return automatic or any("head" in method.requires for method in methods)


def _explain(
    model: Model,
    inputs: tuple[Any, ...],
    methods: Sequence[Method],
    targets: Sequence[Target],
    layers: Sequence[str | None],
    window: Window,
    fuse: str | None,
    reader: Reader,
) -> list[Explanation]:
    if not layers:
        raise ValueError("no layer given")
    fusion.check_fusion(fuse, methods, layers)
    if needs_target_layer(methods, layers):
        model = with_target_layer(model, inputs)
    paths = [model.layer if path is None else find_layer(model.module, path) for path in layers]
    for method in methods:
        _check_network(method, model, paths)
    tapped = paths if any(method.at_layer for method in methods) else []
    watch = Watch(
        module=model.module,
        layers=tuple(path for path in tapped if path),
        head=model.head,
        guided=any("relu" in method.requires for method in methods),
        window=window,
        reader=reader,
        grey=(0.0,) if any(model.preset.mean) else Preset.mean,
        layouts=layouts_at(model.module, [path for path in tapped if path], inputs),
    )
    with borrowed(model.module):
        run = Pass(watch, inputs)
        with closing(Observation(run, targets)) as observation:
            return [
                shown
                for method in methods
                for target, group in zip(targets, observation.groups, strict=True)
                for shown in _explain_target(method, target, observation, group, fuse)
            ]


def _explain_target(
    method: Method,
    target: Target,
    observation: Observation,
    group: Sequence[Any],
    fuse: str | None,
) -> list[Explanation]:
    """Return a method's explanations of a target, one for each layer or one fused from them."""
    each = [
        _explain_layers(method, observation.evidence(part, at_layers=method.at_layer), fuse)
        for part in group
    ]
    if not target.several:
        return each[0]
    return [
        replace(
            parts[0],
            maps=torch.stack([part.maps for part in parts], 1),  # (N,P,h,w) for P parts
            scores=torch.stack([part.scores for part in parts]).sum(0),
        )
        for parts in zip(*each, strict=True)
    ]


def _explain_layers(
    method: Method, evidence: Sequence[Evidence], fuse: str | None
) -> list[Explanation]:
    """Return a method's explanations of a resolved target at each layer, or the one fused map."""
    scored, image = evidence[0].scored, evidence[0].run.image
    _check_target(method, scored.target)
    maps = [method.function(**{name: shown[name] for name in method.needs}) for shown in evidence]
    layers = [shown.layer.path if shown.layer else None for shown in evidence]
    if fuse and method.at_layer:
        maps = [fusion.fuse(maps, fuse, image.shape[2:])]
        layers = [f"{fuse}({', '.join(map(str, layers))})"]
    return [
        Explanation(
            method=method.name,
            target=scored.target.spec,
            layer=layer,
            maps=of_layer,
            scores=scored.score,
            classes=scored.target.classes,
            probabilities=scored.probability,
            confidences=scored.confidence,
            boxes=scored.box,
            texts=scored.target.texts,
        )
        for layer, of_layer in zip(layers, maps, strict=True)
    ]


def _check_network(method: Method, model: Model, paths: Sequence[str | None]) -> None:
    """Raise MethodError if the network does not fit the method."""
    if "softmax" in method.requires and model.task != "classification":
        raise MethodError(
            f"{method.name} is for classification networks; this is a {model.task} one: use gradcam"
        )
    if "head" not in method.requires:
        return
    if model.head is None:
        raise MethodError(
            f"{method.name} needs a network that ends in global average pooling and one linear "
            f"layer, and {model.name} does not: use gradcam, which equals it up to scale where "
            f"both exist"
        )
    for path in paths:
        if path != model.layer:
            raise MethodError(
                f"{method.name} reads the layer before the pooling, '{model.layer}', not '{path}': "
                f"leave the layer on auto, or use gradcam"
            )


def _check_target(method: Method, target: Target) -> None:
    """Raise MethodError if the method needs another kind of target."""
    fits = isinstance(target, WeightedClasses) and (
        "one class" not in method.requires or target.is_plain
    )
    if method.requires & {"classes", "one class"} and not fits:
        given = "a function" if target.raw else f"'{target.spec}'"
        raise MethodError(f"{method.name} explains a class, not {given}: use gradcam")


def _regions(region: Region | None, inputs: tuple[Any, ...]) -> Tensor | None:
    """Return a region for each image, (N,4), on the images' device."""
    if region is None:
        return None
    images = next(x for x in inputs if isinstance(x, Tensor) and x.ndim)
    return torch.as_tensor(region, device=images.device).float().expand(len(images), 4)
