"""The items that the stages of a run pass on: sources that were read, and their results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

from camcli.capture.targets import ExplainedText
from camcli.errors import CamcliError
from camcli.images.geometry import Box, Centres, Crop, MapArray, Pixels, Size
from camcli.images.levels import Levels
from camcli.images.source import Source
from camcli.runs.manifest import Row
from camcli.runs.names import Wanted
from camcli.runs.predictions import Prediction


@dataclass(frozen=True)
class Loaded:
    """A source, decoded and preprocessed.

    `shape` is the height and width of the original. `pixels` are None where there was no room to
    hold them: they are read again for the pictures. `levels` and `frame` are as in a Picture.
    """

    source: Source
    shape: tuple[int, int]
    pixels: Pixels | None
    input: Tensor
    crop: Crop
    digest: str
    levels: Levels | None = None
    frame: int | None = None

    @property
    def size(self) -> Size:
        return self.input.shape[2], self.input.shape[1]


@dataclass(frozen=True)
class Failed:
    """A source that could not be explained, and the reason, without the frames that raised it."""

    source: Source
    error: CamcliError


class Packed(list[Row]):
    """The rows of an image whose files are members of a tar, to which they are added later.

    `members` are their bytes by name.
    """

    def __init__(self, rows: Iterable[Row], members: Mapping[str, bytes]) -> None:
        super().__init__(rows)
        self.members = members


class Unchanged(list[Row]):
    """The rows of an image whose results an earlier run has written completely."""


class LeftOut(Unchanged):
    """No rows, of an image that the run does not explain because of its `prediction`."""

    def __init__(self, prediction: Prediction) -> None:
        super().__init__()
        self.prediction = prediction


@dataclass(frozen=True)
class Existing:
    """An image that is not explained, by the rows that it has already."""

    rows: Unchanged


@dataclass(frozen=True)
class Result:
    """One result for one image, on the host.

    `values` is a raw map (h,w), signed gradients (3,H,W), or one map for each word of `text`,
    (W,h,w). `prediction` is that of the image. A text has no class index, and its image no
    prediction. An image without a class of a target `p>T` has no score either. `centres` and
    `drawn` are as in an Explanation.
    """

    wanted: Wanted
    layer: str | None
    centres: Centres | None
    values: MapArray
    score: float | None
    class_index: int | None
    probability: float | None
    prediction: Prediction
    box: Box | None = None
    text: ExplainedText | None = None
    drawn: MapArray | None = None


Explained: TypeAlias = tuple[Loaded, list[Result]] | Failed | Existing
