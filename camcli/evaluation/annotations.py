"""Readers of annotations in the formats of common datasets.

Boxes are x0, y0, x1, y1 in pixels of the image as `images.decode` returns it: upright, with its
EXIF orientation applied. A file that states another image size is an error.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from camcli.errors import AnnotationError, ImageError, NotAnnotatedError, one_line
from camcli.evaluation.objects import Object, Shape, clip_box, mask_box, polygon_mask
from camcli.images.decode import open_image
from camcli.runs.label_files import csv_rows, read_bytes, read_lines

AnnotationReader: TypeAlias = Callable[[Path, Shape], tuple[Object, ...]]
"""Returns the objects of an image for its name, relative as in a Source, and its height and width.
Raises AnnotationError, and NotAnnotatedError if the image has no annotation."""


def reader(given: str) -> AnnotationReader:
    """Return the reader for `FORMAT:PATH`, as in `voc:VOC2007/Annotations`.

    Raises AnnotationError.
    """
    name, colon, path = given.partition(":")
    if not colon or not path:
        raise AnnotationError(f"annotations '{given}': expected FORMAT:PATH, as in voc:Annotations")
    if name not in ANNOTATION_FORMATS:
        raise AnnotationError(
            f"unknown annotation format '{name}': expected {', '.join(ANNOTATION_FORMATS)}, as in "
            "voc:Annotations"
        )
    return ANNOTATION_FORMATS[name](Path(path))


def yolo(folder: Path) -> AnnotationReader:
    """Read `<name>.polygons.txt`, else `<name>.boxes.txt`, else `<name>.txt`, an object per line.

    A line is `class cx cy w h` or an outline `class x1 y1 x2 y2 x3 y3 ...`, relative to the image's
    size. An empty file means no objects.
    """
    _expect_folder(folder)

    def read(name: Path, shape: Shape) -> tuple[Object, ...]:
        file = _find_file(folder, name, ".polygons.txt", ".boxes.txt", ".txt")
        lines = ((n, line) for n, line in enumerate(read_lines(file), 1) if line.strip())
        return tuple(_yolo_object(line, shape, f"{file}, line {n}") for n, line in lines)

    return read


def _yolo_object(line: str, shape: Shape, where: str) -> Object:
    label, *fields = line.split()
    values = _finite_numbers(fields)
    is_outline = len(fields) >= 6 and len(fields) % 2 == 0
    relative = all(-0.01 <= value <= 1.01 for value in values)
    if not values or not relative or not (is_outline or len(fields) == 4):
        excerpt = line if len(line) <= 40 else f"{line[:40]}..."
        raise AnnotationError(
            f"{where}: '{excerpt}': expected class cx cy w h, or class x1 y1 x2 y2 x3 y3 ..., "
            "relative to the image (0 to 1)"
        )
    height, width = shape
    if is_outline:
        xs, ys = [x * width for x in values[::2]], [y * height for y in values[1::2]]
        box = clip_box((min(xs), min(ys), max(xs), max(ys)), shape, where)
        return Object(label, box, polygon_mask([*zip(xs, ys, strict=True)], shape))
    x, w, y, h = values[0] * width, values[2] * width, values[1] * height, values[3] * height
    return Object(label, clip_box((x - w / 2, y - h / 2, x + w / 2, y + h / 2), shape, where))


def voc(folder: Path) -> AnnotationReader:
    """Read `<name>.xml` of Pascal VOC, where pixels count from 1 and boxes include both ends."""
    _expect_folder(folder)

    def read(name: Path, shape: Shape) -> tuple[Object, ...]:
        file = _find_file(folder, name, ".xml")
        root = _parse_xml(file)
        stated = _finite_numbers(
            [root.findtext(f"size/{side}", "0") for side in ("height", "width")]
        )
        if stated and all(stated):  # some tools write zeros
            _expect_shape((int(stated[0]), int(stated[1])), shape, name, file)
        return tuple(_voc_object(found, shape, file) for found in root.iterfind("object"))

    return read


def _voc_object(found: ElementTree.Element, shape: Shape, file: Path) -> Object:
    label = (found.findtext("name") or "").strip()
    sides = _finite_numbers(
        [found.findtext(f"bndbox/{side}", "") for side in ("xmin", "ymin", "xmax", "ymax")]
    )
    if not label or not sides:
        raise AnnotationError(
            f"{file}: object '{label}': expected a name and a bndbox of xmin, ymin, xmax and ymax"
        )
    x0, y0, x1, y1 = sides
    box = clip_box((x0 - 1, y0 - 1, x1, y1), shape, f"{file}: object '{label}'")
    return Object(label, box, difficult=found.findtext("difficult", "0").strip() == "1")


def _parse_xml(file: Path) -> ElementTree.Element:
    data = read_bytes(file)
    # Entities may expand without bound or name other files. They are declared in a DTD only. UTF-16
    # is the one encoding the parser accepts in which the DTD would be spelt with other bytes.
    if b"<!DOCTYPE" in data or b"\0" in data:
        raise AnnotationError(f"{file}: expected XML without a DTD, in UTF-8")
    try:
        return ElementTree.fromstring(data)  # noqa: S314 - no entity is left to expand
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise AnnotationError(f"{file}: not XML ({one_line(error)})") from None


_FIELDS = ("image", "class", "x0", "y0", "x1", "y1")


def csv_table(file: Path) -> AnnotationReader:
    """Read a CSV file with the columns `image,class,x0,y0,x1,y1`, a row for each box.

    Images are named as in the manifest. Pixels count from 0, x1 and y1 are exclusive. Other columns
    are ignored.
    """
    by_image = defaultdict(list)
    for number, row in csv_rows(file, _FIELDS):
        by_image[row["image"]].append((number, row))

    def read(name: Path, shape: Shape) -> tuple[Object, ...]:
        if name.as_posix() not in by_image:
            raise NotAnnotatedError(f"{name}: no row for it in {file}")
        rows = by_image[name.as_posix()]
        return tuple(_csv_object(row, shape, f"{file}, line {number}") for number, row in rows)

    return read


def _csv_object(row: Mapping[str, str | None], shape: Shape, where: str) -> Object:
    label = (row["class"] or "").strip()
    sides = _finite_numbers([row[side] or "" for side in _FIELDS[2:]])
    if not label or not sides:
        raise AnnotationError(f"{where}: expected {','.join(_FIELDS)}, with numbers for the box")
    x0, y0, x1, y1 = sides
    return Object(label, clip_box((x0, y0, x1, y1), shape, where))


VOID = 255
"""The value of mask pixels that belong to no class, as in Pascal VOC."""


def masks(folder: Path) -> AnnotationReader:
    """Read `<name>.png` of the image's size, with the class index as each pixel's value.

    As in Pascal VOC's SegmentationClass, 0 is the background and 255 is void. All pixels of a class
    are one object.
    """
    _expect_folder(folder)

    def read(name: Path, shape: Shape) -> tuple[Object, ...]:
        values = _mask_values(name, _find_file(folder, name, ".png"), shape)
        labels = [label for label in np.unique(values).tolist() if label not in (0, VOID)]
        found = {str(label): values == label for label in labels}
        return tuple(Object(label, mask_box(mask), mask) for label, mask in found.items())

    return read


def _mask_values(name: Path, file: Path, shape: Shape) -> NDArray[np.integer]:
    try:
        with open_image(file) as image:
            _expect_shape((image.height, image.width), shape, name, file)
            if image.mode not in ("1", "L", "P", "I;16", "I"):
                raise AnnotationError(
                    f"{file}: a mask in {image.mode}: expected a grey or palette image of indices"
                )
            values = np.asarray(image)
    except ImageError as error:
        raise AnnotationError(str(error)) from None
    if set(np.unique(values).tolist()) == {0, VOID}:
        raise AnnotationError(f"{file}: only 0 and {VOID}, which are no classes: expected indices")
    return values.astype(np.int32)


ANNOTATION_FORMATS: Mapping[str, Callable[[Path], AnnotationReader]] = MappingProxyType(
    {"yolo": yolo, "voc": voc, "csv": csv_table, "masks": masks}
)
"""The formats by name, each a function from a path to a reader."""


def _expect_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise AnnotationError(f"'{folder}': expected a folder of annotations")


def _expect_shape(stated: Shape, shape: Shape, name: Path, file: Path) -> None:
    """Raise AnnotationError if the file is for an image of another size."""
    if stated != shape:
        raise AnnotationError(
            f"{file}: size {stated[1]} x {stated[0]}, expected {shape[1]} x {shape[0]}, the "
            f"upright size of {name}"
        )


def _find_file(folder: Path, name: Path, *endings: str) -> Path:
    """Return the first file that exists for the image `name`. Raises NotAnnotatedError."""
    files = [folder / name.with_suffix(ending) for ending in endings]
    for file in files:
        if file.is_file():
            return file
    raise NotAnnotatedError(f"{name}: no {' or '.join(map(str, files))}")


def _finite_numbers(fields: Iterable[str]) -> list[float]:
    """Return the fields as finite numbers, or an empty list if any field is not one."""
    try:
        values = [float(field) for field in fields]
    except ValueError:
        return []
    return values if all(map(math.isfinite, values)) else []
