"""camcli evaluate as a user types it: the table, what is written, what fails, and the verdicts."""

from __future__ import annotations

import csv
import json
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result
from PIL import Image
from torch import nn

from camcli.errors import CamcliWarning, MethodError
from camcli.evaluation import evidence, plots
from camcli.evaluation.baselines import CONTROLS
from camcli.evaluation.export import record
from camcli.evaluation.grid_pointing import Tile
from camcli.evaluation.intervals import bootstrap, cells
from camcli.evaluation.metrics import DEFAULT, METRICS, ON_TRUTH
from camcli.evaluation.protocol import Protocol
from camcli.evaluation.run import Facts, Failure, Measured, Scores, Study, _on_mosaics
from camcli.evaluation.run import run as run_study
from camcli.evaluation.summary import Summary
from camcli.evaluation.table import table
from camcli.images.find import Source
from camcli.images.preprocess import Preset
from camcli.models import fold_batchnorm
from camcli.models.model import Model
from tests.support.files import SHARED, make_photo
from tests.support.networks import GapNet

Run = Callable[..., Result]
TINY = ("--model", "tests.conftest:GapNet", "--device", "cpu", "--steps", 4)
QUICK = ("--window", 60, "--sure", 0, "--stages", 3)


class Speechless(GapNet):
    """Whose last layer says nothing of any image."""

    def __init__(self) -> None:
        super().__init__()
        torch.nn.init.constant_(self.last[0].bias, -100)


