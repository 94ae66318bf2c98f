"""On a GPU: every method, half precision, short memory, streams of batches, and Ray's actors."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from camcli import METHODS, explain, load
from camcli.capture.windows import Window
from camcli.errors import CamcliWarning
from tests.support.command import Run, stderr
from tests.support.files import SAMPLES, make_photo
from tests.support.networks import OF_MAPS
from tests.support.vision_transformers import square_images, vision_transformer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU with CUDA"),
]

PHOTO = SAMPLES / "dog.jpg"
WINDOW = Window(48, 24)


def correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(np.corrcoef(a.double().cpu().flatten(), b.double().cpu().flatten())[0, 1])


@pytest.mark.parametrize("name", OF_MAPS)
def test_maps_are_those_of_the_cpu(name: str) -> None:
    """TensorFloat-32, which cuDNN's convolutions use, has the mantissa of fp16."""
    here, there = (load("mini", device=device) for device in ("cpu", "cuda"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CamcliWarning)
        expected, found = (explain(m, PHOTO, name, 0, window=WINDOW) for m in (here, there))
    assert found.maps.device.type == "cuda"
    assert correlation(found.maps, expected.maps) > 0.99


@pytest.mark.parametrize("name", sorted(METHODS.keys() - OF_MAPS))
def test_maps_of_attention_are_those_of_the_cpu(name: str) -> None:
    images = square_images()
    expected = explain(vision_transformer(), images, name, 0)
    found = explain(vision_transformer().to("cuda"), images.to("cuda"), name, 0)
    assert found.maps.device.type == "cuda"
    assert correlation(found.maps, expected.maps) > 0.99


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision(precision: str) -> None:
    full, half = (load("mini", device="cuda", precision=one) for one in ("fp32", precision))
    for name in ("gradcam", "gradcam++", "layercam", "cam", "guided-backprop"):
        expected, found = (explain(m, PHOTO, name) for m in (full, half))
        assert correlation(found.maps, expected.maps) > 0.99, name


def make_photos(folder: Path, count: int) -> Path:
    for number in range(count):
        make_photo(folder / f"{number}.jpg", 60 + number, 70)
    return folder


@pytest.mark.parametrize("executor", ["local", pytest.param("ray", marks=pytest.mark.ray)])
def test_a_run_has_the_rows_of_the_cpu(executor: str, run: Run, tmp_path: Path) -> None:
    """The local run also reads, explains and writes batches side by side."""
    photos = make_photos(tmp_path / "in", 20)
    found = {}
    for device, where in (("cpu", "local"), ("cuda", executor)):
        out = tmp_path / device
        arguments = ("explain", photos, "--output", out, "--device", device, "--batch-size", 4)
        assert run(*arguments, "--executor", where, "--quiet").exit_code == 0
        rows = (out / "manifest.jsonl").read_text().splitlines()
        found[device] = [json.loads(row)["class_index"] for row in rows]
    assert found["cuda"] == found["cpu"]


def test_short_memory_halves_the_batches(run: Run, tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "in", 64)
    free = torch.cuda.mem_get_info()[0]
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(min(1.0, 1.2 * 2**30 / total, free / total))
    try:
        arguments = ("explain", photos, "--output", tmp_path / "out", "--batch-size", 64)
        network = ("--model", "vgg16", "--weights", "none", "--device", "cuda")
        done = run(*arguments, *network)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()
    assert done.exit_code == 0
    assert "Warning: out of memory with 64 images at once: going on with 32" in stderr(done)
