"""Readers of annotations: the pixels of each format, and one line for each error."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from camcli.errors import AnnotationError, NotAnnotatedError
from camcli.evaluation.annotations import ANNOTATION_FORMATS, reader
from camcli.evaluation.objects import Object, Shape, polygon_mask
from camcli.images.decode import decode
from tests.support.files import SHARED, make_photo

SIZE = (60, 90)
NAME = Path("sub/dog.1.jpg")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    return tmp_path


def read(given: str, shape: Shape = SIZE) -> tuple[Object, ...]:
    return reader(given)(NAME, shape)


def error(given: str, shape: Shape = SIZE) -> str:
    with pytest.raises(AnnotationError) as raised:
        read(given, shape)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def xml(*objects: str, size: str = "<width>90</width><height>60</height>") -> str:
    return f"<annotation><size>{size}</size>{''.join(objects)}</annotation>"


def voc_object(name: str, *sides: object, more: str = "") -> str:
    names = ("xmin", "ymin", "xmax", "ymax")
    inner = "".join(f"<{n}>{side}</{n}>" for n, side in zip(names, sides, strict=True))
    return f"<object><name>{name}</name>{more}<bndbox>{inner}</bndbox></object>"


def test_yolo_boxes_are_clipped_to_the_image(folder: Path) -> None:
    (folder / "sub" / "dog.1.txt").write_text("16 0.5 0.25 0.2 0.1\n\n 0 0.05 0.95 0.12 0.1\n")
    first, second = read(f"yolo:{folder}")
    assert (first.label, second.label) == ("16", "0")
    assert first.box == pytest.approx((36, 12, 54, 18))
    assert second.box == pytest.approx((0, 54, 9.9, 60)), "clipped at the edge"
    assert first.mask is None
    (folder / "sub" / "dog.1.boxes.txt").write_text("")
    assert read(f"yolo:{folder}") == (), "no objects"


def test_yolo_outlines_are_filled(folder: Path) -> None:
    (folder / "sub" / "dog.1.boxes.txt").write_text("1 0.5 0.5 1 1")
    (folder / "sub" / "dog.1.polygons.txt").write_text("16 0.1 0.5 0.3 0.5 0.3 0.75 0.1 0.75")
    (found,) = read(f"yolo:{folder}")
    assert found.box == pytest.approx((9, 30, 27, 45))
    assert found.mask is not None
    expected = np.zeros(SIZE, bool)
    expected[30:45, 9:27] = True
    assert np.array_equal(found.mask, expected)


points = st.tuples(st.floats(-5, 20, width=16), st.floats(-5, 15, width=16))


@settings(max_examples=40, deadline=None)
@given(st.lists(points, min_size=3, max_size=8))
def test_polygons_are_filled_by_the_even_odd_rule(
    outline: list[tuple[float, float]],
) -> None:
    found = polygon_mask(outline, (10, 15))
    edges = [*zip(outline, outline[1:] + outline[:1], strict=True)]
    for row, column in np.ndindex(10, 15):
        x, y, crossed = column + 0.5, row + 0.5, 0
        for (x0, y0), (x1, y1) in edges:
            if min(y0, y1) <= y < max(y0, y1) or min(y0, y1) < y <= max(y0, y1):
                if y in (y0, y1):
                    break  # a corner on the ray: it may count for either edge
                at = x0 + (y - y0) * (x1 - x0) / (y1 - y0)
                if abs(at - x) < 1e-6:
                    break
                crossed += at > x
        else:
            assert found[row, column] == crossed % 2


def test_voc_pixels_count_from_1_and_boxes_include_both_ends(folder: Path) -> None:
    part = "<part><name>head</name><bndbox><xmin>9</xmin></bndbox></part>"
    objects = (
        voc_object("dog", 1, 1, 90, 60, more="<difficult>0</difficult>" + part),
        voc_object(" cat ", 10, 20, 10, 20.0, more="<difficult>1</difficult>"),
    )
    (folder / "sub" / "dog.1.xml").write_text(xml(*objects))
    assert read(f"voc:{folder}") == (
        Object("dog", (0, 0, 90, 60)),
        Object("cat", (9, 19, 10, 20), difficult=True),
    )
    for size in ("<width>0</width><height>0</height>", ""):
        (folder / "sub" / "dog.1.xml").write_text(xml(size=size))
        assert read(f"voc:{folder}") == ()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_xml_entities_are_refused_and_not_expanded(folder: Path, encoding: str) -> None:
    laughs = '<!ENTITY a0 "ha">' + "".join(
        f'<!ENTITY a{i + 1} "{f"&a{i};" * 10}">' for i in range(12)
    )
    outside = '<!ENTITY file SYSTEM "file:///etc/hostname">'
    for entities, name in ((laughs, "a12"), (outside, "file")):
        document = f'<?xml version="1.0"?><!DOCTYPE x [{entities}]>' + xml(
            voc_object(f"&{name};", 1, 1, 5, 5)
        )
        (folder / "sub" / "dog.1.xml").write_bytes(document.encode(encoding))
        started = time.process_time()
        assert error(f"voc:{folder}").endswith("dog.1.xml: expected XML without a DTD, in UTF-8")
        assert time.process_time() - started < 0.5


def test_csv_columns_may_have_any_order(tmp_path: Path) -> None:
    file = tmp_path / "boxes.csv"
    file.write_text(
        "class,image,x0,y0,x1,y1,who\n"
        '"cat, tabby",sub/dog.1.jpg,1.5,2,30,40,me\n'
        "dog,other.jpg,1,2,3,4,me\n"
        "dog,sub/dog.1.jpg,0,0,95,60,me\n",
        encoding="utf-8-sig",
    )
    assert read(f"csv:{file}") == (
        Object("cat, tabby", (1.5, 2, 30, 40)),
        Object("dog", (0, 0, 90, 60)),
    )
    assert reader(f"csv:{file}")(Path("other.jpg"), SIZE) == (Object("dog", (1, 2, 3, 4)),)


@pytest.mark.parametrize("mode", ["L", "P", "I;16"])
def test_masks_have_an_object_for_each_class(folder: Path, mode: str) -> None:
    values = np.zeros(SIZE, np.uint16 if mode == "I;16" else np.uint8)
    values[10:20, 30:50], values[40:, :5], values[0, 80:] = 15, 8, 255
    image = Image.fromarray(values)
    if mode == "P":
        image.putpalette([(7 * i) % 256 for i in range(768)])
    assert image.mode == mode
    image.save(folder / "sub" / "dog.1.png")
    cat, dog = read(f"masks:{folder}")
    assert [(one.label, one.box) for one in (cat, dog)] == [
        ("8", (0, 40, 5, 60)),
        ("15", (30, 10, 50, 20)),
    ]
    assert np.array_equal(dog.mask, values == 15)
    Image.fromarray(np.zeros(SIZE, np.uint8)).save(folder / "sub" / "dog.1.png")
    assert read(f"masks:{folder}") == ()


@pytest.mark.parametrize("name", ANNOTATION_FORMATS)
def test_an_image_without_annotation_is_no_error_of_a_file(name: str, tmp_path: Path) -> None:
    (tmp_path / "boxes.csv").write_text("image,class,x0,y0,x1,y1\n")
    path = tmp_path / "boxes.csv" if name == "csv" else tmp_path
    with pytest.raises(NotAnnotatedError, match=r"^sub/dog.1.jpg: no .*\S$"):
        read(f"{name}:{path}")
    with pytest.raises(
        AnnotationError, match=r"none: (No such file|expected a folder)|none'"
    ) as no:
        reader(f"{name}:{tmp_path / 'none'}")
    assert not isinstance(no.value, NotAnnotatedError)


def test_an_unknown_format_names_the_known_ones(tmp_path: Path) -> None:
    assert set(ANNOTATION_FORMATS) == {"yolo", "voc", "csv", "masks"}
    for form in (str(tmp_path), "voc:", "voc"):
        assert error(form) == (f"annotations '{form}': expected FORMAT:PATH, as in voc:Annotations")
    assert error(f"vox:{tmp_path}") == (
        "unknown annotation format 'vox': expected yolo, voc, csv, masks, as in voc:Annotations"
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("16 0.5 0.5 0.1", "line 1: '16 0.5 0.5 0.1': expected class cx cy w h, or class x1 y1"),
        ("16 0.5 0.5 0.1 x", "expected class cx cy w h"),
        ("16 0.5 0.5 0.1 nan", "expected class cx cy w h"),
        ("\n16 45 30 10 10", "line 2: '16 45 30 10 10': expected class"),
        ("16 0.1 0.1 0.2 0.2 0.3", "expected class"),
        ("16 0.5 0.5 0 0.1", "box 45,27,45,33 is empty or outside of the image of 90 x 60"),
        ("16", "line 1: '16': expected class"),
        ("16 " + "7 " * 400, "line 1: '16 7 7 "),
    ],
)
def test_bad_yolo(folder: Path, text: str, reason: str) -> None:
    (folder / "sub" / "dog.1.txt").write_text(text)
    message = error(f"yolo:{folder}")
    assert reason in message
    assert message.startswith(f"{folder}/sub/dog.1.txt, line ")
    assert len(message) < 300 + len(str(folder))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<annotation>", "dog.1.xml: not XML (no element found: line 1, column 12)"),
        (b"\xff\xfe<", "dog.1.xml: not XML (unclosed token"),
        ('<?xml version="1.0" encoding="klingon"?><a/>', "dog.1.xml: not XML (unknown encoding"),
        (xml(voc_object("dog", 1, 2, 3, "x")), "object 'dog': expected a name and a bndbox of"),
        (xml(voc_object("", 1, 2, 3, 4)), "object '': expected a name and a bndbox of"),
        (xml("<object><name>dog</name></object>"), "object 'dog': expected a name and a bndbox"),
        (xml(voc_object("dog", 95, 2, 99, 9)), "object 'dog': box 94,1,99,9 is empty or out"),
        (
            xml(size="<width>60</width><height>90</height>"),
            "dog.1.xml: size 60 x 90, expected 90 x 60, the upright size of sub/dog.1.jpg",
        ),
    ],
)
def test_bad_voc(folder: Path, text: str | bytes, reason: str) -> None:
    data = text.encode() if isinstance(text, str) else text
    (folder / "sub" / "dog.1.xml").write_bytes(data)
    assert reason in error(f"voc:{folder}")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no column 'image': expected a first line with image,class,x0,y0,x1,y1"),
        ("image,class,x0,y0,x1\n", "no column 'y1': expected a first line with"),
        ("sub/dog.1.jpg,dog,1,2,3,4\n", "no column 'image'"),
        ("image,class,x0,y0,x1,y1\nsub/dog.1.jpg,dog,1,2,3\n", "line 2: expected image,class,x0"),
        ("image,class,x0,y0,x1,y1\nsub/dog.1.jpg,,1,2,3,4\n", "line 2: expected image,class,x0"),
        ("image,class,x0,y0,x1,y1\nsub/dog.1.jpg,dog,9,2,3,4\n", "line 2: box 9,2,3,4 is empty"),
        (b"image,\xff", "boxes.csv: expected text in UTF-8"),
        (f"image,class,x0,y0,x1,y1\n{'x' * 200_000}", "boxes.csv: field larger than"),
    ],
)
def test_bad_csv(tmp_path: Path, text: str | bytes, reason: str) -> None:
    data = text.encode() if isinstance(text, str) else text
    (tmp_path / "boxes.csv").write_bytes(data)
    assert reason in error(f"csv:{tmp_path / 'boxes.csv'}")


@pytest.mark.parametrize(
    ("shape", "value", "reason"),
    [
        ((*SIZE, 3), 1, "a mask in RGB: expected a grey or palette image of indices"),
        ((90, 60), 1, "size 60 x 90, expected 90 x 60, the upright size of sub/dog.1.jpg"),
        (SIZE, 255, "only 0 and 255, which are no classes: expected indices"),
        (None, 0, "dog.1.png: not an image that Pillow can read"),
    ],
)
def test_bad_masks(folder: Path, shape: tuple[int, ...] | None, value: int, reason: str) -> None:
    file = folder / "sub" / "dog.1.png"
    file.write_text("no image")
    if shape:
        values = np.zeros(shape, np.uint8)
        values[:5] = value
        Image.fromarray(values).save(file)
    assert reason in error(f"masks:{folder}")


def test_boxes_are_in_the_upright_image(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = make_photo(tmp_path / "a.jpg", 90, 60, exif=exif)
    (tmp_path / "a.txt").write_text("0 0.25 0.5 0.5 1")
    height, width = decode(photo).shape[:2]
    (found,) = reader(f"yolo:{tmp_path}")(Path("a.jpg"), (height, width))
    assert found.box == (0, 0, 30, 90), "the left half of 60 x 90"


def test_real_outlines_agree_with_their_boxes() -> None:
    """Outlines and boxes come from different sources. Compare photos with one of each."""
    photos = SHARED / "images" / "coco"
    if not photos.is_dir():
        pytest.skip(f"needs real photos: {SHARED.name}/images/coco is not there")
    counts: Counter[str] = Counter()
    for file in sorted(photos.glob("*.boxes.txt")):
        name = Path(file.name.replace(".boxes.txt", ".jpg"))
        with Image.open(photos / name) as image:
            size = (image.height, image.width)
        found = reader(f"yolo:{photos}")(name, size)
        counts["objects"] += len(found)
        lines = file.read_text().splitlines()
        if len(found) == len(lines) == 1 and found[0].mask is not None:
            cx, cy, w, h = map(float, lines[0].split()[1:])
            box = ((cx - w / 2) * size[1], (cy - h / 2) * size[0])
            assert found[0].box[:2] == pytest.approx(box, abs=2)
            rows, columns = (np.flatnonzero(found[0].mask.any(axis)) for axis in (1, 0))
            around = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
            assert around == pytest.approx(found[0].box, abs=1.5)
            counts["alone"] += 1
    assert counts["objects"] > 500
    assert counts["alone"] >= 5
