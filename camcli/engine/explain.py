"""explain(): one watched forward pass per batch, every method and target from it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple, SupportsIndex, TypeAlias, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from camcli.capture.discover import survey
from camcli.capture.evidence import Evidence
from camcli.capture.forward import Pass, Watch
from camcli.capture.hooks import borrowed
from camcli.capture.readers import Reader
from camcli.capture.targets import Score, Target, parse_target
from camcli.capture.tracing import trace
from camcli.capture.windows import Window
from camcli.engine.photo import Photo, opened
from camcli.errors import ImageError, MethodError, unknown
from camcli.images.preprocess import Preset, preprocess
from camcli.methods import fusion
from camcli.methods.registry import AT_LAYER, METHODS, Method
from camcli.models.families import find_layer, layout_of, row_layer
from camcli.models.load import Model
from camcli.models.precision import at_least_float32

Inputs: TypeAlias = Any
"""Tensor (N,3,H,W); a tuple, the model's arguments; or a PIL image, a path, or a list of these."""
Region: TypeAlias = Tensor | Sequence[float]
"""x0, y0, x1, y1, or a tensor of such (N,4)."""
TargetLike: TypeAlias = str | SupportsIndex | Score
"""A tensor of several indices, (N,), holds a class for each image."""


class Said(NamedTuple):
    """A text about an image whose score is explained, and its probability.

    `answers` are the network's own, the best first, and `words` those of the text where each has a
    map; with their probabilities.
    """

    text: str
    probability: float
    answers: tuple[tuple[str, float], ...] = ()
    words: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Explanation:
    """Where the network looked, for one method and one target over a batch.

    `maps` (N,h,w) at the layer's resolution, or (N,3,H,W) for methods that give images: raw,
    unscaled, in the model's own precision but at least float32; those fused of several layers are
    (N,H,W) in [0, 1].
    `scores` (N,) are the pre-softmax scores explained, `classes` (N,) the class indices and
    `probabilities` (N,) the classes' softmax; these two are None for a function as target. `boxes`
    (N,4) are the classes' best boxes, x0, y0, x1, y1 in input pixels, of a detection network. All
    are detached and on the model's device. `said` are the N texts of a language model. `photos` are
    the images behind it where paths or PIL images were given, and none where tensors were; a
    notebook shows their overlays.
    """

    method: str
    target: str
    layer: str | None
    maps: Tensor
    scores: Tensor
    classes: Tensor | None
    probabilities: Tensor | None
    boxes: Tensor | None = None
    said: tuple[Said, ...] | None = None
    photos: tuple[Photo, ...] = field(default=(), repr=False, compare=False)

    def overlay(self, i: int = 0, *, colormap: str = "auto", alpha: float = 0.5) -> Image.Image:
        """The map over photo `i`, in its size, as `camcli explain` draws it.

        Raises ValueError where tensors were explained, and ImageError where a file is gone.
        """
        from camcli.render import (
            draw,  # OpenCV, only where something is drawn
        )

        if not self.photos:
            raise ValueError("no photo to draw on: explain paths or PIL images instead of tensors")
        photo, values = self.photos[i], self.maps[i].float().cpu().numpy()
        style, signed = draw.Style(colormap, alpha), METHODS[self.method].signed
        drawn = draw.overlay(photo.pixels(), values, photo.crop, style, signed)
        box = None if self.boxes is None else self.boxes[i].tolist()
        if corners := photo.crop.corners(box, photo.seen):
            draw.draw_box(drawn, corners)
        return Image.fromarray(drawn)

    def _repr_png_(self) -> bytes | None:
        """For notebooks: the overlays side by side, the first few of many; None without photos."""
        from camcli.render import draw, panels

        count = min(len(self.photos), _SHOWN)
        try:
            overlays = [self.overlay(i) for i in range(count)]
        except ImageError:  # a file is gone: a notebook shows the text instead
            return None
        return draw.png(panels.strip([np.asarray(one) for one in overlays])) if count else None


