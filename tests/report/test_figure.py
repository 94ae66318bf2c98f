"""Figures: what is in which place, on which scale, and whether it can be read on paper."""

from __future__ import annotations

import io
import itertools
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result
from PIL import Image
from torch import nn

from camcli import Model, explain
from camcli.capture.windows import Window
from camcli.errors import CamcliError, CamcliWarning, MethodError, TargetError
from camcli.images.geometry import Crop
from camcli.images.preprocess import Preset, preprocess
from camcli.render.draw import Style, ceiling, overlay
from camcli.report.figure.maps import make
from camcli.report.figure.sheet import BESIDE, DEFAULT, Column, Gap, Map, Sheet
from tests.support.files import make_photo
from tests.support.networks import DeepHead, GapNet

typesetting = pytest.importorskip("camcli.report.figure.typesetting", reason="needs matplotlib")

Run = Callable[..., Result]
NAMES = ("ant", "bee", "cat", "an exceedingly long name of a class", "elk")
SMALL = Window(12, 10)


@pytest.fixture
def pixels() -> np.ndarray:
    y, x = np.mgrid[:50, :70]
    return np.stack([3 * x, 5 * y, 120 + 2 * (x - y)], axis=-1).astype(np.uint8)


@pytest.fixture
def model() -> Model:
    torch.manual_seed(0)
    return Model(GapNet(), "small", preset=Preset(40, 32), class_names=NAMES, num_classes=5)


@pytest.fixture
def headless() -> Model:
    """A network that CAM is not defined for, with other classes."""
    torch.manual_seed(1)
    names = ("ant", "bee", "cow", "a dog of an exceedingly long name", "elk")
    return Model(DeepHead(), "deep", preset=Preset(32, 32), class_names=names, num_classes=5)


def test_maps_are_the_engines_in_their_places(model: Model, pixels: np.ndarray) -> None:
    targets = ("pred", "top2", "not:bee")
    found = make(pixels, [model], (), targets, window=SMALL)
    assert [column.method for column in found.columns] == list(DEFAULT)
    assert found.gaps == []
    inputs, crop = preprocess(pixels, model.preset)
    for column in found.columns:
        for target, cell in zip(targets, column.cells, strict=True):
            shown = explain(model, inputs[None], column.method, target, window=SMALL)
            assert isinstance(cell, Map)
            np.testing.assert_allclose(cell.values, shown.maps[0].numpy(), rtol=1e-4, atol=1e-7)
            assert cell.crop == crop
            assert cell.probability == pytest.approx(float(shown.probabilities[0]))
            assert cell.top == ceiling(cell.values, signed=cell.signed)
            name = NAMES[int(shown.classes[0])]
            assert cell.label == ("not: bee" if target == "not:bee" else name)


def test_what_a_model_does_not_take_is_a_gap_unless_asked_for(
    headless: Model, pixels: np.ndarray
) -> None:
    found = make(pixels, [headless], (), ["pred"], window=SMALL)
    gaps = {c.method for c in found.columns if isinstance(c.cells[0], Gap)}
    assert gaps == {"cam"}
    (reason,) = found.gaps
    assert reason.startswith("deep, cam: cam needs a network that ends in global average pooling")
    with pytest.raises(MethodError, match="cam needs"):
        make(pixels, [headless], ["gradcam", "cam"], ["pred"])


def test_further_models(model: Model, headless: Model, pixels: np.ndarray) -> None:
    found = make(pixels, [model, headless], (), ["cat", "elk"], window=SMALL)
    assert [c.method for c in found.columns if c.model == "deep"] == list(BESIDE)
    assert found.models == ["small", "deep"]
    cat, elk = found.columns[-1].cells
    assert isinstance(elk, Map)
    assert elk.crop != found.columns[0].cells[1].crop, "each model has its own crop"
    assert isinstance(cat, Gap)
    assert "unknown target 'cat': did you mean 'ant'" in cat.reason
    named = make(pixels, [model, headless], ["layercam"], ["elk"])
    assert [(c.model, c.method) for c in named.columns] == [
        *(("small", "layercam"), ("deep", "layercam"))
    ]
    with pytest.raises(TargetError, match="unknown target 'cow'"):
        make(pixels, [model, headless], (), ["cow"])


def test_one_network_with_two_weights_is_two_models(model: Model, pixels: np.ndarray) -> None:
    other = replace(model, weights="tuned.pth")
    found = make(pixels, [model, other], ["gradcam"], ["ant"])
    assert found.models == ["small, given", "small, tuned.pth"]
    assert make(pixels, [model] * 2, ["gradcam"], ["ant"]).models == [
        *("small, given (1)", "small, given (2)")
    ]


