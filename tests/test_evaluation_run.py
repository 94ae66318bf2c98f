"""camcli evaluate as a user types it: the table, what is written, what fails, and the verdicts."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result
from PIL import Image

from camcli.errors import MethodError
from camcli.evaluation import plots, trials
from camcli.evaluation.controls import CONTROLS
from camcli.evaluation.intervals import bootstrap, cells
from camcli.evaluation.metrics import DEFAULT, METRICS, ON_TRUTH
from camcli.evaluation.mosaics import Pool, Tile
from camcli.evaluation.protocol import Protocol
from camcli.evaluation.run import Failure, Measured, Scores, Study, _on_mosaics, run
from camcli.evaluation.table import table
from camcli.images import Preset, Source
from camcli.models import Model
from tests.conftest import SHARED, GapNet, make_photo

Run = Callable[..., Result]
TINY = ("--model", "tests.conftest:GapNet", "--device", "cpu", "--steps", 4)
QUICK = ("--window", 60, "--sure", 0, "--stages", 3)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for i in range(5):
        pixels = np.random.default_rng(i).integers(0, 255, (7, 9, 3), np.uint8)
        image = Image.fromarray(pixels).resize((90, 70))
        (tmp_path / "in").mkdir(exist_ok=True)
        image.save(tmp_path / "in" / f"{i}.png")
    return tmp_path / "in"


def test_the_table_and_what_is_written(
    run: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (trials, plots):  # two of ROAD's nine, which take most of the time
        monkeypatch.setattr(module, "REMOVED", torch.tensor([0.3, 0.6]))
    methods = ("--method", "gradcam++", "--method", "guided-backprop", "--method", "gradcam++")
    out = tmp_path / "out"
    found = run("evaluate", photos, *TINY, *QUICK, *methods, "--metric", "all", "--output", out)
    assert (found.exit_code, found.stderr_bytes) == (0, b"")
    lines = found.stdout_bytes.decode().splitlines()
    rows = ["gradcam++", "guided-backprop", *CONTROLS]
    assert lines[0].split() == ["metric", "better", "images", *rows]
    names = [name for name in METRICS if name not in ON_TRUTH]
    assert [line.split()[0] for line in lines[1 : 1 + len(names)]] == names
    assert lines[-1].startswith("Measured with target pred, fit preset, product raw, scale max")
    assert "insertion-fill blur" in lines[-1]
    record = json.loads((out / "metrics.json").read_text())
    assert record["methods"] == rows[:2]
    assert (record["images"], record["failed"]) == (5, 0)
    assert record["weights"] == "of tests.conftest:GapNet"
    assert list(record["metrics"]) == names
    assert all(list(one["rows"]) == rows for one in record["metrics"].values())
    drop = record["metrics"]["average-drop"]
    mean = drop["rows"]["gradcam++"]["mean"]
    shown = lines[1].split("5       ")[1]
    assert shown.startswith(f"{mean:.1f} [")
    markdown = (out / "table.md").read_text().splitlines()
    assert markdown[0].startswith("|  | `average-drop` % (lower) | `increase` % (higher) |")
    assert [line.split(" | ")[0] for line in markdown[2:]] == [
        *("| `gradcam++`", "| `guided-backprop`", "| random", "| centre")
    ]
    assert markdown[2].split(" | ")[1] == shown.split("  ")[0].strip()
    table_rows = list(csv.DictReader((out / "scores.csv").read_text().splitlines()))
    assert [row["image"] for row in table_rows[::4]] == [f"{i}.png" for i in range(5)]
    of_row = [float(r["average-drop"]) for r in table_rows if r["method"] == "gradcam++"]
    assert np.mean(of_row) == pytest.approx(mean)
    curves = record["curves"]
    assert set(curves) == {"insertion", "deletion", "road", "road-least", "sanity"}
    for name in (*curves, "distributions"):
        with Image.open(out / f"{name}.png") as picture:
            assert np.asarray(picture).std() > 5
    starts = [curves["deletion"][row][0] for row in rows]
    assert starts == pytest.approx([curves["insertion"][row][-1] for row in rows], abs=1e-6)
    for a in rows:
        for b in rows:
            shares = record["win"][a][b], record["win"][b][a]
            assert shares == (None, None) if a == b else sum(shares) == pytest.approx(100)


def test_the_same_twice_and_another_seed(run: Run, photos: Path) -> None:
    command = ("evaluate", photos, *TINY, "--metric", "deletion", "--json")
    first, second = run(*command), run(*command, "--batch-size", 2, "--workers", 1)
    a, b = (json.loads(found.stdout_bytes) for found in (first, second))
    for row, cell in a["metrics"]["deletion"]["rows"].items():
        again = b["metrics"]["deletion"]["rows"][row]
        assert cell["mean"] == pytest.approx(again["mean"], abs=1e-5)
    other = json.loads(run(*command, "--seed", 1).stdout_bytes)["metrics"]["deletion"]["rows"]
    assert other["random"]["mean"] != a["metrics"]["deletion"]["rows"]["random"]["mean"]


def test_an_unreadable_image_is_one_line_and_the_rest_goes_on(run: Run, photos: Path) -> None:
    (photos / "2.png").write_bytes(b"nothing")
    found = run("evaluate", photos, *TINY, "--metric", "complexity", "--json")
    assert found.exit_code == 1
    (line,) = found.stderr_bytes.decode().splitlines()
    assert line == f"Error: {photos}/2.png: not an image that Pillow can read"
    record = json.loads(found.stdout_bytes)
    assert (record["images"], record["failed"]) == (4, 1)
    assert record["metrics"]["complexity"]["rows"]["centre"]["images"] == 4


def test_no_image_readable(run: Run, tmp_path: Path) -> None:
    found = run("evaluate", tmp_path / "gone.png", *TINY)
    assert found.exit_code == 2
    assert found.stderr_bytes.decode().splitlines()[-1] == "Error: not one image could be measured"


def test_limit_draws_at_random_and_keeps_the_order(run: Run, photos: Path, tmp_path: Path) -> None:
    names = []
    for seed in (0, 0, 3):
        command = ("evaluate", photos, *TINY, "--metric", "complexity", "--limit", 4)
        assert run(*command, "--seed", seed, "--output", tmp_path / "out").exit_code == 0
        rows = csv.DictReader((tmp_path / "out" / "scores.csv").read_text().splitlines())
        names.append(list(dict.fromkeys(row["image"] for row in rows)))
    assert names[0] == names[1] == sorted(names[0])
    assert names[0] != names[2]
    assert len(names[0]) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--metric", "insertoin"), "unknown metric 'insertoin': did you mean 'insertion'"),
        (("--target", "not:2"), "target 'not:2': metrics follow the probability of a class"),
        (("--target", "9"), "target 9: expected a class index from 0 to 4"),
        (("--layer", "nowhere"), "unknown layer 'nowhere'"),
        (("--product", "ra"), "unknown product 'ra': did you mean 'raw'"),
        (("--window", "500", "--metric", "occlusion-correlation"), "occlusion window 500"),
    ],
)
def test_wrong_usage_is_one_line(
    arguments: tuple[str, ...], message: str, run: Run, photos: Path
) -> None:
    found = run("evaluate", photos, *TINY, *arguments)
    assert found.exit_code == 2
    (line,) = found.stderr_bytes.decode().splitlines()
    assert line.startswith("Error: ")
    assert message in line


def test_only_for_classification(photos: Path) -> None:
    model = Model(GapNet(), name="dense", task="segmentation")
    study = Study([Source(photos / "0.png", Path("0.png"))], model, ("cam",), DEFAULT)
    with pytest.raises(MethodError, match="dense is a segmentation network"):
        next(run(study))


def test_a_network_that_fails_on_some_images_measures_the_others(tmp_path: Path) -> None:
    """Images of several shapes at once; one is too small for the network's second layer."""
    make_photo(tmp_path / "a.png", 60, 50)
    make_photo(tmp_path / "b.png", 50, 60)
    make_photo(tmp_path / "c.png", 4, 40)
    sources = [Source(path, Path(path.name)) for path in sorted(tmp_path.iterdir())]
    model = Model(GapNet().eval(), preset=Preset(resize=4, crop=None))
    small = list(run(Study(sources, model, ("cam",), ("complexity",))))
    assert all(isinstance(item, Failure) for item in small)
    assert "custom failed (" in str(small[0].error)
    model = Model(GapNet().eval(), preset=Preset(resize=40, crop=None))
    study = Study(sources, model, ("cam",), ("complexity", "deletion"), Protocol(steps=3))
    scores = Scores(study)
    for found in run(study):
        scores.add(found)
    assert sorted(scores.facts) == [0, 1, 2]
    assert np.isfinite(scores.values["deletion"]).all()