class Colours(nn.Module):
    """Knows red, green, blue and black photos, and where they are."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Conv2d(3, 3, 1, bias=False)
        self.last = nn.Sequential(nn.Conv2d(3, 4, 4, stride=4), nn.ReLU())
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(4, 4, bias=False)
        with torch.no_grad():
            self.trunk.weight.copy_(torch.eye(3)[:, :, None, None])
            self.last[0].weight.zero_()[:, :, 0, 0] = torch.cat([torch.eye(3), -torch.ones(1, 3)])
            self.last[0].bias.copy_(torch.tensor([0.0, 0, 0, -3]))  # so that black alone is black
            self.fc.weight.copy_(3 * torch.eye(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.pool(self.last(self.trunk(x))).flatten(1))


COLOURS = ("--model", "tests.evaluation.test_run:Colours", "--device", "cpu")


@pytest.fixture
def coloured(tmp_path: Path) -> Path:
    """Three photos of each colour, sorted by it."""
    (tmp_path / "colours").mkdir()
    noise = np.random.default_rng(0)
    for i, colour in enumerate(["red", "lime", "blue", "black"]):
        for j in range(3):
            plain = np.asarray(Image.new("RGB", (64, 64), colour)).astype(int)
            pixels = (plain + noise.integers(-40, 40, (64, 64, 1))).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "colours" / f"{i}{j}.png")
    return tmp_path / "colours"


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
    for module in (evidence, plots):  # two of ROAD's nine, which take most of the time
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
    assert (record["images"], record["failed"]) == (5, [])
    assert record["weights"] == "from tests.conftest:GapNet"
    assert list(record["metrics"]) == names
    assert all(list(one["rows"]) == rows for one in record["metrics"].values())
    drop = record["metrics"]["average-drop"]
    mean = drop["rows"]["gradcam++"]["mean"]
    shown = lines[1].split("5       ")[1]
    assert shown.startswith(f"{mean:.1f} [")
    markdown = (out / "table.md").read_text().splitlines()
    assert markdown[0].startswith("|  | `average-drop` % (lower) | `increase` % (higher) |")
    titled = ["`gradcam++`", "`guided-backprop`", "random", "centre"]
    assert [line.split(" | ")[0] for line in markdown[2:6]] == [f"| {row}" for row in titled]
    assert markdown[7] == f"| win % against | {' | '.join(titled)} |"
    assert markdown[14] == "- 5 images; `grid` 0"
    assert [line.removeprefix("- ") for line in markdown[15:]] == lines[-len(markdown[15:]) :]
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
    assert record["images"] == 4
    assert [one["image"] for one in record["failed"]] == ["2.png"]
    assert record["metrics"]["complexity"]["rows"]["centre"]["images"] == 4


def test_no_image_readable(run: Run, tmp_path: Path) -> None:
    found = run("evaluate", tmp_path / "gone.png", *TINY)
    assert found.exit_code == 1, "as for explain"
    assert found.stderr_bytes.decode().splitlines()[-1] == (
        "Error: not one image could be measured; 1 of 1 images failed"
    )
    assert found.stdout_bytes == b""


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
        (("--seed", "-1"), "'--seed': -1 is not in the range 0<=x<=9223372036854775807"),
        (("--noise", "nan"), "'--noise': nan is not a finite number"),
        (("--sure", "nan"), "'--sure': nan is not a finite number"),
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


def test_paths_that_are_not_there_take_no_images_place(run: Run, photos: Path) -> None:
    asked = (*TINY, "--metric", "complexity", "--limit", 2, "--json")
    found = run("evaluate", photos / "gone.png", photos, photos / "lost.png", *asked)
    assert found.exit_code == 1
    assert [line.rsplit("/", 1)[1] for line in found.stderr_bytes.decode().splitlines()] == [
        "gone.png: No such file or directory",
        "lost.png: No such file or directory",
    ]
    assert json.loads(found.stdout_bytes)["images"] == 2


def test_an_evaluation_is_no_input(run: Run, photos: Path) -> None:
    """Neither where it is written, nor where an earlier one lies; and no photo is written over."""
    asked = ("evaluate", *TINY, "--metric", "deletion", "--json")
    for _ in range(2):
        found = json.loads(run(*asked, photos, "--output", photos / "quality").stdout_bytes)
        assert found["images"] == 5
    assert json.loads(run(*asked, photos).stdout_bytes)["images"] == 5
    own = run(*asked, photos, "--output", photos)
    assert own.exit_code == 2
    assert b"is an output folder: name its images, or write to another folder" in own.stderr_bytes
    photo = (photos / "0.png").rename(photos / "distributions.png")
    before = photo.read_bytes()
    over = run(*asked, photo, "--output", photos)
    assert over.exit_code == 2
    assert b"is an input and would be written over: name another folder" in over.stderr_bytes
    assert photo.read_bytes() == before


def test_pictures_of_an_earlier_evaluation_do_not_stay(
    run: Run, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "road.png").write_bytes(b"mine")
    for name in ("deletion", "complexity"):
        asked = ("--metric", name, "--output", out)
        assert run("evaluate", photos, *TINY, *asked).exit_code == 0
        kept = {path.name for path in out.glob("*.png")}
        assert (
            kept
            == {
                "deletion": {"road.png", "deletion.png", "distributions.png"},
                "complexity": {"distributions.png"},
            }[name]
        ), "what was there before the first evaluation is not of one"


def test_nothing_is_made_for_a_command_that_is_refused(run: Run, photos: Path) -> None:
    out = photos / "out"
    for wrong in (("--model", "nope"), ("--metric", "pointing"), ("--target", "nope")):
        assert run("evaluate", photos, *TINY, *wrong, "--output", out).exit_code == 2
        assert not out.exists()


def test_names_that_scores_would_not_tell_apart(run: Run, photos: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "0.png").write_bytes((photos / "0.png").read_bytes())
    asked = ("evaluate", photos, other, *TINY, "--metric", "complexity")
    assert run(*asked).exit_code == 0
    found = run(*asked, "--output", tmp_path / "out")
    assert found.exit_code == 2
    assert b"would have the same name in scores.csv" in found.stderr_bytes


def test_empty_maps_are_told(run: Run, photos: Path) -> None:
    asked = ("--model", "tests.evaluation.test_run:Speechless", "--metric", "complexity")
    found = run("evaluate", photos, *asked, "--json")
    told = json.loads(found.stdout_bytes)
    assert told["empty"] == {"gradcam": 5, "random": 0, "centre": 0}
    assert told["remarks"] == [
        "gradcam: 5 of 5 maps are empty, nowhere above zero: what they score is not of what they "
        "show"
    ]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_measures_much_the_same(run: Run, photos: Path, precision: str) -> None:
    names = ("average-drop", "increase", "win", "insertion", "deletion", "road", "coherency")
    metrics = [text for name in names for text in ("--metric", name)]
    command = ("evaluate", photos, *TINY, *metrics, "--json")
    exact, half = (json.loads(run(*command, *more).stdout_bytes) for more in (
        (), ("--precision", precision)))  # fmt: skip
    assert (half["failed"], half["precision"]) == ([], {"bf16": "bfloat16", "fp16": "float16"}[
        precision])  # fmt: skip
    for name in ("average-drop", "insertion", "deletion", "coherency"):
        for row, cell in exact["metrics"][name]["rows"].items():
            scale = 100 if METRICS[name].percent else 1
            assert half["metrics"][name]["rows"][row]["mean"] == pytest.approx(
                cell["mean"], abs=0.05 * scale
            ), (name, row)


def test_a_batch_that_memory_is_too_short_for_is_halved(coloured: Path) -> None:
    class Small(Colours):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if len(x) > 2:
                raise torch.OutOfMemoryError
            return super().forward(x)

    sources = [Source(path, Path(path.name)) for path in sorted(coloured.iterdir())]
    found = []
    for module in (Colours().eval(), Small().eval()):
        metrics = ("deletion", "grid")
        study = Study(sources, Model(module), ("cam",), metrics, Protocol(steps=3, sure=0))
        scores = Scores(study)
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            for one in run_study(study):
                scores.add(one)
        found.append(scores)
    assert any("out of memory" in str(one.message) for one in warned)
    assert not found[1].failures
    for name in metrics:
        assert np.allclose(found[0].values[name], found[1].values[name], atol=1e-5, equal_nan=True)


def test_a_layer_and_gradients_are_what_was_asked_for(run: Run, photos: Path) -> None:
    def means(*options: object) -> dict[str, float]:
        metrics = ("--metric", "complexity")
        methods = ("--method", "gradcam", "--method", "guided-backprop")
        command = (
            "evaluate",
            photos,
            "--model",
            "tests.evaluation.test_ground_truth:Blobs",
            *options,
        )
        told = json.loads(run(*command, *metrics, *methods, "--json").stdout_bytes)
        return {
            f"{metric} {row}": cell["mean"]
            for metric, column in told["metrics"].items()
            for row, cell in column["rows"].items()
        }

    whole, lower, positive = means(), means("--layer", "trunk"), means("--gradients", "positive")
    assert whole["complexity gradcam"] != lower["complexity gradcam"]
    assert whole["complexity guided-backprop"] != positive["complexity guided-backprop"]


def test_batch_norms_are_folded_unless_a_metric_randomises_weights(
    run: Run, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folded: list[Model] = []

    def fold(model: Model, layers: object) -> Model:
        folded.append(model)
        return model

    monkeypatch.setattr(fold_batchnorm, "fold_batchnorm", fold)
    for metrics in (("complexity",), ("complexity", "sanity")):
        asked = [text for name in metrics for text in ("--metric", name)]
        assert run("evaluate", photos, *TINY, *asked, "--stages", 1).exit_code == 0
        assert len(folded) == 1


def test_grids_that_memory_is_too_short_for_are_halved() -> None:
    class Small(Colours):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if len(x) > 1:
                raise torch.OutOfMemoryError
            return super().forward(x)

    tiles = [Tile(number, torch.randn(3, 16, 16), number % 4) for number in range(12)]
    grids = [tiles[:4], tiles[4:8], tiles[8:]]
    setup = evidence.Setup(Model(Small().eval()), ("cam",), Protocol(), batch_size=16)
    with pytest.warns(CamcliWarning, match="out of memory with 3 images at once: going on with 1"):
        found = list(_on_mosaics(setup, grids, [METRICS["grid"]]))
    assert [list(one.numbers) for one in found] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]


def test_how_it_was_measured_names_what_decides(run: Run, photos: Path) -> None:
    asked = ("--metric", "complexity", "--metric", "grid", "--method", "occlusion", "--window", 60)
    found = run("evaluate", photos, *TINY, *asked, "--target", 2, "--layer", "trunk")
    last = found.stdout_bytes.decode().splitlines()[-1]
    assert last.startswith("Measured with target 2, grid with target pred, layer trunk, fit preset")
    assert "window 60" in last


def test_only_for_classification(photos: Path) -> None:
    model = Model(GapNet(), name="dense", task="segmentation")
    study = Study([Source(photos / "0.png", Path("0.png"))], model, ("cam",), DEFAULT)
    with pytest.raises(MethodError, match="dense is a segmentation network"):
        next(run_study(study))


def test_a_network_that_fails_on_some_images_measures_the_others(tmp_path: Path) -> None:
    """Images of several shapes at once; one is too small for the network's second layer."""
    make_photo(tmp_path / "a.png", 60, 50)
    make_photo(tmp_path / "b.png", 50, 60)
    make_photo(tmp_path / "c.png", 4, 40)
    sources = [Source(path, Path(path.name)) for path in sorted(tmp_path.iterdir())]
    model = Model(GapNet().eval(), preset=Preset(resize=4, crop=None))
    small = list(run_study(Study(sources, model, ("cam",), ("complexity",))))
    assert all(isinstance(item, Failure) for item in small)
    assert "custom failed (" in str(small[0].error)
    model = Model(GapNet().eval(), preset=Preset(resize=40, crop=None))
    study = Study(sources, model, ("cam",), ("complexity", "deletion"), Protocol(steps=3))
    scores = Scores(study)
    for found in run_study(study):
        scores.add(found)
    assert sorted(scores.facts) == [0, 1, 2]
    assert np.isfinite(scores.values["deletion"]).all()


