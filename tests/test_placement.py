"""The commands behind docs/placement.md."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from tests.placement import __main__ as placement
from tests.support.command import TINY, Run
from tests.support.dots import SHAPES
from tests.support.files import make_photo
from tests.support.linear_networks import LAYERS


def test_two_evaluations_are_compared(run: Run, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        make_photo(tmp_path / "in" / f"{name}.png", 60, 50)
    for where in ("equal-parts", "centres"):
        options = ("--metric", "complexity", "--method", "gradcam", "--placement", where)
        assert run("evaluate", tmp_path / "in", *TINY, *options, "--output", tmp_path / where)
    folders = [str(tmp_path / where) for where in ("equal-parts", "centres")]
    found = CliRunner().invoke(placement.main, ["compare", *folders], catch_exceptions=False)
    assert found.output.splitlines()[2].startswith("| complexity (lower) | gradcam | 3 | ")


def test_the_distances_of_dots_are_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "LAYERS", {"squeezenet1_0": LAYERS["squeezenet1_0"]})
    monkeypatch.setattr(placement, "SHAPES", SHAPES[:1])
    found = CliRunner().invoke(placement.main, ["dots"], catch_exceptions=False)
    assert found.output.count("| squeezenet1_0 |") == 3


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    file = tmp_path / "placement.jpg"
    CliRunner().invoke(placement.main, ["picture", str(file)], catch_exceptions=False)
    with Image.open(file) as image:
        assert image.size == (696, 512)
