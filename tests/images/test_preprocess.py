"""Input tensors beside those of torchvision's own transforms."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import get_model_weights
from torchvision.transforms import InterpolationMode, functional, v2
from torchvision.transforms.functional import center_crop, pil_to_tensor, to_tensor

from camcli.errors import ImageError
from camcli.images.geometry import Crop
from camcli.images.preprocess import FITS, INTERPOLATIONS, Preset, preprocess
from camcli.models.load import load

NETWORKS = ("resnet50", "efficientnet_b1", "swin_t", "vit_b_16", "inception_v3")
BY_INTEGERS = "AVX" in torch.backends.cpu.get_cpu_capability()
"""Whether torchvision resizes tensors of 8 bits as integers. Else it converts them to floats."""


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(
    "size", [(90, 60), (300, 500), (701, 333), (256, 256), (3000, 200), (427, 320)]
)
def test_inputs_are_those_of_torchvision(name: str, size: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), np.uint8)
    transform = get_model_weights(name).DEFAULT.transforms()
    expected = transform(Image.fromarray(noise))
    preset = Preset(
        transform.resize_size[0],
        transform.crop_size[0],
        interpolation=transform.interpolation.value,
    )
    found, _ = preprocess(noise, preset)
    assert found.dtype == torch.float32
    shorter, resized = min(size), transform.resize_size[0]
    by_torch = preset.interpolation == "bilinear" and shorter > resized
    if by_torch or max(size) / min(size) > 8:  # or only the crop is resized
        assert (found - expected).abs().max() <= 1.01 / 255 / min(preset.std)
    else:
        assert torch.equal(found, expected)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("seed", range(24))
def test_noise_of_any_size_differs_by_one_grey_level_at_most(seed: int, interpolation: str) -> None:
    """What a bilinear filter reduces does, from tensors of torchvision. All else is as images."""
    random = np.random.default_rng(seed)
    height, width, resize = (int(random.integers(*of)) for of in ((40, 600), (40, 900), (32, 300)))
    height, width = max(height, width // 8 + 1), max(width, height // 8 + 1)
    crop = int(random.integers(resize // 4, resize + 1))
    noise = random.integers(0, 256, (height, width, 3), np.uint8)
    found, _ = preprocess(noise, Preset(resize, crop, (0.0,) * 3, (1.0,) * 3, interpolation))
    by_torch = interpolation == "bilinear" and resize <= min(height, width)
    image = pil_to_tensor(Image.fromarray(noise)) if by_torch else Image.fromarray(noise)
    how = next(mode for mode in InterpolationMode if mode.value == interpolation)
    whole = functional.resize(image, [resize], how, antialias=True)
    expected = center_crop(whole / 255 if by_torch else to_tensor(whole), crop)
    assert ((found - expected) * 255).round().abs().max() <= by_torch


@pytest.mark.parametrize("size", [(90, 60), (301, 500), (701, 333)])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_a_bilinear_reduction_is_that_of_torchvision_for_tensors(
    channels: int, size: tuple[int, int]
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*size, channels), np.uint8)
    preset = Preset(56, None, (0.0,) * channels, (1.0,) * channels)
    found, _ = preprocess(noise, preset)
    expected = v2.functional.resize(torch.from_numpy(noise).permute(2, 0, 1), [56], antialias=True)
    levels = (found * 255).round().sub(expected.float()).abs()
    assert levels.max() <= (not BY_INTEGERS)


def test_presets_are_those_of_the_weights() -> None:
    assert load("squeezenet1_1", "none").preset == Preset(256, 224)
    assert load("swin_t", "none").preset == Preset(232, 224, interpolation="bicubic")


@pytest.mark.parametrize(
    ("size", "fit"),
    [
        *itertools.product([(1, 1), (17, 90), (224, 224), (640, 480)], FITS),
        *itertools.product([(1, 90), (4000, 1)], ["preset", "squash"]),
    ],
)
def test_the_crop_lies_in_the_image(size: tuple[int, int], fit: str) -> None:
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    inputs, crop = preprocess(pixels, Preset(), fit)
    assert 0 <= crop.x0 < crop.x1 <= size[0]
    assert 0 <= crop.y0 < crop.y1 <= size[1]
    if fit != "full":
        assert tuple(inputs.shape) == (3, 224, 224)
    if fit != "preset":
        assert crop == Crop(0, 0, *size)


def test_the_fit_full_keeps_the_aspect_ratio() -> None:
    inputs, _ = preprocess(np.zeros((60, 90, 3), np.uint8), Preset(), "full")
    assert tuple(inputs.shape) == (3, 224, 336)


@pytest.mark.parametrize(
    ("fit", "preset"), [("full", Preset()), ("preset", Preset(224, None)), ("full", Preset(64, 48))]
)
def test_the_whole_of_a_long_thin_image_is_refused(fit: str, preset: Preset) -> None:
    message = (
        r"600x1 pixels: the whole image would be an input of \d+x\d+; expected a longer side of"
    )
    with pytest.raises(ImageError, match=message):
        preprocess(np.zeros((1, 600, 3), np.uint8), preset, fit)
    inputs, _ = preprocess(np.zeros((30, 600, 3), np.uint8), preset, fit)
    assert inputs.shape[2] == 20 * inputs.shape[1]


@pytest.mark.parametrize(
    ("size", "preset", "shape"),
    [
        ((90, 60), Preset(64, None, multiple=28), (56, 84)),
        ((600, 60), Preset(64, None, longest=320), (32, 320)),
        ((600, 60), Preset(64, None, longest=320, multiple=28), (28, 308)),
        ((90, 60), Preset((48, 40), None), (48, 40)),
    ],
)
def test_presets_without_a_centre_crop(
    size: tuple[int, int], preset: Preset, shape: tuple[int, int]
) -> None:
    inputs, crop = preprocess(np.zeros((*size[::-1], 3), np.uint8), preset)
    assert tuple(inputs.shape[1:]) == shape
    assert crop == Crop(0, 0, *size)


def test_the_crop_is_the_part_that_the_network_sees() -> None:
    """A square that fills the crop fills the input, except for the border that the filter blurs."""
    pixels = np.zeros((600, 1000, 3), np.uint8)
    _, crop = preprocess(pixels, Preset())
    pixels[crop.slices] = 255
    inputs, _ = preprocess(pixels, Preset(mean=(0.0,) * 3, std=(1.0,) * 3))
    assert (inputs[:, 1:-1, 1:-1] == 1).all()
    pixels[:] = 255
    pixels[crop.slices] = 0
    inputs, _ = preprocess(pixels, Preset(mean=(0.0,) * 3, std=(1.0,) * 3))
    assert (inputs[:, 1:-1, 1:-1] == 0).all()


@pytest.mark.parametrize("channels", [1, 3, 4, 13])
def test_every_value_is_normalised_as_by_torch(channels: int) -> None:
    """All 256 values, in every channel: bitwise the steps of torchvision's ImageClassification."""
    steps = np.arange(channels, dtype=np.uint8)
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1) + steps
    mean, std = (tuple(torch.rand(channels).tolist()) for _ in range(2))
    found, _ = preprocess(pixels, Preset(16, 16, mean, std))
    shape = (channels, 1, 1)
    expected = torch.from_numpy(pixels).permute(2, 0, 1).float().div(255)
    expected = expected.sub(torch.tensor(mean).view(shape)).div(torch.tensor(std).view(shape))
    assert torch.equal(found, expected)
    assert found.stride() == (1, 16 * channels, channels)
