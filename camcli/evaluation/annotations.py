"""Ground truth: which objects are where in an image, read from the files that datasets come with.

Every box is x0, y0, x1, y1 in pixels of the image as `images.decode` gives it: upright, with its
EXIF orientation applied. The files are taken to describe that image; where they state its size,
another size is an error and not a box in a wrong place.
"""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from camcli.errors import AnnotationError, NotAnnotatedError, one_line
from camcli.images.decode import DECODE_ERRORS
from camcli.images.geometry import Box

Mask: TypeAlias = NDArray[np.bool_]
"""Which pixels belong to something, (H,W)."""

Size: TypeAlias = tuple[int, int]
"""H and W of an image, upright."""


@dataclass(frozen=True)
class Object:
    """One object: its class as the annotation has it, a name or an index, and where it is.

    `mask` is its outline filled, where the annotation has one; `difficult` is Pascal VOC's mark for
    what its protocols leave out.
    """

    label: str
    box: Box
    mask: Mask | None = None
    difficult: bool = False


Reader: TypeAlias = Callable[[Path, Size], tuple[Object, ...]]
"""From an image's name, relative as in a Source, and its size to its objects, of which there may be
none. Raises AnnotationError, and NotAnnotatedError where nothing is said of the image."""

_formats: dict[str, Callable[[Path], Reader]] = {}
FORMATS: Mapping[str, Callable[[Path], Reader]] = MappingProxyType(_formats)
"""The formats that can be read, each from a path to its Reader."""


def reader(given: str) -> Reader:
    """The reader for `FORMAT:PATH`, as in `voc:VOC2007/Annotations`. Raises AnnotationError."""
    name, colon, path = given.partition(":")
    if not colon or not path:
        raise AnnotationError(f"annotations '{given}': expected FORMAT:PATH, as in voc:Annotations")
    if name not in FORMATS:
        raise AnnotationError(
            f"unknown annotation format '{name}': expected {', '.join(FORMATS)}, as in "
            "voc:Annotations"
        )
    return FORMATS[name](Path(path))


def _format(name: str) -> Callable[[Callable[[Path], Reader]], Callable[[Path], Reader]]:
    def add(make: Callable[[Path], Reader]) -> Callable[[Path], Reader]:
        if name in _formats:
            raise ValueError(f"an annotation format '{name}' is there already")
        _formats[name] = make
        return make

    return add


@_format("yolo")
def yolo(folder: Path) -> Reader:
    """`<name>.polygons.txt`, else `<name>.boxes.txt`, else `<name>.txt`, a line for each object.

    Either `class cx cy w h` or the outline, `class x1 y1 x2 y2 x3 y3 ...`, all relative to the
    image's size. An empty file is an image without objects.
    """
    _expect_folder(folder)

    def read(name: Path, size: Size) -> tuple[Object, ...]:
        file = _file(folder, name, ".polygons.txt", ".boxes.txt", ".txt")
        lines = ((n, line) for n, line in enumerate(lines_of(file), 1) if line.strip())
        return tuple(_yolo_object(line, size, f"{file}, line {n}") for n, line in lines)

    return read


def _yolo_object(line: str, size: Size, where: str) -> Object:
    label, *fields = line.split()
    values = _numbers(fields)
    outline = len(fields) >= 6 and len(fields) % 2 == 0
    relative = all(-0.01 <= value <= 1.01 for value in values)
    if not values or not relative or not (outline or len(fields) == 4):
        raise AnnotationError(
            f"{where}: '{_short(line)}': expected class cx cy w h, or class x1 y1 x2 y2 x3 y3 ..., "
            "relative to the image (0 to 1)"
        )
    height, width = size
    if outline:
        xs, ys = [x * width for x in values[::2]], [y * height for y in values[1::2]]
        box = _clipped((min(xs), min(ys), max(xs), max(ys)), size, where)
        return Object(label, box, filled([*zip(xs, ys, strict=True)], size))
    x, w, y, h = values[0] * width, values[2] * width, values[1] * height, values[3] * height
    return Object(label, _clipped((x - w / 2, y - h / 2, x + w / 2, y + h / 2), size, where))


