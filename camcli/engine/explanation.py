"""The result of `explain`: maps, scores, and the images that were explained."""

from __future__ import annotations

from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from camcli.capture.targets import ExplainedText
from camcli.engine.inputs import Photo
from camcli.errors import ImageError
from camcli.images.geometry import Centres
from camcli.methods.registry import METHODS

_SHOWN = 6
"""The most overlays that a notebook shows for one explanation."""


def _exists(index: int) -> bool:
    """Return whether a class index is that of a class: -1 stands for none."""
    return index >= 0


@dataclass(frozen=True, repr=False)
class Explanation:
    """The maps of a batch for one method and one target.

    All tensors are detached and on the model's device.

    - `maps`: (N,h,w) at the layer's resolution, or (N,3,H,W) for methods that give images. They are
      raw: unscaled, in the model's precision and at least float32. Maps fused from several layers
      are (N,H,W) in [0, 1]. A target with several parts, such as the words of a caption, has
      (N,P,h,w). With the target `p>T`, P is the largest number of classes above T in the batch, at
      least 1, and with `dog#all` that of detected boxes. `maps`, `scores`, `classes`,
      `probabilities` and `boxes` are then (N,P,...), the best one first. An image with fewer has
      the class -1, NaN and a map of zeros in the rest.
    - `scores`: (N,), the scores that are explained, before a softmax or sigmoid.
    - `classes`: (N,), the class indices, or those of the values of a regression; None where the
      target is a function or a text.
    - `probabilities`: (N,), the probability of the class or text; None for a function, and for the
      values of a regression.
    - `confidences`: (N,), the probability of the best class, which may be another class; None where
      the target has no class with a probability.
    - `ranking`: (N,K), numbers of all classes that are highest for the best one, such as their
      scores; None where there are no `confidences`.
    - `boxes`: (N,4), the classes' best boxes of a detection network, x0, y0, x1, y1 in input
      pixels; else None.
    - `texts`: the N texts of a language model; else None.
    - `centres`: the centres of the maps' cells in input pixels; None where they are not known, and
      the maps are drawn as equal parts of the input.
    - `drawn`: what is drawn instead of `maps`, where these are enlarged on the way as the paper
      does, in equal parts: Guided Grad-CAM with Grad-CAM's cells at their centres. Else None.
    - `photos`: the images behind the maps, if no tensors were given. A notebook shows their
      overlays.
    - `class_names`: the model's class names, if it has any.
    """

    method: str
    target: str
    layer: str | None
    maps: Tensor
    scores: Tensor
    classes: Tensor | None
    probabilities: Tensor | None
    confidences: Tensor | None = None
    ranking: Tensor | None = None
    boxes: Tensor | None = None
    texts: tuple[ExplainedText, ...] | None = None
    centres: Centres | None = None
    drawn: Tensor | None = None
    photos: tuple[Photo, ...] = field(default=(), repr=False, compare=False)
    class_names: tuple[str, ...] | None = field(default=None, repr=False, compare=False)

    @property
    def names(self) -> tuple[str, ...] | None:
        """The explained classes or texts by name, one for each image; None for a function.

        A class without a name is `class` and its index, and a value of a regression the target. The
        classes of the target `p>T` are joined by commas.
        """
        if self.texts is not None:
            return tuple(text.text for text in self.texts)
        if self.classes is None:
            return None
        by_image = self.classes.view(len(self.classes), -1).tolist()
        return tuple(", ".join(map(self._name, filter(_exists, indices))) for indices in by_image)

    def _name(self, index: int) -> str:
        unnamed = self.target if self.probabilities is None else f"class {index}"
        return self.class_names[index] if self.class_names else unnamed

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.maps.shape[1:]))
        shown = [*(self.names or ())][:_SHOWN]
        more = ["..."] if len(self.maps) > len(shown) and shown else []
        parts = [self.method, self.target, self.layer, f"{len(self.maps)} maps of {shape}"]
        listed = ", ".join(filter(None, parts))
        return f"Explanation({listed}{': ' if shown else ''}{', '.join([*shown, *more])})"

    def save(self, file: str | PathLike[str], i: int = 0, **style: Any) -> None:
        """Write image `i` to a file: its raw map as `.npy`, or else its overlay as a picture.

        `style` are the arguments of `overlay`. Raises ValueError as `overlay` does, and for an
        ending that Pillow does not know.
        """
        if Path(file).suffix == ".npy":
            np.save(file, self.maps[i].float().cpu().numpy())
        else:
            self.overlay(i, **style).save(file)

    def overlay(
        self,
        i: int = 0,
        *,
        colormap: str = "auto",
        alpha: float | None = None,
        blend: str = "heat",
    ) -> Image.Image:
        """Draw the map over photo `i`, at the photo's size, as `camcli explain` does.

        Raises ValueError where tensors were explained or the image has a map for each of several
        classes, and ImageError where a file is gone.
        """
        from camcli.render import draw, style  # import OpenCV, which explaining does not need

        if not self.photos:
            raise ValueError("no photo to draw on: explain paths or PIL images instead of tensors")
        if self._has_parts:
            raise ValueError(f"target '{self.target}' has several maps: explain a class to draw it")
        maps = self.maps if self.drawn is None else self.drawn
        photo, values = self.photos[i], maps[i].float().cpu().numpy()
        look, signed = style.Style(colormap, alpha, blend), METHODS[self.method].signed
        crop = photo.crop.placed(self.centres, photo.seen)
        drawn = draw.overlay(photo.pixels(), values, crop, look, signed)
        box = None if self.boxes is None else self.boxes[i].tolist()
        if corners := photo.crop.corners(box, photo.seen):
            draw.draw_box(drawn, corners)
        return Image.fromarray(drawn)

    @property
    def _has_parts(self) -> bool:
        """Whether there is a map for each of several classes."""
        return self.classes is not None and self.classes.ndim > 1

    def _repr_png_(self) -> bytes | None:
        """Return the first overlays side by side as a PNG, for notebooks; None without photos."""
        from camcli.render import encode, panels

        count = 0 if self._has_parts else min(len(self.photos), _SHOWN)
        try:
            overlays = [self.overlay(i) for i in range(count)]
        except ImageError:  # a file is gone: the notebook shows the text instead
            return None
        return encode.png(panels.strip([np.asarray(one) for one in overlays])) if count else None