_SHOWN = 6
"""The most overlays that a notebook shows at once."""


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
    method: Sequence[str],
    target: TargetLike | Sequence[TargetLike] = ...,
    layer: str | Sequence[str | None] | None = ...,
    *,
    window: Window = ...,
    fuse: str | None = ...,
    region: Region | None = ...,
) -> list[Explanation]: ...
@overload
def explain(
    model: Model | nn.Module,
    inputs: Inputs,
    method: str = ...,
    *,
    target: Sequence[TargetLike],
    layer: str | Sequence[str | None] | None = ...,
    window: Window = ...,
    fuse: str | None = ...,
    region: Region | None = ...,
) -> list[Explanation]: ...
@overload
def explain(
    model: Model | nn.Module,
    inputs: Inputs,
    method: str = ...,
    target: TargetLike = ...,
    *,
    layer: Sequence[str | None],
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

    `model`: from `camcli.load`, or any `nn.Module`. `inputs`: a tensor (N,3,H,W), already
    preprocessed; a tuple of the model's arguments, the first image batch among them being the one
    explained; or, for a Model, a PIL image, a path, or a list of these. `method`: names in METHODS.
    `target`: `pred`, `topK`, a class index, a class name, one of these behind `finer:` or `not:`,
    a tensor (N,) with an index for each image, or a function from the model's output to one score
    per image (N,). `layer`: a dotted path; None finds the last feature map before the head.
    `window` is the square of the occlusion method. `fuse`, one of FUSIONS, makes one map of those
    of several layers. `region`: for a segmentation network, the x0, y0, x1, y1 in input pixels, one
    for all images or (N,4), over which the class's scores are summed; None takes the pixels where
    it is the best class.

    One method, target and layer give an Explanation, a list of any gives a list: methods outermost,
    then targets, then layers for the methods that take one. All share one forward pass. The model
    is unchanged afterwards. Raises CamcliError for a method, target or layer that does not fit,
    ValueError and TypeError for misuse.
    """
    model = model if isinstance(model, Model) else Model(model)
    methods = [method] if isinstance(method, str) else list(method)
    single = isinstance(target, str | SupportsIndex) or callable(target)
    targets: list[Any] = [target] if single else list(target)  # type: ignore[arg-type]
    parsed = [parse_target(spec, model.class_names, model.num_classes) for spec in targets]
    batch, photos = _opened(model, inputs)
    one_layer = layer is None or isinstance(layer, str)
    layers: list[str | None] = [layer] if one_layer else list(layer)  # type: ignore[list-item, arg-type]
    reader = Reader(model.task, model.num_classes, _regions(region, batch))
    found = _explain(model, batch, pick_methods(methods), parsed, layers, window, fuse, reader)
    found = [replace(shown, photos=photos) for shown in found] if photos else found
    return found[0] if single and one_layer and isinstance(method, str) else found


def probabilities(
    model: Model | nn.Module, inputs: Inputs, *, region: Region | None = None
) -> Tensor:
    """What a model says of a batch: the probability of every class (N,K).

    By softmax; of a segmentation network the means over the pixels asked about, of a detection
    network the scores of the classes' best boxes. `inputs` and `region` are as for `explain`.
    """
    model = model if isinstance(model, Model) else Model(model)
    batch = as_inputs(model, inputs)
    reader = Reader(model.task, model.num_classes, _regions(region, batch))
    watch = Watch(model.module, reader=reader)
    with borrowed(model.module), closing(Pass(watch, batch, [])) as run:
        return run.probabilities


def aimed(
    model: Model | nn.Module, inputs: Inputs, target: TargetLike = "pred"
) -> tuple[Tensor, Tensor]:
    """The class that a target means for each image (N,), and its probability (N,).

    As an Explanation has them, for the cost of a forward pass. Raises TypeError for a function,
    which means no class.
    """
    model = model if isinstance(model, Model) else Model(model)
    meant = parse_target(target, model.class_names, model.num_classes)
    watch = Watch(model.module, reader=Reader(model.task, model.num_classes))
    with (
        borrowed(model.module),
        closing(Pass(watch, as_inputs(model, inputs), [meant])) as run,
    ):
        (aim,) = run.aims
        if aim.classes is None or aim.probability is None:
            raise TypeError(f"target '{meant.spec}' is a function: expected a class")
        return aim.classes, aim.probability


def pick_methods(names: Sequence[str]) -> list[Method]:
    """The registered methods of these names. Raises MethodError for one that is not registered."""
    for name in names:
        if name not in METHODS:
            raise MethodError(unknown("method", name, METHODS))
    return [METHODS[name] for name in names]


def as_inputs(model: Model, inputs: Inputs) -> tuple[Any, ...]:
    """The model's arguments on its device, from whatever `explain` takes."""
    return _opened(model, inputs)[0]


def _opened(model: Model, inputs: Inputs) -> tuple[tuple[Any, ...], tuple[Photo, ...]]:
    """The model's arguments on its device, and the photos that they are made of, if any."""
    if isinstance(inputs, tuple):
        return tuple(x.to(model.device) if isinstance(x, Tensor) else x for x in inputs), ()
    if isinstance(inputs, Tensor):
        if inputs.ndim != 4 or not len(inputs):
            raise ValueError(f"expected images (N,3,H,W), got a tensor {tuple(inputs.shape)}")
        return (inputs.to(model.device),), ()
    images = inputs if isinstance(inputs, list) else [inputs]
    if not images:
        raise ValueError("no images given")
    tensors, photos = zip(*(_prepared(model, image) for image in images), strict=True)
    return (torch.stack(tensors).to(model.device, model.dtype),), photos


def _regions(region: Region | None, inputs: tuple[Any, ...]) -> Tensor | None:
    """A region for each image, (N,4), on the images' device."""
    if region is None:
        return None
    images = next(x for x in inputs if isinstance(x, Tensor) and x.ndim)
    return torch.as_tensor(region, device=images.device).float().expand(len(images), 4)


def surveyed(model: Model, inputs: tuple[Any, ...]) -> Model:
    """The model with its automatic layer and its CAM head, found by a traced pass if not known."""
    if model.layer is not None:
        return model
    if (known := row_layer(model.module)) is not None:
        return replace(model, layer=known)
    with borrowed(model.module):
        layer, head = survey(*trace(model.module, inputs))
    return replace(model, layer=layer, head=head)


def needs_survey(methods: Sequence[Method], layers: Sequence[str | None]) -> bool:
    """Whether these methods ask for the automatic layer, or for the head that CAM reads."""
    needs = _needs(methods)
    return "pooled" in needs or (None in layers and bool(needs & AT_LAYER))


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
    needs = _needs(methods)
    if needs_survey(methods, layers):
        model = surveyed(model, inputs)
    paths = [model.layer if path is None else find_layer(model.module, path) for path in layers]
    if "pooled" in needs:
        _check_cam(model, paths)
    tapped = tuple(path for path in paths if path and needs & AT_LAYER)
    layouts = {path: layout_of(model.module, path) for path in tapped}
    grey = (0.0,) if any(model.preset.mean) else Preset.mean
    watch = Watch(
        model.module, tapped, model.head, "guided" in needs, window, reader, grey, layouts
    )
    with borrowed(model.module), closing(Pass(watch, inputs, targets)) as run:
        return [
            shown
            for method in methods
            for evidence in (run.at_layers if method.at_layer else run.apart)
            for shown in _explanations(method, evidence, fuse)
        ]


def _explanations(
    method: Method, evidence: Sequence[Evidence], fuse: str | None
) -> list[Explanation]:
    """A method's explanations of one target at each layer, or the one that they are fused to."""
    maps = [
        method.function(**{name: at_least_float32(getattr(shown, name)) for name in method.needs})
        for shown in evidence
    ]
    layers = [shown.at.tap.path if shown.at else None for shown in evidence]
    if fuse and method.at_layer:
        maps = [fusion.fuse(maps, fuse, evidence[0].run.image.shape[2:])]
        layers = [f"{fuse}({', '.join(map(str, layers))})"]
    aim = evidence[0].aim
    return [
        Explanation(
            method=method.name,
            target=aim.target.spec,
            layer=layer,
            maps=of_layer,
            scores=aim.score,
            classes=aim.classes,
            probabilities=aim.probability,
            boxes=aim.box,
        )
        for layer, of_layer in zip(layers, maps, strict=True)
    ]


def _needs(methods: Sequence[Method]) -> frozenset[str]:
    return frozenset[str]().union(*(method.needs for method in methods))


def _check_cam(model: Model, paths: Sequence[str | None]) -> None:
    if model.head is None:
        raise MethodError(
            f"cam needs a network that ends in global average pooling and one linear layer, and "
            f"{model.name} does not: use gradcam, which equals it up to scale where both exist"
        )
    for path in paths:
        if path == model.layer:
            continue
        raise MethodError(
            f"cam reads the layer before the pooling, '{model.layer}', not '{path}': "
            f"leave the layer on auto, or use gradcam"
        )


def _prepared(model: Model, image: Any) -> tuple[Tensor, Photo]:
    if not isinstance(image, str | PathLike | Image.Image):
        raise TypeError(f"expected a tensor, a PIL image or a path, got {type(image).__name__}")
    given = image if isinstance(image, Image.Image) else Path(image)
    pixels = opened(given)
    tensor, crop = preprocess(pixels, model.preset)
    size, seen = (pixels.shape[1], pixels.shape[0]), (tensor.shape[2], tensor.shape[1])
    return tensor, Photo(given, crop, size, seen)