@_format("voc")
def voc(folder: Path) -> Reader:
    """`<name>.xml` as in Pascal VOC: pixels count from 1 and boxes include both ends."""
    _expect_folder(folder)

    def read(name: Path, size: Size) -> tuple[Object, ...]:
        file = _file(folder, name, ".xml")
        root = _xml(file)
        stated = _numbers([root.findtext(f"size/{side}", "0") for side in ("height", "width")])
        if stated and all(stated):  # some tools write zeros
            _expect_size((int(stated[0]), int(stated[1])), size, name, file)
        return tuple(_voc_object(found, size, file) for found in root.iterfind("object"))

    return read


def _voc_object(found: ElementTree.Element, size: Size, file: Path) -> Object:
    label = (found.findtext("name") or "").strip()
    sides = _numbers(
        [found.findtext(f"bndbox/{side}", "") for side in ("xmin", "ymin", "xmax", "ymax")]
    )
    if not label or not sides:
        raise AnnotationError(
            f"{file}: object '{label}': expected a name and a bndbox of xmin, ymin, xmax and ymax"
        )
    x0, y0, x1, y1 = sides
    box = _clipped((x0 - 1, y0 - 1, x1, y1), size, f"{file}: object '{label}'")
    return Object(label, box, difficult=found.findtext("difficult", "0").strip() == "1")


def _xml(file: Path) -> ElementTree.Element:
    data = _bytes(file)
    # Entities, which can grow without bound or name other files, are declared in a DTD alone; of
    # the encodings in which a DTD would look otherwise, UTF-16 is the one that is understood.
    if b"<!DOCTYPE" in data or b"\0" in data:
        raise AnnotationError(f"{file}: expected XML without a DTD, in UTF-8")
    try:
        return ElementTree.fromstring(data)  # noqa: S314 - there is no entity left to expand
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise AnnotationError(f"{file}: not XML ({one_line(error)})") from None


_COLUMNS = ("image", "class", "x0", "y0", "x1", "y1")


@_format("csv")
def table(file: Path) -> Reader:
    """Columns `image,class,x0,y0,x1,y1` under a line that names them, a row for each box.

    The image is named as in the manifest; pixels count from 0, and x1 and y1 are exclusive, as
    there. Other columns are left alone.
    """
    found = defaultdict(list)
    for number, row in _rows(file):
        found[row["image"]].append((number, row))

    def read(name: Path, size: Size) -> tuple[Object, ...]:
        if name.as_posix() not in found:
            raise NotAnnotatedError(f"{name}: no row for it in {file}")
        return tuple(
            _csv_object(row, size, f"{file}, line {number}")
            for number, row in found[name.as_posix()]
        )

    return read