def grid_shares(
    run: Run, photos: Path, out: Path, *options: object
) -> dict[tuple[str, str], float]:
    """By image and row, of the images that are in a grid."""
    asked = (*COLOURS, "--metric", "grid", "--output", out, *options)
    assert run("evaluate", photos, *asked).exit_code == 0
    rows = csv.DictReader((out / "scores.csv").read_text().splitlines())
    return {(row["image"], row["method"]): float(row["grid"]) for row in rows if row["grid"]}


def test_each_image_of_a_grid_is_pointed_at(run: Run, coloured: Path, tmp_path: Path) -> None:
    asked = ("--sure", 0, "--batch-size")
    shares, *others = (
        grid_shares(run, coloured, tmp_path / "out", *asked, batch) for batch in (16, 1, 5)
    )
    assert len(shares) == 12 * 3, "all are in a grid"
    for other in others:
        assert other == pytest.approx(shares, abs=1e-6), "whatever the batch"
    assert min(share for (_, name), share in shares.items() if name == "gradcam") > 0.9
    assert {round(share, 6) for (_, name), share in shares.items() if name == "centre"} == {0.25}
    random = [share for (_, name), share in shares.items() if name == "random"]
    assert len(set(random)) == 12, "each has its own"
    below = ("--layer", "trunk", "--target", 2)
    lower = grid_shares(run, coloured, tmp_path / "out", *asked, 16, *below)
    assert {key for key in shares if shares[key] != lower[key]} == {
        key for key in shares if key[1] == "gradcam"
    }


