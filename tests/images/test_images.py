"""Finding, decoding and preprocessing, next to torchvision's own transforms."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.models as zoo
from PIL import Image

from camcli.errors import CamcliError, ImageError
from camcli.images.decode import decode
from camcli.images.find import find
from camcli.images.geometry import Crop
from camcli.images.preprocess import FITS, Preset, preprocess
from camcli.models.load import load
from tests.support.files import SAMPLES, make_photo


def names(*paths: object, **options: object) -> list[str]:
    found = find([str(path) for path in paths], **options)  # type: ignore[arg-type]
    return [source.name.as_posix() for source in found]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("b.jpg", "a.PNG", "sub/c.webp", "sub/deep/d.jpg", ".hidden/e.jpg", ".f.jpg"):
        make_photo(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


def test_folders(tree: Path) -> None:
    assert names(tree) == ["a.PNG", "b.jpg", "sub/c.webp", "sub/deep/d.jpg"]
    assert names(tree, recursive=False) == ["a.PNG", "b.jpg"]
    assert names(tree / "sub", tree / "b.jpg") == ["c.webp", "deep/d.jpg", "b.jpg"]


def test_each_image_once(tree: Path) -> None:
    assert names(tree / "b.jpg", tree, tree / "b.jpg")[0] == "b.jpg"
    assert len(names(tree / "b.jpg", tree, tree / "b.jpg")) == 4


def test_globs_and_stranger_names(tree: Path) -> None:
    assert names(tree / "*.jpg") == ["b.jpg"]
    assert names(tree / "**" / "*.jpg") == ["b.jpg", "d.jpg"]
    odd = make_photo(tree / "odd [1] *.jpg")
    assert names(odd) == ["odd [1] *.jpg"], "a name that is there is no pattern"
    assert names(tree / "none*.jpg") == ["none*.jpg"], "kept, for reading it to say so"


def test_an_output_folder_is_no_input(tree: Path) -> None:
    with pytest.raises(CamcliError, match="is an output folder: name its images"):
        names(tree, skip=tree / "sub" / "..")
    (tree / "manifest.jsonl").touch()
    (tree / "run.json").touch()
    with pytest.raises(CamcliError, match="is an output folder: name its images"):
        names(tree)
    with pytest.raises(CamcliError, match="an empty path"):
        names("")


def test_a_folder_that_cannot_be_read_is_not_forgotten(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def locked(path: str) -> object:
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", locked)
    assert names(tree) == ["a.PNG", "b.jpg", "sub/c.webp", "sub/deep"]


def test_outputs_and_loops_are_not_inputs(tree: Path) -> None:
    make_photo(tree / "out" / "b.gradcam.png")
    assert "out/b.gradcam.png" in names(tree)
    assert "out/b.gradcam.png" not in names(tree, skip=tree / "out")
    (tree / "out" / "manifest.jsonl").touch()
    (tree / "out" / "run.json").touch()
    assert "out/b.gradcam.png" not in names(tree)
    (tree / "sub" / "loop").symlink_to(tree)
    assert sorted(names(tree)) == ["a.PNG", "b.jpg", "sub/c.webp", "sub/deep/d.jpg"]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation: int, tmp_path: Path) -> None:
    upright = np.zeros((20, 30, 3), np.uint8)
    upright[:10, :15, 0] = 255  # red in the upper left corner
    undo = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}[orientation]
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    stored = Image.fromarray(upright)
    if undo != 1:
        stored = stored.transpose(turn[undo])
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "x.png", exif=exif)
    assert np.array_equal(decode(tmp_path / "x.png"), upright)


def test_modes(tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 16).astype(np.uint8)
    grey = np.tile(ramp, (8, 1))
    images = {
        "L": Image.fromarray(grey),
        "P": Image.fromarray(grey).convert("P"),
        "1": Image.fromarray(grey).convert("1"),
        "CMYK": Image.fromarray(np.stack([grey] * 3, -1)).convert("CMYK"),
        "I;16": Image.fromarray(grey.astype(np.uint16) * 257),
        "I": Image.fromarray(grey.astype(np.int32) * 257),
        "F": Image.fromarray(grey.astype(np.float32) / 255),
        "F;255": Image.fromarray(grey.astype(np.float32) * 0.8),
        "LA": Image.merge("LA", [Image.fromarray(grey)] * 2),
        "RGBA": Image.merge("RGBA", [Image.fromarray(grey)] * 4),
    }
    for mode, image in images.items():
        file = tmp_path / f"{mode.replace(';', '')}.tif"
        image.save(file)
        pixels = decode(file)
        assert pixels.shape == (8, 16, 3), mode
        assert pixels.dtype == np.uint8
        if mode in ("L", "I;16", "I", "F", "P", "CMYK"):
            assert np.abs(pixels[0, :, 0].astype(int) - ramp).max() <= 1, mode
        if mode == "F;255":
            assert np.abs(pixels[0, :, 0] - 0.8 * ramp).max() <= 1, "dark stays dark"
        if mode in ("LA", "RGBA"):
            assert pixels[0, 0].tolist() == [255, 255, 255], "transparent is white"


def test_what_cannot_be_read(tmp_path: Path, photo: Path) -> None:
    whole = photo.read_bytes()
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("not an image")
    (tmp_path / "short.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "folder.jpg").mkdir()
    for name, message in {
        "empty.jpg": "the file is empty",
        "text.jpg": "not an image that Pillow can read",
        "short.jpg": "image file is truncated",
        "folder.jpg": "Is a directory",
        "missing.jpg": "No such file or directory",
        f"{'long' * 99}.jpg": "File name too long",
    }.items():
        with pytest.raises(ImageError, match=rf"{name}: .*{message}"):
            decode(tmp_path / name)


def test_standard_input(photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(photo.read_bytes()))
    monkeypatch.setattr(sys, "stdin", stdin)
    (source,) = find(["-"])
    assert source.name == Path("stdin")
    assert np.array_equal(decode(source.path), decode(photo))
    with pytest.raises(ImageError, match="standard input: the file is empty"):
        decode(source.path)


def test_a_reader_that_breaks_down_is_one_bad_image(
    photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error in (RuntimeError("Failed to decode"), NotImplementedError("DXT9"), MemoryError()):

        def load(_: object, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(Image.Image, "load", load)
        monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
        with pytest.raises(ImageError, match=r"photo.jpg: damaged image"):
            decode(photo)


@pytest.mark.parametrize(
    "name", ["resnet50", "efficientnet_b1", "swin_t", "vit_b_16", "inception_v3"]
)
@pytest.mark.parametrize("size", [(90, 60), (300, 500), (701, 333), (256, 256), (3000, 200)])
def test_preset_is_torchvisions(name: str, size: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), np.uint8)
    transform = zoo.get_model_weights(name).DEFAULT.transforms()
    expected = transform(Image.fromarray(noise))
    preset = Preset(
        transform.resize_size[0],
        transform.crop_size[0],
        bicubic=transform.interpolation.value == "bicubic",
    )
    found, _ = preprocess(noise, preset)
    assert found.dtype == torch.float32
    if max(size) / min(size) > 8:  # resized around the crop only, with rounding of its own
        assert (found - expected).abs().max() <= 1.01 / 255 / min(preset.std)
    else:
        assert torch.equal(found, expected)


def test_presets_follow_the_weights() -> None:
    assert load("squeezenet1_1", "none").preset == Preset(256, 224)
    assert load("swin_t", "none").preset == Preset(232, 224, bicubic=True)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("size", [(1, 1), (1, 90), (4000, 1), (17, 90), (224, 224), (640, 480)])
def test_crop_lies_in_the_image(fit: str, size: tuple[int, int]) -> None:
    if fit == "full":
        size = (min(size[0], 90), size[1])  # in its own shape, a long line is a large picture
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    inputs, crop = preprocess(pixels, Preset(), fit)
    assert 0 <= crop.x0 < crop.x1 <= size[0]
    assert 0 <= crop.y0 < crop.y1 <= size[1]
    if fit != "full":
        assert tuple(inputs.shape) == (3, 224, 224)
    if fit != "preset":
        assert crop == Crop(0, 0, *size)


def test_full_keeps_the_shape() -> None:
    inputs, _ = preprocess(np.zeros((60, 90, 3), np.uint8), Preset(), "full")
    assert tuple(inputs.shape) == (3, 224, 336)


def test_the_crop_is_what_the_network_saw() -> None:
    """A white square that fills the crop exactly fills the input, but for the filter's edge."""
    pixels = np.zeros((600, 1000, 3), np.uint8)
    _, crop = preprocess(pixels, Preset())
    pixels[crop.slices] = 255
    inputs, _ = preprocess(pixels, Preset(mean=(0.0,) * 3, std=(1.0,) * 3))
    assert (inputs[:, 1:-1, 1:-1] == 1).all()
    pixels[:] = 255
    pixels[crop.slices] = 0
    inputs, _ = preprocess(pixels, Preset(mean=(0.0,) * 3, std=(1.0,) * 3))
    assert (inputs[:, 1:-1, 1:-1] == 0).all()


def test_samples_are_images() -> None:
    sources = find([str(SAMPLES)])
    assert 6 <= len(sources) <= 9
    assert "cat_dog.jpg" in {source.name.name for source in sources}
    for source in sources:
        assert decode(source.path).shape[2] == 3
    table = (SAMPLES / "SOURCES.md").read_text()
    for name in os.listdir(SAMPLES):
        assert name == "SOURCES.md" or name in table
