"""Options that travel together, as small frozen records. Importing them does not import torch."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from camcli.images.decode import MAX_PIXELS, Reading
from camcli.methods.backward import PLAIN

LAYOUTS = ("flat", "hashed")
"""The folders of files: those of the images, or by a hash, so that no folder has many files."""
PLACES = ("files", "tar")
"""Where results are saved: each as a file, or as a member of a tar."""


@dataclass(frozen=True)
class InputOptions:
    """Options for reading images, fitting them to the network's input and batching.

    `fit` is a name in `images.preprocess.FITS`. `workers` is the number of threads that read, and
    of those that write. `memory` is a limit for decoded images in bytes, by default a quarter of
    what is available. The other fields are those of Reading.
    """

    fit: str = "preset"
    batch_size: int = 16
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    max_pixels: int = MAX_PIXELS
    memory: int | None = None
    frame: int | None = None
    window_level: tuple[float, float] | None = None

    @property
    def reading(self) -> Reading:
        """How image files are read."""
        return Reading(self.max_pixels, self.frame, self.window_level)


@dataclass(frozen=True)
class RunOptions:
    """Options for results of earlier runs: keep those made in the same way, or replace those made
    with other settings."""

    skip_existing: bool = False
    overwrite: bool = False


@dataclass(frozen=True)
class TruthOptions:
    """The source of the true classes of images: `folder`, or `csv:FILE`.

    `class_map` is a file with the model's classes for each label. `only` are filters of images by
    their predictions.
    """

    truth: str | None = None
    class_map: Path | None = None
    only: tuple[str, ...] = ()


@dataclass(frozen=True)
class ExplainOptions:
    """The names of methods, targets and layers, as a user gives them.

    `instances` is a number or `all`. `fuse` is a name in FUSIONS, and `backward_rule`
    one in BACKWARDS. `region` is x0, y0, x1, y1 in pixels of the original. `window` and `stride`
    are those of occlusion, in input pixels.
    """

    methods: tuple[str, ...] = ("gradcam",)
    targets: tuple[str, ...] = ("pred",)
    instances: str | None = None
    layers: tuple[str, ...] = ("auto",)
    fuse: str | None = None
    backward_rule: str = PLAIN
    region: tuple[float, float, float, float] | None = None
    window: int | None = None
    stride: int | None = None

    @property
    def every_target(self) -> tuple[str, ...]:
        """The targets, each for every one of `instances` objects if they are given."""
        if self.instances is None:
            return self.targets
        return tuple(f"{target}#{self.instances}" for target in self.targets)


@dataclass(frozen=True)
class DrawingOptions:
    """The files to write, names in OUTPUTS, the format of pictures, and how maps are drawn.

    `layout` is one of LAYOUTS and `save_to` one of PLACES: where the files are.
    """

    saves: tuple[str, ...] = ("overlay", "map")
    colormap: str = "auto"
    alpha: float | None = None
    blend: str = "heat"
    format: str = "png"
    scale: str = "image"
    boxes: str = "largest"
    box_threshold: float | None = None
    layout: str = "flat"
    save_to: str = "files"