def test_only_sure_images_are_in_grids(run: Run, coloured: Path, tmp_path: Path) -> None:
    command = ("evaluate", coloured, *COLOURS, "--metric", "complexity", "--output", tmp_path / "o")
    assert run(*command).exit_code == 0
    rows = csv.DictReader((tmp_path / "o" / "scores.csv").read_text().splitlines())
    least, second, *_ = sorted({float(row["probability"]) for row in rows})
    for sure, grids in ((least, 3), (second, 2)):
        shares = grid_shares(run, coloured, tmp_path / "o", "--sure", f"{sure:.17g}")
        assert len(shares) == grids * 4 * 3


def test_photos_of_several_shapes_are_in_grids_of_their_own(
    run: Run, coloured: Path, tmp_path: Path
) -> None:
    for name in ("00", "10", "21", "31"):  # one of each colour, but not the first of each
        file = coloured / f"{name}.png"
        with Image.open(file) as image:
            image.resize((96, 64)).save(file)
    asked = ("--fit", "full", "--sure", 0, "--batch-size", 1)
    shares = grid_shares(run, coloured, tmp_path / "out", *asked)
    assert len(shares) == 12 * 3
    assert min(share for (_, name), share in shares.items() if name == "gradcam") > 0.9


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
    monkeypatch.delattr(evidence.Setup, "explain")
    assert json.loads(run(*command).stdout_bytes) == found[0]
    assert found[0]["metrics"]["grid"] == found[1]["metrics"]["grid"]