def test_grids_use_images_of_different_classes_alone(photos: Path, run: Run) -> None:
    command = ("evaluate", photos, *TINY, "--metric", "grid", "--target", 1)
    found = run(*command, "--sure", 1)
    assert found.exit_code == 0
    assert "grid needs 4 images of different classes" in found.stdout_bytes.decode()


def verdicts(method: list[float], better: str) -> str | None:
    """Of a method with these values against controls of 1 and 2."""
    name = {"higher": "insertion", "lower": "deletion", "either": "complexity"}[better]
    sources = [Source(Path(str(i)), Path(str(i))) for i in range(len(method))]
    scores = Scores(Study(sources, Model(GapNet()), ("cam",), (name,)))
    values = np.stack([method, np.full(len(method), 1.0), np.full(len(method), 2.0)])
    scores.add(Measured(range(len(method)), [], {name: values}, {}))
    return cells(scores)[name]["cam"].verdict


def test_grids_alone_explain_no_single_image(
    photos: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("evaluate", photos, *TINY, "--metric", "grid", "--sure", 0, "--json")
    found = [json.loads(run(*command, *more).stdout_bytes) for more in ((), ("--metric", "win"))]
    monkeypatch.delattr(trials.Setup, "explain")
    assert json.loads(run(*command).stdout_bytes) == found[0]
    assert found[0]["metrics"]["grid"] == found[1]["metrics"]["grid"]


def test_verdicts() -> None:
    assert verdicts([2.1, 2.3, 2.2, 2.4], "higher") == "beats"
    assert verdicts([0.1, 0.3, 0.2, 0.4], "higher") == "fails"
    assert verdicts([1.5, 1.6, 1.7, 1.8], "higher") == "fails", "it must beat both"
    assert verdicts([0.1, 0.3, 0.2, 0.4], "lower") == "beats"
    assert verdicts([9.0, 0.0, 0.0, 0.1], "higher") == "unsure"
    assert verdicts([0.1, 0.3, 0.2, 0.4], "either") is None


def test_bootstrap_is_as_wide_as_theory_has_it() -> None:
    values = np.random.default_rng(0).normal(5, 2, (1, 400))
    ((low, high),) = bootstrap(values, 0)
    half = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - half, abs=0.03)
    assert high == pytest.approx(values.mean() + half, abs=0.03)
    assert np.isnan(bootstrap(np.empty((2, 0)), 0)).all()


