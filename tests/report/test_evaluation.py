"""The results of `camcli evaluate` in a report."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.command import Run, stderr
from tests.support.report import HOSTILE_NAME, make_evaluation, read_page


def test_table_and_plots(run: Run, folder: Path, tmp_path: Path) -> None:
    """The plots are those of metrics with a curve, and the distributions."""
    make_evaluation(tmp_path / "quality")
    assert run("report", folder, "--evaluation", tmp_path / "quality").exit_code == 0
    evaluation = read_page(folder).data["evaluation"]
    assert evaluation["summary"] == "tiny, 3 images, target pred"
    deletion, win = evaluation["rows"]
    assert deletion["cells"] == [["0.500 [0.250, 0.750]!", "fails"], ["-", None], ["0.500", None]]
    assert (win["title"], win["cells"][-1]) == ("win %", ["0.5", None])
    assert evaluation["legend"] == ["! not better than a baseline (random or centre)"]
    plots = dict(evaluation["plots"])
    assert list(plots) == ["deletion", "distributions"]
    assert all(url.startswith("data:image/png;base64,") for url in plots.values())


def test_values_of_results(run: Run, folder: Path, tmp_path: Path) -> None:
    make_evaluation(tmp_path / "quality")
    run("report", folder, "--evaluation", tmp_path / "quality")
    page = read_page(folder)
    gradcam, occlusion = page.results("plain.jpg")
    assert gradcam["values"] == {"deletion": 0.125}
    assert "values" not in occlusion
    assert not [one for one in page.results(HOSTILE_NAME) if "values" in one]


def test_an_evaluation_of_other_weights_has_no_values(run: Run, folder: Path) -> None:
    make_evaluation(folder, weights_hash="sha256:2")
    assert "the evaluation used other weights than the maps" in stderr(run("report", folder))
    page = read_page(folder)
    assert page.data["evaluation"]["rows"], "found in the output folder itself"
    assert not [one for one in page.results("plain.jpg") if "values" in one]


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("metrics.json", "{", "metrics.json' is not one of camcli evaluate: not JSON"),
        ("metrics.json", '{"metrics": {}}', "of camcli evaluate: no model, expected text"),
        ("scores.csv", "image,method\nplain.jpg,gradcam\n", "evaluate: no column class_index"),
    ],
)
def test_damaged_files(
    name: str, text: str, error: str, run: Run, folder: Path, tmp_path: Path
) -> None:
    quality = make_evaluation(tmp_path / "quality")
    (quality / name).write_text(text)
    found = run("report", folder, "--evaluation", quality)
    assert found.exit_code == 2
    (line,) = stderr(found).splitlines()
    assert error in line


def test_plots_outside_of_the_folder_are_refused(run: Run, folder: Path, tmp_path: Path) -> None:
    quality = make_evaluation(tmp_path / "quality", curves={"../secret": {}})
    found = run("report", folder, "--evaluation", quality)
    assert found.exit_code == 2
    assert "'../secret.png' would lie outside of its folder" in stderr(found)


@pytest.mark.parametrize(
    "rows",
    ["plain.jpg,3,gradcam,nan\n", "plain.jpg,3,gradcam,1e999\n", "plain.jpg,3,gradcam,many\n",
     "x" * 200_000, "\0", "plain.jpg,3,gradcam,1\n\udcff"],
)  # fmt: skip
def test_damaged_scores(rows: str, run: Run, folder: Path, tmp_path: Path) -> None:
    quality = make_evaluation(tmp_path / "quality")
    text = f"image,class_index,method,deletion\n{rows}"
    (quality / "scores.csv").write_bytes(text.encode(errors="surrogateescape"))
    found = run("report", folder, "--evaluation", quality)
    assert found.exit_code in (0, 2)  # a NUL is a text for some versions of Python
    assert "\0" in rows or f"'{quality}/scores.csv' is not one of camcli" in stderr(found)
    assert len(stderr(found).splitlines()) <= 1
