"""Plots of an evaluation: one layout for pixels and for vector files."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from camcli.evaluation.drawing import ENDINGS, Dots, Drawing, Line, Text
from camcli.evaluation.plots import _distributions, _round_ticks, plots
from camcli.evaluation.summary import Summary
from tests.support.command import Run, stderr
from tests.support.evaluation import TINY, scores_of

MAGIC = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}
FALLING = np.linspace([[1.0, 0.8, 0.9, 0.7]] * 3, 0, 5).transpose(1, 2, 0)


def drawing() -> Drawing:
    line = Line(np.array([[20.0, 10], [160, 10], [160, 70]]), (200, 0, 0), 2)
    dots = Dots(np.array([[40.0, 40], [80, 40]]), (0, 0, 200), 5)
    found = Drawing(200, 100)
    found.add(line, dots, Text("text of a plot", (100, 92), align=0.5))
    return found


def test_pixels_have_the_layout() -> None:
    page = np.asarray(Image.open(io.BytesIO(drawing().file(".png"))))
    assert page.shape == (200, 400, 3)
    assert page[20, 180].tolist() == [200, 0, 0]
    assert page[120, 320].tolist() == [200, 0, 0]
    assert page[80, 160].tolist() == [0, 0, 200]
    _, x = np.nonzero(page[165:].min(axis=2) < 128)
    assert (x.min() + x.max()) / 2 == pytest.approx(200, abs=3)


def test_vector_files_have_the_layout() -> None:
    """A pixel of the layout is 1/96 inch, which is 0.75 points."""
    pytest.importorskip("matplotlib")
    svg = drawing().file(".svg").decode()
    assert 'viewBox="0 0 150 75"' in svg
    assert re.search(r"M 15 7.5 *\n?L 120 7.5 *\n?L 120 52.5", svg)
    assert re.search(r'<use [^>]*x="30" y="30"', svg)
    assert "stroke: #c80000; stroke-width: 1.5" in svg


@pytest.mark.parametrize("ending", ENDINGS)
def test_files_are_reproducible(ending: str) -> None:
    pytest.importorskip("matplotlib")
    summary = Summary(scores_of(["cam"], {"deletion": FALLING[..., 0]}, {"deletion": FALLING}))
    first, again = (plots(summary, [ending]) for _ in range(2))
    assert [*first] == [f"deletion{ending}", f"distributions{ending}"]
    assert first == again
    assert all(file.startswith(MAGIC[ending]) for file in first.values())


def test_an_interval_beyond_the_axis_ends_in_an_arrow() -> None:
    """Nothing is drawn over the names of the rows."""
    values = np.array([[0.0, 0, 0, 100], [0.0] * 4, [50.0, 50, 60, 60]])
    marks = _distributions(Summary(scores_of(["cam"], {"average-drop": values}))).marks
    lines = [mark for mark in marks if isinstance(mark, Line) and mark.thickness == 2]
    assert all(line.points[:, 0].min() >= 170 for line in lines)
    assert all(line.points[:, 0].max() <= 620 for line in lines)
    arrows = [line.points[1].tolist() for line in lines if len(line.points) == 3]
    assert arrows == lines[0].points.tolist(), "it goes from -54 to 104 percent"


def test_round_ticks_enclose_the_range() -> None:
    for low, high in ((0, 1), (0, 0.0013), (-0.4, 1), (0, 97.2), (0.3, 7)):
        ticks = _round_ticks(low, high)
        assert ticks[0] <= low
        assert ticks[-1] >= high
        assert 3 <= len(ticks) <= 8
        assert len(set(np.diff(ticks).round(9))) == 1


def test_vector_files_on_request(run: Run, photos: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    command = ("evaluate", photos, *TINY, "--metric", "deletion", "--output", tmp_path / "out")
    assert run(*command, "--plots", "svg,pdf").exit_code == 0
    files = {file.name for file in (tmp_path / "out").iterdir()}
    expected = {f"{name}{ending}" for name in ("deletion", "distributions") for ending in ENDINGS}
    assert expected <= files
    assert run(*command).exit_code == 0
    kept = {file.suffix for file in (tmp_path / "out").iterdir()}
    assert not kept & {".svg", ".pdf"}, "plots of an earlier evaluation are removed"


def test_vector_files_that_cannot_be_written(
    run: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is an error before anything is measured."""
    found = run("evaluate", photos, *TINY, "--plots", "svg")
    assert found.exit_code == 2
    assert stderr(found) == "Error: --plots svg is given without --output: expected both\n"
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    found = run("evaluate", photos, *TINY, "--plots", "svg", "--output", tmp_path / "out")
    assert found.exit_code == 2
    assert stderr(found) == (
        "Error: --plots svg needs matplotlib, which is not installed: "
        "pip install 'camcli[figure]'\n"
    )
    assert not (tmp_path / "out").exists()