def test_verdicts() -> None:
    assert verdicts([2.1, 2.3, 2.2, 2.4] * 2, "higher") == "beats"
    assert verdicts([0.1, 0.3, 0.2, 0.4] * 2, "higher") == "fails"
    assert verdicts([1.5, 1.6, 1.7, 1.8] * 2, "higher") == "fails", "it must beat both"
    assert verdicts([0.1, 0.3, 0.2, 0.4] * 2, "lower") == "beats"
    assert verdicts([9.0, 0.0, 0.0, 0.1, 9.0, 0.1], "higher") == "unsure"
    assert verdicts([0.1, 0.3, 0.2, 0.4] * 2, "either") is None


def test_few_images_prove_nothing() -> None:
    """Five heads in a row are no rarer than 1 in 32."""
    assert verdicts([2.2] * 6, "higher") == "beats"
    assert verdicts([2.2] * 5, "higher") == "unsure"
    assert verdicts([2.2], "higher") == "unsure"
    assert verdicts([1.2], "higher") == "fails"


def test_a_row_is_of_the_images_that_it_has_values_for() -> None:
    sources = [Source(Path(str(i)), Path(str(i))) for i in range(8)]
    scores = Scores(Study(sources, Model(GapNet()), ("cam", "guided"), ("sanity", "insertion")))
    nan, rising = float("nan"), np.arange(8.0)
    rows = np.stack([np.where(rising < 2, rising, nan), rising, np.ones(8), np.ones(8)])
    half = np.stack([rising, np.full(8, nan), np.ones(8), np.ones(8)])
    trace = np.ones((4, 8, 3))
    trace[0, :, 1], trace[0, 0, 2] = nan, nan
    facts = [Facts(0, 0.5)] * 8
    scores.add(Measured(range(8), facts, {"sanity": rows, "insertion": half}, {"sanity": trace}))
    summary = Summary(scores)
    of_sanity, of_insertion = summary.cells["sanity"], summary.cells["insertion"]
    assert [cell.images for cell in of_sanity.values()] == [2, 8, 8, 8]
    assert [cell.mean for cell in of_sanity.values()] == [0.5, 3.5, 1, 1]
    assert of_insertion["guided"].verdict is None
    assert np.isnan(of_insertion["guided"].mean)
    assert "sanity of cam: defined on 2 of 8 images" in summary.remarks
    assert "insertion of guided: defined on 0 of 8 images" in summary.remarks
    curve = record(summary)["curves"]["sanity"]["cam"]
    assert curve == [1, None, 1], "no value is not the best one"
    lines = table(summary).splitlines()
    assert lines[1].split()[:3] == ["sanity", "lower", "2-8"]
    assert all(picture.startswith(b"\x89PNG") for picture in plots.pictures(summary).values())


