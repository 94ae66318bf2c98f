"""Networks in half precision: the maps are those of float32, as far as it goes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result

from camcli import Model, explain, load
from camcli.capture.windows import Window
from camcli.cli.options import model_options
from camcli.errors import ModelError
from camcli.methods.registry import METHODS
from camcli.models.precision import PRECISIONS, at_least_float32
from tests.support.files import make_photo
from tests.support.networks import GapNet

Run = Callable[..., Result]
PHOTO = Path(__file__).parents[2] / "sample_images" / "dog.jpg"
COSTLY = {"scorecam", "ablationcam"}
"""A pass for each channel, which takes its time where half precision is emulated."""


def correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(np.corrcoef(a.double().flatten(), b.double().flatten())[0, 1])


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_maps_are_those_of_float32(precision: str) -> None:
    full, half = (load("mini", precision=name) for name in ("fp32", precision))
    assert half.dtype == PRECISIONS[precision]
    for method in METHODS.keys() - COSTLY:
        wanted, found = (explain(m, PHOTO, method, window=Window(48, 24)) for m in (full, half))
        assert found.maps.dtype == found.scores.dtype == torch.float32, method
        assert found.probabilities is not None
        assert wanted.probabilities is not None
        torch.testing.assert_close(found.probabilities, wanted.probabilities, atol=0.02, rtol=0)
        assert correlation(found.maps, wanted.maps) > 0.99, method


def test_the_head_of_an_unknown_network_is_found_in_half_precision(gap_net: GapNet) -> None:
    images = torch.rand(2, 3, 16, 16)
    wanted = explain(gap_net.float(), images, "cam", 1).maps
    found = explain(gap_net.bfloat16(), images.bfloat16(), "cam", 1).maps
    assert correlation(found, wanted) > 0.99


def test_float64_stays() -> None:
    x = torch.rand(2, dtype=torch.float64)
    assert at_least_float32(x) is x


def test_what_is_refused() -> None:
    with pytest.raises(ModelError, match="unknown precision 'fp8': did you mean 'fp32'"):
        load(precision="fp8")
    with pytest.raises(ModelError, match="finds boxes, which takes fp32"):
        load("ssdlite320_mobilenet_v3_large", "none", precision="bf16")


def test_the_command_takes_it_and_keeps_its_results_apart(run: Run, tmp_path: Path) -> None:
    make_photo(photo := tmp_path / "a.jpg")
    arguments = ["explain", photo, "--output", out := tmp_path / "out"]
    assert run(*arguments, "--precision", "bf16").exit_code == 0
    assert json.loads((out / "run.json").read_text())["precision"] == "bfloat16"
    assert np.load(out / "a.gradcam.npy").dtype == np.float32
    found = run(*arguments)
    assert found.exit_code == 2
    assert b"holds results of another run" in found.stderr_bytes


def test_the_choices_are_the_precisions() -> None:
    options = model_options(lambda: None).__click_params__  # type: ignore[attr-defined]
    (precision,) = (option for option in options if option.name == "precision")
    assert list(precision.type.choices) == list(PRECISIONS)


def test_a_model_without_parameters_takes_float32() -> None:
    assert Model(torch.nn.Identity()).dtype == torch.float32
