"""explain(): one watched forward pass per batch, and every method and target from it."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from typing import Any, SupportsIndex, overload

from torch import nn

from camcli.capture.evidence import Evidence, Observation
from camcli.capture.forward import Pass, Watch
from camcli.capture.hooks import borrowed
from camcli.capture.parted import PartedTarget
from camcli.capture.readers import Reader, reader_of
from camcli.capture.similarity import embedding_outputs
from camcli.capture.target_parser import parse_target
from camcli.capture.targets import Target, TargetLike
from camcli.capture.windows import Window
from camcli.engine.explanation import Explanation
from camcli.engine.inputs import Inputs, Region, prepare_inputs, regions_of
from camcli.engine.parts import join, only_there
from camcli.engine.recommended import Recommendation, recommendations
from camcli.engine.references import with_embedding
from camcli.engine.suitability import check_network, check_target
from camcli.engine.survey import centres_at, layouts_at, with_target_layer
from camcli.errors import CamcliWarning, MethodError, unknown
from camcli.images.geometry import PIXELS, placement
from camcli.methods import fusion
from camcli.methods.backward import PLAIN, check_backward
from camcli.methods.registry import AUTO, METHODS, Method
from camcli.models.exclusive import exclusive
from camcli.models.families import Layer, find_layer
from camcli.models.model import Model
from camcli.render.enlarge import enlarge


@overload
def explain(
    model: Model | nn.Module,
    inputs: Inputs,
    method: str = ...,
    target: TargetLike = ...,
    layer: Layer | None = ...,
    *,
    window: Window = ...,
    region: Region | None = ...,
    backward: str = ...,
) -> Explanation: ...
@overload
def explain(
    model: Model | nn.Module,
    inputs: Inputs,
    method: str | Sequence[str] = ...,
    target: TargetLike | Sequence[TargetLike] = ...,
    layer: Layer | Sequence[Layer | None] | None = ...,
    *,
    window: Window = ...,
    fuse: str | None = ...,
    region: Region | None = ...,
    backward: str = ...,
) -> list[Explanation]: ...
def explain(
    model: Model | nn.Module,
    inputs: Inputs,
    method: str | Sequence[str] = "gradcam",
    target: TargetLike | Sequence[TargetLike] = "pred",
    layer: Layer | Sequence[Layer | None] | None = None,
    *,
    window: Window = Window(),  # noqa: B008 - frozen
    fuse: str | None = None,
    region: Region | None = None,
    backward: str = PLAIN,
) -> Explanation | list[Explanation]:
    """Explain a model's scores on a batch.

    - `model`: from `camcli.load`, or any `nn.Module`.
    - `inputs`: a preprocessed tensor (N,3,H,W); or a tuple of the model's arguments, of which the
      first image batch is explained; or, for a Model, a PIL image, a path, or a list of these.
    - `method`: one or several names in METHODS, or `auto`, the one recommended for the layer.
    - `target`: `pred`, `topK`, a class index, a class name, one of these after `finer:` or `not:`,
      `score` or `-score` of a regression, `p>T` for every class with a probability above T,
      `dog#3` or `pred#all` for each detected box of a class or of all, `like:REF.jpg` for the
      similarity to an image, a tensor (N,) with an index for each image, a function from the
      model's output to one score per image (N,), or a `Target`.
    - `layer`: one or several layers. None finds the last feature map before the head.
    - `window`: the square of the occlusion method.
    - `fuse`: a name in FUSIONS, which makes one map of the maps of several layers.
    - `region`: for a segmentation network, x0, y0, x1, y1 in input pixels, one for all images or
      (N,4), over which the class's scores are summed. None sums over the pixels where the class is
      the best one.
    - `backward`: a name in BACKWARDS. `libra` gives methods of gradients the rule of LibraGrad.

    Return an Explanation for one method, one target and one layer. A list of any of them returns a
    list: methods outermost, then targets, then layers for the methods that use a layer. All share
    one forward pass. The model is unchanged afterwards. Calls on one network wait for each other:
    to explain in parallel, give each thread a copy. Raises CamcliError for a method, target or
    layer that does not fit the model, and ValueError and TypeError for misuse.
    """
    model = model if isinstance(model, Model) else Model(model)
    names = [method] if isinstance(method, str) else list(method)
    single = not isinstance(target, Iterable) or isinstance(target, str | SupportsIndex | Target)
    targets: list[Any] = [target] if single else list(target)  # type: ignore[arg-type]
    parsed = [
        with_embedding(model, parse_target(spec, model.class_names, model.num_classes))
        for spec in targets
    ]
    batch, photos = prepare_inputs(model, inputs)
    one_layer = layer is None or isinstance(layer, Layer)
    layers: list[Any] = [layer] if one_layer else list(layer)  # type: ignore[arg-type]
    reader = reader_of(model, regions_of(region, batch))
    if AUTO in names:
        best = recommended(model, batch, next(iter(layers), None)).method
        names = [best if name == AUTO else name for name in names]
    with exclusive(model.module):
        methods = pick_methods(names)
        found = _explain(model, batch, methods, parsed, layers, window, fuse, reader, backward)
    found = [replace(shown, photos=photos, class_names=model.class_names) for shown in found]
    return found[0] if single and one_layer and isinstance(method, str) else found


def recommended(
    model: Model, inputs: tuple[Any, ...], layer: Layer | None = None
) -> Recommendation:
    """Return the first of the methods recommended for a layer that the network allows.

    `inputs` are arguments of the model, on which methods are tried. Raises ModelError for a layer
    that cannot be found, or that gives no map.
    """
    *preferred, last = recommendations(model, inputs, layer)
    for found in preferred:
        with suppress(MethodError):
            explain(model, inputs, found.method, layer=layer)
            return found
    return last


def pick_methods(names: Sequence[str]) -> list[Method]:
    """Return the registered methods with these names. Raises MethodError for an unknown name."""
    for name in names:
        if name not in METHODS:
            raise MethodError(unknown("method", name, METHODS))
    return [METHODS[name] for name in names]


def needs_target_layer(methods: Sequence[Method], layers: Sequence[Layer | None]) -> bool:
    """Return whether these methods need the automatic layer, or the head that CAM reads."""
    automatic = None in layers and any(method.at_layer for method in methods)
    return automatic or any("head" in method.requires for method in methods)


def _explain(
    model: Model,
    inputs: tuple[Any, ...],
    methods: Sequence[Method],
    targets: Sequence[Target],
    layers: Sequence[Layer | None],
    window: Window,
    fuse: str | None,
    reader: Reader,
    backward: str,
) -> list[Explanation]:
    if not layers:
        raise ValueError("no layer given")
    fusion.check_fusion(fuse, methods, layers)
    check_backward(backward, methods)
    if needs_target_layer(methods, layers):
        model = with_target_layer(model, inputs)
    paths = [model.layer if path is None else find_layer(model.module, path) for path in layers]
    for method in methods:
        check_network(method, model, paths)
    tapped = paths if any(method.at_layer for method in methods) else []
    watched = [path for path in tapped if path]
    watch = Watch(
        module=model.module,
        layers=tuple(watched),
        head=model.head,
        guided=any("relu" in method.requires for method in methods),
        backward=backward,
        window=window,
        reader=reader,
        grey=model.preset.mean_colour,
        layouts=layouts_at(model.module, watched, inputs),
        centres=centres_at(model.module, watched, inputs),
    )
    with borrowed(model.module), embedding_outputs(model.module, targets):
        run = Pass(watch, inputs)
        _warn_of_unknown_places(watch)
        with closing(Observation(run, targets)) as observation:
            return [
                shown
                for method in methods
                for target, group in zip(targets, observation.groups, strict=True)
                for shown in _explain_target(method, target, observation, group, fuse)
            ]


def _warn_of_unknown_places(watch: Watch) -> None:
    for path, centres in watch.centres.items():
        if (kind := placement(centres)) in _PLACES:
            spread = centres.spread if centres else 0
            message = f"layer '{path}': {_PLACES[kind].format(spread)}"
            warnings.warn(message, CamcliWarning, stacklevel=3)


_PLACES = {
    "equal-parts": "the places of its cells in the image are not known; its maps are placed as "
    "equal parts of the input",
    "approximate": "the branches before it look at different places; its maps may be off by {:.2f} "
    "cells",
}
"""What to say of a layer, by its placement."""


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
    joined = [join(parts) for parts in zip(*each, strict=True)]
    if isinstance(target, PartedTarget):
        return [only_there(target, shown) for shown in joined]
    return joined


def _explain_layers(
    method: Method, evidence: Sequence[Evidence], fuse: str | None
) -> list[Explanation]:
    """Return a method's explanations of a resolved target at each layer, or the one fused map."""
    check_target(method, evidence[0].scored)
    found = [_explanation(method, shown) for shown in evidence]
    if not (fuse and method.at_layer):
        return found
    return [_fused(found, fuse, evidence[0].run.image.shape[2:])]


def _explanation(method: Method, shown: Evidence) -> Explanation:
    scored, needs = shown.scored, {name: shown[name] for name in method.needs}
    placed = shown.placed if "vertical" in method.needs else {}
    return Explanation(
        method=method.name,
        target=scored.target.spec,
        layer=shown.layer.path if shown.layer else None,
        maps=method.function(**needs),
        scores=scored.score,
        classes=scored.target.classes,
        probabilities=scored.probability,
        confidences=scored.confidence,
        ranking=scored.ranking,
        boxes=scored.box,
        texts=scored.target.texts,
        centres=PIXELS if method.image else shown.centres,
        drawn=method.function(**needs | placed) if placed else None,
    )


def _fused(found: Sequence[Explanation], fuse: str, shape: Sequence[int]) -> Explanation:
    """Return the one explanation (N,H,W) that is fused from those of several layers."""
    maps = [enlarge(one.maps, shape, one.centres) for one in found]
    known = all(one.centres for one in found)
    return replace(
        found[0],
        layer=f"{fuse}({', '.join(str(one.layer) for one in found)})",
        maps=fusion.fuse(maps, fuse),
        centres=PIXELS if known else None,
    )
