"""Networks in half precision: the maps are close to those of float32."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from camcli import Model, explain, load
from camcli.capture.windows import Window
from camcli.cli.network_options import model_options
from camcli.errors import ModelError
from camcli.models import precision as precisions
from camcli.models.precision import PRECISIONS, at_least_float32, is_emulated
from tests.support.command import Run, refused, stderr
from tests.support.files import SAMPLES, make_photo
from tests.support.networks import OF_MAPS, GapNet

PHOTO = SAMPLES / "dog.jpg"
COSTLY = {"scorecam", "ablationcam"}
"""Methods with one pass per channel, which is slow where half precision is emulated."""


def correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(np.corrcoef(a.double().flatten(), b.double().flatten())[0, 1])


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_maps_are_close_to_float32(precision: str) -> None:
    full, half = (load("mini", precision=name) for name in ("fp32", precision))
    assert half.dtype == PRECISIONS[precision]
    for method in OF_MAPS.keys() - COSTLY:
        expected, found = (explain(m, PHOTO, method, window=Window(48, 24)) for m in (full, half))
        assert found.maps.dtype == found.scores.dtype == torch.float32, method
        assert found.probabilities is not None
        assert expected.probabilities is not None
        torch.testing.assert_close(found.probabilities, expected.probabilities, atol=0.02, rtol=0)
        assert correlation(found.maps, expected.maps) > 0.99, method


def test_the_head_of_an_unknown_network_is_found_in_half_precision(gap_net: GapNet) -> None:
    images = torch.rand(2, 3, 16, 16)
    expected = explain(gap_net.float(), images, "cam", 1).maps
    found = explain(gap_net.bfloat16(), images.bfloat16(), "cam", 1).maps
    assert correlation(found, expected) > 0.99


def test_float64_is_kept() -> None:
    x = torch.rand(2, dtype=torch.float64)
    assert at_least_float32(x) is x


def test_invalid_precisions() -> None:
    with pytest.raises(ModelError, match="unknown precision 'fp8': did you mean 'fp32'"):
        load(precision="fp8")
    with pytest.raises(ModelError, match="is a detection model, which needs precision fp32"):
        load("ssdlite320_mobilenet_v3_large", "none", precision="bf16")


def test_results_of_another_precision_are_not_mixed(run: Run, tmp_path: Path) -> None:
    make_photo(photo := tmp_path / "a.jpg")
    arguments = ["explain", photo, "--quiet", "--output", out := tmp_path / "out"]
    assert run(*arguments, "--precision", "bf16").exit_code == 0
    assert json.loads((out / "run.json").read_text())["precision"] == "bfloat16"
    assert np.load(out / "a.gradcam.npy").dtype == np.float32
    assert "holds results of another run" in refused(run(*arguments))


def test_the_choices_are_the_precisions() -> None:
    options = model_options(lambda: None).__click_params__  # type: ignore[attr-defined]
    (precision,) = (option for option in options if option.name == "precision")
    assert list(precision.type.choices) == list(PRECISIONS)


def test_a_model_without_parameters_is_float32() -> None:
    assert Model(torch.nn.Identity()).dtype == torch.float32


CPU, NO, YES = torch.device("cpu"), (lambda: False), (lambda: True)


@pytest.mark.parametrize(
    ("checks", "machine", "expected"),
    [
        ((NO, NO), "x86_64", True),
        ((NO, None), "AMD64", True),
        ((NO, YES), "x86_64", False),
        ((None, None), "x86_64", False),
        ((NO, NO), "arm64", False),
    ],
)
def test_a_processor_without_instructions(
    checks: tuple[object, ...], machine: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precisions, "_CHECKS", {torch.bfloat16: checks})
    monkeypatch.setattr("platform.machine", lambda: machine)
    assert is_emulated(torch.bfloat16, CPU) is expected
    assert not is_emulated(torch.bfloat16, torch.device("cuda"))
    assert not is_emulated(torch.float32, CPU)


def test_torch_tells_its_instructions() -> None:
    """If a torch had none of the private functions, the note would never be printed."""
    assert all(any(checks) for checks in precisions._CHECKS.values())


@pytest.mark.parametrize(("has", "noted"), [(NO, True), (YES, False)])
def test_the_command_says_that_it_will_be_slower(
    has: object, noted: bool, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precisions, "_CHECKS", {torch.bfloat16: (has,)})
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    make_photo(photo := tmp_path / "a.jpg")
    found = run("explain", photo, "--output", tmp_path / "out", "--precision", "bf16")
    assert found.exit_code == 0
    line = "Note: this processor has no instructions for bfloat16: slower than --precision fp32\n"
    assert (line in stderr(found)) is noted