@pytest.mark.parametrize(
    ("scale", "shares"),
    [
        ("image", lambda c, row: (c.model, c.method, row)),
        ("row", lambda c, row: (c.method, row)),
        ("figure", lambda c, row: c.method),
    ],
)
def test_scales(
    scale: str, shares: Callable[..., object], model: Model, headless: Model, pixels: np.ndarray
) -> None:
    methods, targets = ["gradcam++", "guided-backprop"], ["ant", "bee"]
    found = make(pixels, [model, headless], methods, targets, scale=scale)
    groups: dict[object, list[Map]] = {}
    for column in found.columns:
        for row, cell in enumerate(column.cells):
            groups.setdefault(shares(column, row), []).append(cell)  # type: ignore[arg-type]
    for group in groups.values():
        most = max(ceiling(cell.values, signed=cell.signed) for cell in group)
        assert [cell.top for cell in group] == [most] * len(group)


def test_a_map_that_is_not_finite_is_a_gap(model: Model, pixels: np.ndarray) -> None:
    nn.init.constant_(model.module.get_submodule("fc").weight, torch.nan)  # type: ignore[arg-type]
    found = make(pixels, [model], ["hirescam"], ["ant"])
    assert found.gaps == ["small, hirescam: the map holds NaN or infinity"]


def test_an_input_that_a_network_does_not_take(model: Model, pixels: np.ndarray) -> None:
    tiny = replace(model, preset=Preset(2, 2))
    with pytest.raises(CamcliError, match=r"small failed \(Calculated padded input size"):
        make(pixels, [tiny], (), ["pred"])


def drawn(monkeypatch: pytest.MonkeyPatch, *given: object, **options: object) -> object:
    """The page that `typeset` lays out."""
    pages: list[object] = []
    page = typesetting.Page
    monkeypatch.setattr(typesetting, "Page", lambda layout: pages.append(page(layout)) or pages[-1])
    monkeypatch.setattr(typesetting, "_saved", lambda *_: b"")
    typesetting.typeset(*given, **options)
    return pages[0]


def test_pictures_are_on_the_page_pixel_by_pixel(model: Model, pixels: np.ndarray) -> None:
    sheet = make(pixels, [model], ["gradcam", "cam"], ["ant", "bee"])
    options = {"width": 4.0, "dpi": 150}
    data = typesetting.typeset(sheet, ".png", Style(), **options)
    page = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    layout, _ = typesetting._laid_out(
        sheet, ["Original", "Grad-CAM", "CAM"], **options, shared=False
    )
    assert page.shape == (layout.height, 600, 3)
    width, height = layout.picture
    photo = Image.fromarray(pixels).resize((width, height))
    assert abs(width / height - 70 / 50) < 0.02
    grey = np.asarray(photo.convert("L").convert("RGB"))
    for row, column in itertools.product(range(2), range(3)):
        x, y = layout.place(row, column)
        expected = np.asarray(photo)
        if column:
            cell = sheet.columns[column - 1].cells[row]
            scales = (width / 70, height / 50) * 2
            crop = Crop(*(round(s * n) for s, n in zip(corners(cell), scales, strict=True)))
            expected = overlay(grey, cell.values, crop, Style(), cell.signed, cell.top)
        assert (page[y : y + height, x : x + width] == expected).all()
        assert (page[y : y + height, x + width : x + width + layout.gap] == 255).all()


def corners(cell: object) -> tuple[int, int, int, int]:
    assert isinstance(cell, Map)
    return cell.crop.x0, cell.crop.y0, cell.crop.x1, cell.crop.y1