def _rows(file: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a table with their line numbers."""
    rows = csv.DictReader(lines_of(file), skipinitialspace=True)
    try:
        if missing := [name for name in _COLUMNS if name not in (rows.fieldnames or ())]:
            raise AnnotationError(
                f"{file}: no column '{missing[0]}': expected a first line with {','.join(_COLUMNS)}"
            )
        for row in rows:
            yield rows.line_num, row
    except csv.Error as error:
        raise AnnotationError(f"{file}: {one_line(error)}") from None


def _csv_object(row: Mapping[str, str | None], size: Size, where: str) -> Object:
    label = (row["class"] or "").strip()
    sides = _numbers([row[side] or "" for side in _COLUMNS[2:]])
    if not label or not sides:
        raise AnnotationError(f"{where}: expected {','.join(_COLUMNS)}, with numbers for the box")
    x0, y0, x1, y1 = sides
    return Object(label, _clipped((x0, y0, x1, y1), size, where))


VOID = 255
"""The value of a mask's pixels that are left open, as in Pascal VOC's."""


@_format("masks")
def masks(folder: Path) -> Reader:
    """`<name>.png` of the image's size, with the class index as each pixel's value.

    As Pascal VOC's SegmentationClass: 0 is the background and 255 is left open. What is of one
    class is one object.
    """
    _expect_folder(folder)

    def read(name: Path, size: Size) -> tuple[Object, ...]:
        values = _mask_values(name, _file(folder, name, ".png"), size)
        labels = [label for label in np.unique(values).tolist() if label not in (0, VOID)]
        found = {str(label): values == label for label in labels}
        return tuple(Object(label, _around(mask), mask) for label, mask in found.items())

    return read


def _mask_values(name: Path, file: Path, size: Size) -> NDArray[np.integer]:
    try:
        with Image.open(file) as image:
            _expect_size((image.height, image.width), size, name, file)
            if image.mode not in ("1", "L", "P", "I;16", "I"):
                raise AnnotationError(
                    f"{file}: a mask in {image.mode}: expected a grey or palette image of indices"
                )
            values = np.asarray(image)
    except (OSError, Image.DecompressionBombError, *DECODE_ERRORS) as error:
        raise AnnotationError(f"{file}: not an image ({one_line(error)})") from None
    if set(np.unique(values).tolist()) == {0, VOID}:
        raise AnnotationError(f"{file}: only 0 and {VOID}, which are no classes: expected indices")
    return values.astype(np.int32)


def filled(outline: Sequence[tuple[float, float]], size: Size) -> Mask:
    """The pixels of an image (H,W) whose middle lies in an outline of points x, y, by even-odd."""
    rows, columns = (np.arange(side) + 0.5 for side in size)
    mask = np.zeros(size, bool)
    for (x0, y0), (x1, y1) in pairwise([*outline, outline[0]]):
        # Each edge turns over all that is to the left of it, in the rows that it crosses.
        crossed = slice(*np.searchsorted(rows, sorted((y0, y1))))
        if y0 != y1:
            at = x0 + (rows[crossed] - y0) * (x1 - x0) / (y1 - y0)
            mask[crossed] ^= columns < at[:, None]
    return mask


def _around(mask: Mask) -> Box:
    """The least box that holds a mask."""
    (y0, y1), (x0, x1) = (np.flatnonzero(mask.any(axis))[[0, -1]].tolist() for axis in (1, 0))
    return x0, y0, x1 + 1, y1 + 1


def _clipped(box: Box, size: Size, where: str) -> Box:
    """The part of a box that is in the image; tools round over its edge. Raises AnnotationError."""
    height, width = size
    x0, y0, x1, y1 = max(0, box[0]), max(0, box[1]), min(width, box[2]), min(height, box[3])
    if x0 >= x1 or y0 >= y1:
        given = ",".join(f"{side:g}" for side in box)
        raise AnnotationError(
            f"{where}: the box {given} is empty or outside of the image, {width} x {height} pixels"
        )
    return x0, y0, x1, y1


def _numbers(fields: Iterable[str]) -> list[float]:
    """Text as finite numbers; none at all where one is none."""
    try:
        values = [float(field) for field in fields]
    except ValueError:
        return []
    return values if all(map(math.isfinite, values)) else []


def _expect_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise AnnotationError(f"'{folder}': expected a folder of annotations")


def _expect_size(stated: Size, size: Size, name: Path, file: Path) -> None:
    if stated != size:
        raise AnnotationError(
            f"{file}: of {stated[1]} x {stated[0]} pixels, but {name} has, upright, "
            f"{size[1]} x {size[0]}"
        )


def _file(folder: Path, name: Path, *endings: str) -> Path:
    """The first file there for an image of that name. Raises NotAnnotatedError."""
    files = [folder / name.with_suffix(ending) for ending in endings]
    for file in files:
        if file.is_file():
            return file
    raise NotAnnotatedError(f"{name}: no {' or '.join(map(str, files))}")


def lines_of(file: Path) -> list[str]:
    """The lines of a text file. Raises AnnotationError."""
    try:
        return _bytes(file).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise AnnotationError(f"{file}: expected text in UTF-8") from None


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise AnnotationError(f"{file}: {error.strerror}") from None


def _short(line: str) -> str:
    return line if len(line) <= 40 else line[:40] + "..."