def test_the_matrix_of_wins_says_who_wins() -> None:
    sources = [Source(Path(str(i)), Path(str(i))) for i in range(4)]
    scores = Scores(Study(sources, Model(GapNet()), ("cam", "guided"), ("win",)))
    kept = np.array([[0.9, 0.9, 0.9, 0.1], [0.5] * 4, [0.3] * 4, [0.2] * 4])
    scores.add(Measured(range(4), [], {"win": kept}, {"win": kept}))
    wins = Summary(scores).wins
    assert (wins["cam"]["guided"], wins["guided"]["cam"]) == (75, 25)
    assert (wins["random"]["centre"], wins["centre"]["random"]) == (100, 0)


def test_what_fails_the_sanity_check_is_told_from_what_does_not() -> None:
    sources = [Source(Path(str(i)), Path(str(i))) for i in range(8)]
    for kept, fails in ((0.29, False), (0.31, True)):
        scores = Scores(Study(sources, Model(GapNet()), ("cam",), ("sanity",)))
        scores.add(Measured(range(8), [], {"sanity": np.full((3, 8), kept)}, {}))
        summary = Summary(scores)
        assert any("fails the sanity check" in remark for remark in summary.remarks) == fails
        assert record(summary)["remarks"] == list(summary.remarks)
        assert summary.cells["sanity"]["cam"].verdict is None, "a control cannot but have 1"


def test_columns_that_do_not_fit_come_below() -> None:
    sources = [Source(Path(str(i)), Path(str(i))) for i in range(8)]
    methods = ("cam", "gradcam", "gradcam++", "guided")
    scores = Scores(Study(sources, Model(GapNet()), methods, ("insertion",)))
    values = np.random.default_rng(0).random((6, 8))
    scores.add(Measured(range(8), [], {"insertion": values}, {}))
    whole, narrow = table(Summary(scores)), table(Summary(scores), 90)
    assert max(map(len, whole.splitlines()[:2])) > 90
    lines = [line for line in narrow.splitlines()[:-2] if not line.startswith(("!", "~"))]
    assert max(map(len, lines)) <= 90
    heads = [line.split() for line in lines if line.startswith("metric")]
    assert [head[:3] for head in heads] == [["metric", "better", "images"]] * 3
    assert [row for head in heads for row in head[3:]] == [*methods, *CONTROLS]
    assert sorted(whole.splitlines()[1].split()[3:]) == sorted(
        text for line in lines if line.startswith("insertion") for text in line.split()[3:]
    )


def test_bootstrap_is_as_wide_as_theory_has_it() -> None:
    values = np.random.default_rng(0).normal(5, 2, (1, 400))
    ((low, high),) = bootstrap(values, 0)
    half = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - half, abs=0.03)
    assert high == pytest.approx(values.mean() + half, abs=0.03)
    assert np.isnan(bootstrap(np.empty((2, 0)), 0)).all()
    assert np.isnan(bootstrap(values[:, :1], 0)).all(), "one image has no interval"
    assert np.array_equal(bootstrap(values, 0), bootstrap(values, 0))
    assert not np.array_equal(bootstrap(values, 0), bootstrap(values, 1))


def test_marks_and_remarks_are_shown() -> None:
    sources = [Source(Path(str(i)), Path(str(i))) for i in range(4)]
    scores = Scores(Study(sources, Model(GapNet()), ("guided",), ("insertion", "sanity")))
    rows = [[0.1] * 4, [0.5] * 4, [0.2] * 4]
    kept = [[0.9] * 4, [1.0] * 4, [1.0] * 4]
    values = {"insertion": np.array(rows), "sanity": np.array(kept)}
    scores.add(Measured(range(4), [], values, {}))
    text = table(Summary(scores))
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
        setup = evidence.Setup(model, ("cam",), Protocol(cells=cells))
        return list(_on_mosaics(setup, [tiles], [METRICS["grid"]]))

    (found,) = grids("half")
    assert found.values["grid"].shape == (3, 4)
    assert list(found.numbers) == [0, 1, 2, 3]
    with pytest.raises(MethodError, match=r"\(Wrong image height!\): try --cells half"):
        grids("full")