@pytest.mark.parametrize(
    ("methods", "targets", "options"),
    [
        ((), ("pred", "top2", "not:elk"), {}),
        ((), ("ant", "bee"), {"shared": True}),
        (("gradcam", "layercam"), ("3", "finer:3"), {}),
        (("gradcam++softmax", "guided-backprop"), ("elk",), {"width": 4.0}),
    ],
)
def test_text_can_be_read(
    methods: tuple[str, ...],
    targets: tuple[str, ...],
    options: dict[str, object],
    model: Model,
    headless: Model,
    pixels: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No letter is smaller than 6 points, off the page, in a picture or in another line."""
    sheet = make(pixels, [model, headless], methods, targets, window=SMALL)
    page = drawn(monkeypatch, sheet, ".png", Style(), **{"width": 7.0, "dpi": 100, **options})
    figure = page.figure  # type: ignore[attr-defined]
    boxes = [text.get_window_extent() for text in figure.texts]
    assert min(text.get_fontsize() for text in figure.texts) >= 6
    for text, box in zip(figure.texts, boxes, strict=True):
        assert min(box.x0, box.y0) >= -1, text
        assert box.x1 <= figure.bbox.x1 + 1, text
        assert box.y1 <= figure.bbox.y1 + 1, text
    for (a, one), (b, other) in itertools.combinations(enumerate(boxes), 2):
        across = min(one.x1, other.x1) - max(one.x0, other.x0)
        down = min(one.y1, other.y1) - max(one.y0, other.y0)
        assert across <= 0 or down <= 0, (figure.texts[a], figure.texts[b])
    said = {text.get_text() for text in figure.texts}
    assert {"Original", "small", "deep"} <= said
    first = next(c for c in (column.cells[0] for column in sheet.columns) if isinstance(c, Map))
    assert any(text.endswith(f"\n{first.probability:.1%}") for text in said)


def test_a_map_of_nothing_says_so(pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    values, whole = np.zeros((4, 4), np.float32), Crop(0, 0, 70, 50)
    cell = Map(values, whole, signed=False, top=0.0, box=None, label="a $5 bill$", probability=0.5)
    sheet = Sheet(pixels, (Column("small", "gradcam", (cell,)),))
    page = drawn(monkeypatch, sheet, ".png", Style(), width=3, dpi=100)
    said = {text.get_text() for text in page.figure.texts}  # type: ignore[attr-defined]
    assert {"zero everywhere", "a $5 bill$\n50.0%"} <= said


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.5, "0.5"), (27.6, "28"), (0.00034, "3.4e−4"), (123456.0, "1.2e5")],  # noqa: RUF001
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert typesetting._number(value) == text


@pytest.mark.parametrize("ending", [*typesetting.FORMATS])
def test_files_repeat_and_have_no_dates(ending: str, model: Model, pixels: np.ndarray) -> None:
    sheet = make(pixels, [model], ["gradcam", "guided"], ["pred"])
    first, again = (typesetting.typeset(sheet, ending, Style(), width=3, dpi=100) for _ in range(2))
    assert first == again
    magic = {".png": b"\x89PNG", ".jpg": b"\xff\xd8", ".pdf": b"%PDF", ".svg": b"<?xml"}
    assert first.startswith(magic[ending])
    assert not re.search(rb"CreationDate|ModDate|dc:date|Matplotlib v|20\d\d-\d\d-\d\d", first)
    if ending == ".pdf":
        assert b"/FontFile2" in first, "whole fonts"


def test_signs_without_a_font(model: Model, pixels: np.ndarray) -> None:
    foreign = replace(model, class_names=("猫", *NAMES[1:]))
    sheet = make(pixels, [foreign], ["gradcam"], ["0"])
    with pytest.warns(CamcliWarning, match="font has no signs for some of the text"):
        typesetting.typeset(sheet, ".png", Style(), width=3, dpi=100)


def test_a_figure_in_one_command(run: Run, tmp_path: Path) -> None:
    photo, file = make_photo(tmp_path / "photo.jpg"), tmp_path / "sub" / "fig.png"
    beside = ("--model", "mobilenet_v3_small", "--weights", "DEFAULT", "--weights", "none")
    found = run(
        *("figure", photo, "--model", "mini", *beside, "--target", "cat", "--target", "top2"),
        *("--window", 60, "--stride", 60, "--dpi", 50, "--scale", "figure", "-o", file),
    )
    assert found.exit_code == 0, found.stderr_bytes
    assert found.stdout_bytes.decode() == f"{file}\n"
    (note,) = found.stderr_bytes.decode().splitlines()
    assert note.startswith("Note: mobilenet_v3_small, gradcam: unknown target 'cat': did you mean")
    with Image.open(file) as image:
        assert image.width == 350
    assert [path.name for path in file.parent.iterdir()] == ["fig.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["-o", "fig.bmp"],
            "figure 'fig.bmp': expected a name that ends in .png, .jpg, .pdf, .svg",
        ),
        (
            ["--width", "2"],
            "7 pictures of 0.19 in side by side: give fewer methods or models, or a",
        ),
        (["--method", "gradcamm"], "unknown method 'gradcamm': did you mean 'gradcam'"),
        (["--target", "cart"], "unknown target 'cart': did you mean 'cat'"),
        (["--scale", "page"], "unknown scale 'page': did you mean 'image'"),
        (["--colormap", "jett"], "unknown colormap 'jett'"),
        (
            ["--model", "mini"] * 3 + ["--weights", "none"] * 2,
            "--weights is given 2 times for 3 mod",
        ),
        (["--labels", "none.txt"], "labels 'none.txt': No such file"),
        (["-o", "photo.jpg"], "'photo.jpg' is the image itself and would be written over"),
        (["-o", "/proc/none/fig.png"], "cannot write to '/proc/none': "),
        (
            ["--model", "mobilenet_v3_small", "--weights", "none", "--method", "cam"],
            "cam needs a network that ends in global average pooling",
        ),
    ],
)
def test_wrong_usage_is_one_line(
    arguments: list[str],
    message: str,
    run: Run,
    photo: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    found = run("figure", photo.name, "--window", 100, *arguments)
    assert (found.exit_code, found.stdout_bytes) == (2, b"")
    (line,) = found.stderr_bytes.decode().splitlines()
    assert line.startswith("Error: ")
    assert message in line
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]


def test_without_matplotlib(run: Run, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "camcli.report.figure.typesetting")
    found = run("figure", photo)
    assert found.exit_code == 2
    assert found.stderr_bytes.decode() == (
        "Error: camcli figure draws with matplotlib, which is not installed: "
        "pip install 'camcli[figure]'\n"
    )