def test_marks_and_remarks_are_shown() -> None:
    sources = [Source(Path(str(i)), Path(str(i))) for i in range(4)]
    scores = Scores(Study(sources, Model(GapNet()), ("guided",), ("insertion", "sanity")))
    rows = [[0.1] * 4, [0.5] * 4, [0.2] * 4]
    kept = [[0.9] * 4, [1.0] * 4, [1.0] * 4]
    values = {"insertion": np.array(rows), "sanity": np.array(kept)}
    scores.add(Measured(range(4), [], values, {}))
    text = table(scores)
    assert "0.100 [0.100, 0.100]!" in text
    assert "! no better than a map that knows nothing (random or centre)" in text
    assert "guided fails the sanity check" in text


def test_controls_are_the_same_for_the_same_image() -> None:
    random, centre = CONTROLS["random"], CONTROLS["centre"]
    assert torch.equal(random([3, 8], 0)[1], random([8], 0)[0])
    assert not torch.equal(random([3], 0), random([3], 1))
    assert not torch.equal(random([3], 0), random([4], 0))
    (bell,) = centre([0], 0)
    assert bell.argmax() in (13 * 28 + 13, 13 * 28 + 14, 14 * 28 + 13, 14 * 28 + 14)
    assert torch.equal(bell, bell.T)
    assert torch.allclose(bell, bell.flip(0))


def test_round_ticks_hold_the_range() -> None:
    for low, high in ((0, 1), (0, 0.0013), (-0.4, 1), (0, 97.2), (0.3, 7)):
        ticks = plots._round_ticks(low, high)
        assert ticks[0] <= low
        assert ticks[-1] >= high
        assert 3 <= len(ticks) <= 8
        assert len(set(np.diff(ticks).round(9))) == 1


def test_real_maps_beat_the_controls(real: list[str], run: Run) -> None:
    """Grad-CAM of a real network on real photos, by deletion; few steps are enough to see it."""
    photos = SHARED / "images" / "imagenet"
    if not photos.is_dir():
        pytest.skip(f"needs real photos: {SHARED.name}/images/imagenet is not there")
    command = ("evaluate", photos, *real, "--limit", 8, "--metric", "deletion", "--steps", 4)
    found = run(*command, "--deletion-fill", "blur", "--json")
    assert found.exit_code == 0
    rows = json.loads(found.stdout_bytes)["metrics"]["deletion"]["rows"]
    assert rows["gradcam"]["mean"] < min(rows[control]["mean"] for control in CONTROLS)


def test_a_network_of_one_input_size_is_told_of_smaller_cells() -> None:
    class Fixed(GapNet):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            torch._assert(x.shape[2] == 40, "Wrong image height!")
            return super().forward(x)

    model = Model(Fixed().eval(), name="fixed")
    tiles = [Tile(number, torch.randn(3, 40, 40), number) for number in range(4)]

    def grids(cells: str) -> list[Measured]:
        pool = Pool(16)
        pool.add(tiles)
        setup = trials.Setup(model, ("cam",), Protocol(cells=cells))
        return list(_on_mosaics(setup, pool, [METRICS["grid"]]))

    (found,) = grids("half")
    assert found.values["grid"].shape == (3, 4)
    assert list(found.numbers) == [0, 1, 2, 3]
    with pytest.raises(MethodError, match=r"\(Wrong image height!\): try --cells half"):
        grids("full")
