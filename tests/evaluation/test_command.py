"""`camcli evaluate` as a user calls it: the table, the files, and the errors."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tqdm import tqdm

from camcli.cli.evaluate import _Progress
from camcli.evaluation import evidence
from camcli.evaluation.baselines import BASELINES
from camcli.evaluation.registry import METRICS
from camcli.models.model import Model
from tests.support.command import Run, line_of, problems, stderr, stdout
from tests.support.evaluation import BLOBS, TINY
from tests.support.files import SHARED

QUICK = ("--window", 60, "--min-confidence", 0, "--sanity-steps", 3)


def test_the_table_and_the_files_agree(
    run: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "ROAD_SHARES", torch.tensor([0.3, 0.6]))  # ROAD is slow
    methods = ("--method", "gradcam++", "--method", "guided-backprop", "--method", "gradcam++")
    out = tmp_path / "out"
    found = run("evaluate", photos, *TINY, *QUICK, *methods, "--metric", "all", "--output", out)
    written = f"metrics.json, scores.csv, table.md, 6 plots -> {out}"
    assert (found.exit_code, problems(found)) == (0, [written])
    text = stdout(found)
    rows = ["gradcam++", "guided-backprop", *BASELINES]
    assert line_of(text, "metric").split() == ["metric", "better", "images", *rows]
    names = [name for name, metric in METRICS.items() if metric.place != "annotation"]
    assert re.findall(r"(?m)^(\S+)(?: %)? +(?:lower|higher) ", text) == names
    conditions = "Measured with target pred, fit preset, masking black, normalize max"
    assert "insertion-fill blur" in line_of(text, conditions)
    record = json.loads((out / "metrics.json").read_text())
    assert record["methods"] == rows[:2]
    assert (record["images"], record["failed"]) == (5, [])
    assert record["weights"] == "from tests.support.networks:GapNet"
    assert list(record["metrics"]) == names
    assert all(list(one["rows"]) == rows for one in record["metrics"].values())
    drop = record["metrics"]["average-drop"]
    mean = drop["rows"]["gradcam++"]["mean"]
    shown = line_of(text, "average-drop").split("5       ")[1]
    assert shown.startswith(f"{mean:.1f} [")
    table, matrix, notes = (out / "table.md").read_text().split("\n\n")
    assert table.startswith("|  | `average-drop` % (lower) | `increase` % (higher) |")
    titled = ["`gradcam++`", "`guided-backprop`", "random", "centre"]
    assert re.findall(r"(?m)^\| ([`\w][^|]*) \|", table) == titled
    assert matrix.startswith(f"| win % against | {' | '.join(titled)} |\n")
    assert notes.startswith("- 5 images; `grid` 0\n- ")
    assert text.endswith(notes.partition("\n- ")[2].replace("\n- ", "\n"))
    assert line_of(table, "| `gradcam++`").split(" | ")[1] == shown.split("  ")[0].strip()
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
    assert record["controls"] == [*BASELINES]
    assert record["top1"] is None, "no annotations"
    win = record["win"]
    for a in rows:
        for b in rows:
            shares = win[a][b], win[b][a]
            assert shares == (None, None) if a == b else sum(shares) == pytest.approx(100)


@pytest.mark.parametrize("name", ["road", "road-least"])
def test_road_without_scipy_is_refused_at_once(
    name: str, run: Run, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "scipy", None)
    found = run("evaluate", photos, *TINY, "--metric", name, "--metric", "deletion")
    assert (found.exit_code, stdout(found)) == (2, "")
    message = f"metric '{name}' needs scipy, which is not installed: pip install 'camcli[evaluate]'"
    assert problems(found) == [f"Error: {message}"]
    assert run("evaluate", photos, *TINY, "--metric", "deletion").exit_code == 0


def test_results_do_not_depend_on_batches_but_on_the_seed(run: Run, photos: Path) -> None:
    command = ("evaluate", photos, *TINY, "--metric", "deletion", "--json")
    first, second = run(*command), run(*command, "--batch-size", 2, "--workers", 1)
    a, b = (json.loads(found.stdout_bytes) for found in (first, second))
    for row, cell in a["metrics"]["deletion"]["rows"].items():
        other = b["metrics"]["deletion"]["rows"][row]
        assert cell["mean"] == pytest.approx(other["mean"], abs=1e-5)
    seeded = json.loads(run(*command, "--seed", 1).stdout_bytes)["metrics"]["deletion"]["rows"]
    assert seeded["random"]["mean"] != a["metrics"]["deletion"]["rows"]["random"]["mean"]


def test_an_unreadable_image_is_one_line_and_the_others_are_measured(
    run: Run, photos: Path
) -> None:
    (photos / "2.png").write_bytes(b"nothing")
    found = run("evaluate", photos, *TINY, "--metric", "complexity", "--json")
    assert found.exit_code == 1
    (line,) = problems(found)
    assert line == f"Error: {photos}/2.png: not an image that Pillow can read"
    record = json.loads(found.stdout_bytes)
    assert record["images"] == 4
    assert [one["image"] for one in record["failed"]] == ["2.png"]
    assert record["metrics"]["complexity"]["rows"]["centre"]["images"] == 4


def test_no_readable_image_is_exit_code_1(run: Run, tmp_path: Path) -> None:
    found = run("evaluate", tmp_path / "gone.png", *TINY)
    assert found.exit_code == 1, "as for explain"
    message = "\nError: no image could be measured; 1 of 1 images failed\n"
    assert stderr(found).endswith(message)
    assert found.stdout_bytes == b""


def test_limit_draws_images_by_seed_and_keeps_their_order(
    run: Run, photos: Path, tmp_path: Path
) -> None:
    names = []
    for seed in (0, 0, 3):
        command = ("evaluate", photos, *TINY, "--metric", "complexity", "--limit", 4)
        assert run(*command, "--seed", seed, "--output", tmp_path / "out").exit_code == 0
        rows = csv.DictReader((tmp_path / "out" / "scores.csv").read_text().splitlines())
        names.append(list(dict.fromkeys(row["image"] for row in rows)))
    assert names[0] == names[1] == sorted(names[0])
    assert names[0] != names[2]
    assert len(names[0]) == 4


def test_paths_that_do_not_exist_do_not_count_for_the_limit(run: Run, photos: Path) -> None:
    options = (*TINY, "--metric", "complexity", "--limit", 2, "--json")
    found = run("evaluate", photos / "gone.png", photos, photos / "lost.png", *options)
    assert found.exit_code == 1
    assert [line.rsplit("/", 1)[1] for line in problems(found)] == [
        "gone.png: No such file or directory",
        "lost.png: No such file or directory",
    ]
    assert json.loads(found.stdout_bytes)["images"] == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--metric", "insertoin"), "unknown metric 'insertoin': did you mean 'insertion'"),
        (("--target", "not:2"), "target 'not:2': metrics need the probability of a class"),
        (("--target", "9"), "target 9: expected a class index from 0 to 4"),
        (("--layer", "nowhere"), "unknown layer 'nowhere'"),
        (("--seed", "-1"), "'--seed': -1 is not in the range 0<=x<=9223372036854775807"),
        (("--road-noise", "nan"), "'--road-noise': nan is not a finite number"),
        (("--min-confidence", "nan"), "'--min-confidence': nan is not a finite number"),
        (("--masking", "blac"), "unknown masking 'blac': did you mean 'black'"),
        (("--window", "500", "--metric", "occlusion-correlation"), "occlusion window 500"),
    ],
)
def test_wrong_usage_is_one_line(
    options: tuple[str, ...], message: str, run: Run, photos: Path
) -> None:
    found = run("evaluate", photos, *TINY, *options)
    assert found.exit_code == 2
    (line,) = problems(found)
    assert line.startswith("Error: ")
    assert message in line


def test_the_files_of_an_evaluation_are_no_inputs(run: Run, photos: Path) -> None:
    command = ("evaluate", *TINY, "--metric", "deletion", "--json")
    for _ in range(2):
        found = json.loads(run(*command, photos, "--output", photos / "quality").stdout_bytes)
        assert found["images"] == 5
    assert json.loads(run(*command, photos).stdout_bytes)["images"] == 5
    own = run(*command, photos, "--output", photos)
    assert own.exit_code == 2
    assert b"is an output folder: name its images, or write to another folder" in own.stderr_bytes
    photo = (photos / "0.png").rename(photos / "distributions.png")
    before = photo.read_bytes()
    over = run(*command, photo, "--output", photos)
    assert over.exit_code == 2
    assert b"is an input and would be overwritten: expected another folder" in over.stderr_bytes
    assert photo.read_bytes() == before


def test_plots_of_an_earlier_evaluation_are_removed(run: Run, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "road.png").write_bytes(b"not a plot: there is no evaluation yet")
    expected = {
        "deletion": {"road.png", "deletion.png", "distributions.png"},
        "complexity": {"distributions.png"},
    }
    for name, pictures in expected.items():
        options = ("--metric", name, "--output", out)
        assert run("evaluate", photos, *TINY, *options).exit_code == 0
        assert {path.name for path in out.glob("*.png")} == pictures


def test_wrong_usage_creates_no_folder(run: Run, photos: Path) -> None:
    out = photos / "out"
    for wrong in (("--model", "nope"), ("--metric", "pointing"), ("--target", "nope")):
        assert run("evaluate", photos, *TINY, *wrong, "--output", out).exit_code == 2
        assert not out.exists()


def test_images_of_one_name_differ_in_scores_csv(run: Run, photos: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "0.png").write_bytes((photos / "0.png").read_bytes())
    command = ("evaluate", photos, other, *TINY, "--metric", "complexity")
    assert run(*command, "--output", tmp_path / "out").exit_code == 0
    lines = (tmp_path / "out" / "scores.csv").read_text().splitlines()
    images = {line.partition(",")[0] for line in lines}
    assert images >= {f"{photos.name}/0.png", "other/0.png"}


def test_empty_maps_are_counted_and_remarked(run: Run, photos: Path) -> None:
    options = ("--model", "tests.support.evaluation:DeadLayer", "--metric", "complexity", "--json")
    record = json.loads(run("evaluate", photos, *options).stdout_bytes)
    assert record["empty"] == {"gradcam": 5, "random": 0, "centre": 0}
    assert record["remarks"] == [
        "gradcam: 5 of 5 maps are empty (no positive value): their scores do not describe a map"
    ]


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", "bfloat16"), ("fp16", "float16")])
def test_half_precision_gives_similar_means(
    run: Run, photos: Path, precision: str, dtype: str
) -> None:
    names = ("average-drop", "increase", "win", "insertion", "deletion", "road", "coherency")
    metrics = [text for name in names for text in ("--metric", name)]
    command = ("evaluate", photos, *TINY, *metrics, "--json")
    exact = json.loads(run(*command).stdout_bytes)
    half = json.loads(run(*command, "--precision", precision).stdout_bytes)
    assert (half["failed"], half["precision"]) == ([], dtype)
    for name in ("average-drop", "insertion", "deletion", "coherency"):
        for row, cell in exact["metrics"][name]["rows"].items():
            scale = 100 if METRICS[name].percent else 1
            assert half["metrics"][name]["rows"][row]["mean"] == pytest.approx(
                cell["mean"], abs=0.05 * scale
            ), (name, row)


def test_layer_and_gradient_sign_change_the_maps(run: Run, photos: Path) -> None:
    def means(*options: object) -> dict[str, float]:
        methods = ("--method", "gradcam", "--method", "guided-backprop")
        command = ("evaluate", photos, *BLOBS, *options, "--metric", "complexity", *methods)
        record = json.loads(run(*command, "--json").stdout_bytes)
        return {row: cell["mean"] for row, cell in record["metrics"]["complexity"]["rows"].items()}

    default, lower, positive = (
        means(),
        means("--layer", "trunk"),
        means("--gradient-sign", "positive"),
    )
    assert default["gradcam"] != lower["gradcam"]
    assert default["guided-backprop"] != positive["guided-backprop"]


def test_batch_norms_are_folded_unless_weights_are_randomized(
    run: Run, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folded: list[str] = []

    def fold(model: Model, layers: object) -> Model:
        folded.append(model.name)
        return model

    monkeypatch.setattr("camcli.models.fold_batchnorm.fold_batchnorm", fold)
    for metrics in (("complexity",), ("complexity", "sanity")):
        options = [text for name in metrics for text in ("--metric", name)]
        assert run("evaluate", photos, *TINY, *options, "--sanity-steps", 1).exit_code == 0
        assert len(folded) == 1


def test_the_last_line_names_the_options_that_decide(run: Run, photos: Path) -> None:
    metrics = ("--metric", "complexity", "--metric", "grid")
    options = ("--method", "occlusion", "--window", 60, "--target", 2, "--layer", "trunk")
    found = run("evaluate", photos, *TINY, *metrics, *options)
    conditions = "Measured with target 2, grid with target pred, layer trunk, fit preset"
    assert "window 60" in line_of(stdout(found), conditions)


def test_real_maps_beat_the_baselines(run: Run) -> None:
    """Grad-CAM of a real network on real photos by deletion; few steps suffice to show it."""
    photos = SHARED / "images" / "imagenet"
    if not photos.is_dir():
        pytest.skip(f"needs real photos: {SHARED.name}/images/imagenet is not there")
    metric = ("--metric", "deletion", "--curve-steps", 4, "--deletion-fill", "blur")
    found = run("evaluate", photos, *metric, "--limit", 8, "--json")
    assert found.exit_code == 0
    rows = json.loads(found.stdout_bytes)["metrics"]["deletion"]["rows"]
    assert rows["gradcam"]["mean"] < min(rows[baseline]["mean"] for baseline in BASELINES)


def test_the_bar_moves_within_an_image_and_never_back() -> None:
    with tqdm(total=2, file=io.StringIO()) as bar:
        progress = _Progress(bar)
        shown = [bar.n]
        for step in (0.25, 0.5, None, 0.125, 0.125, 3.75, None):
            _ = progress.passed(step) if step else progress.finished(1)
            shown.append(bar.n)
        assert shown == [0, 0.25, 0.75, 1, 1.12, 1.25, 2, 2]
        assert "2/2" in str(bar)
