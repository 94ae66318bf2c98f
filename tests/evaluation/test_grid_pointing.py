"""The grid pointing game: how grids are composed, and the command's scores on them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from camcli.errors import CamcliWarning, MethodError
from camcli.evaluation.evidence import BatchEvidence
from camcli.evaluation.grid_pointing import WAITING_LIMIT, Grid, Tile, TilePool, compose
from camcli.evaluation.measurer import Measurer
from camcli.evaluation.protocol import Protocol
from camcli.evaluation.scores import BatchScores, Result
from camcli.evaluation.study import Study
from camcli.models.model import Model
from tests.support.command import Run, stdout
from tests.support.evaluation import COLOURS, TINY, Colours
from tests.support.networks import GapNet


def test_a_pool_makes_grids_of_different_classes_and_has_a_limit() -> None:
    pool, image = TilePool(), torch.zeros(3, 4, 4)
    assert pool.add([Tile(n, image, 7) for n in range(50)]) == []
    assert len(pool.waiting[7]) == WAITING_LIMIT
    grids = pool.add([Tile(60 + n, image, n % 3) for n in range(6)])
    assert [sorted(tile.label for tile in grid) for grid in grids] == [[0, 1, 2, 7]] * 2
    assert [grid[0].number for grid in grids] == [0, 1]


def test_grids_do_not_depend_on_batches() -> None:
    labels = np.random.default_rng(0).integers(0, 6, 100).tolist()
    tiles = [Tile(n, torch.zeros(3, 1, 1), label) for n, label in enumerate(labels)]
    at_once = TilePool().add(tiles)
    pool = TilePool()
    in_parts = [grid for i in range(0, 100, 7) for grid in pool.add(tiles[i : i + 7])]
    assert [[t.number for t in grid] for grid in at_once] == [
        [t.number for t in grid] for grid in in_parts
    ]
    assert len(at_once) > 15


def test_half_sized_images_make_a_grid_of_the_input_size() -> None:
    tiles = [Tile(n, torch.full((3, 8, 6), float(n)), n) for n in range(4)]
    found = compose([tiles], "half")
    assert found.shape == (1, 3, 8, 6)
    assert found[0, 0, ::4, ::3].tolist() == [[0, 1], [2, 3]]
    assert compose([tiles], "full").shape == (1, 3, 16, 12)


def test_grids_are_halved_when_memory_is_short() -> None:
    class Small(Colours):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if len(x) > 1:
                raise torch.OutOfMemoryError
            return super().forward(x)

    tiles = [Tile(number, torch.randn(3, 16, 16), number % 4) for number in range(12)]
    grids = [Grid(tiles[:4]), Grid(tiles[4:8]), Grid(tiles[8:])]
    model = Model(Small().eval())
    measurer = Measurer(Study([], model, ("cam",), ("grid",)), model)
    with pytest.warns(CamcliWarning, match="out of memory with 3 images at once: going on with 1"):
        found = [result for result, _ in measurer(grids)]
    assert [list(one.numbers) for one in found] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]


def test_a_network_of_fixed_input_size_needs_half_sized_images() -> None:
    class Fixed(GapNet):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            torch._assert(x.shape[2] == 40, "Wrong image height!")
            return super().forward(x)

    model = Model(Fixed().eval(), name="fixed")
    tiles = [Tile(number, torch.randn(3, 40, 40), number) for number in range(4)]

    def scores(image_size: str) -> list[Result]:
        protocol = Protocol(grid_image_size=image_size)
        measurer = Measurer(Study([], model, ("cam",), ("grid",), protocol), model)
        return [result for result, _ in measurer([Grid(tiles)])]

    (found,) = scores("half")
    assert isinstance(found, BatchScores)
    assert found.values["grid"].shape == (3, 4)
    assert list(found.numbers) == [0, 1, 2, 3]
    with pytest.raises(MethodError, match=r"\(Wrong image height!\): try --grid-image-size half"):
        scores("full")


def grid_scores(
    run: Run, photos: Path, out: Path, *options: object
) -> dict[tuple[str, str], float]:
    """Return the scores by image and row of the images that are in a grid."""
    command = ("evaluate", photos, *COLOURS, "--metric", "grid", "--output", out, *options)
    assert run(*command).exit_code == 0
    rows = csv.DictReader((out / "scores.csv").read_text().splitlines())
    return {(row["image"], row["method"]): float(row["grid"]) for row in rows if row["grid"]}


def test_maps_point_at_each_image_of_a_grid(run: Run, coloured: Path, tmp_path: Path) -> None:
    options = ("--min-confidence", 0, "--batch-size")
    scores, *others = (
        grid_scores(run, coloured, tmp_path / "out", *options, batch) for batch in (16, 1, 5)
    )
    assert len(scores) == 12 * 3, "every image is in a grid"
    for other in others:
        assert other == pytest.approx(scores, abs=1e-6), "for every batch size"
    assert min(score for (_, row), score in scores.items() if row == "gradcam") > 0.9
    assert {round(score, 6) for (_, row), score in scores.items() if row == "centre"} == {0.25}
    random = [score for (_, row), score in scores.items() if row == "random"]
    assert len(set(random)) == 12, "each image has a random map of its own"
    lower = grid_scores(
        run, coloured, tmp_path / "out", *options, 16, "--layer", "trunk", "--target", 2
    )
    changed = {key for key in scores if scores[key] != lower[key]}
    assert changed == {key for key in scores if key[1] == "gradcam"}


def test_grids_have_confident_images_only(run: Run, coloured: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run("evaluate", coloured, *COLOURS, "--metric", "complexity", "--output", out)
    rows = csv.DictReader((out / "scores.csv").read_text().splitlines())
    least, second, *_ = sorted({float(row["probability"]) for row in rows})
    for confidence, grids in ((least, 3), (second, 2)):
        scores = grid_scores(run, coloured, out, "--min-confidence", f"{confidence:.17g}")
        assert len(scores) == grids * 4 * 3


def test_photos_of_different_shapes_are_in_different_grids(
    run: Run, coloured: Path, tmp_path: Path
) -> None:
    for name in ("00", "10", "21", "31"):  # one of each colour, but not the first of each
        file = coloured / f"{name}.png"
        with Image.open(file) as image:
            image.resize((96, 64)).save(file)
    options = ("--fit", "full", "--min-confidence", 0, "--batch-size", 1)
    scores = grid_scores(run, coloured, tmp_path / "out", *options)
    assert len(scores) == 12 * 3
    assert min(score for (_, row), score in scores.items() if row == "gradcam") > 0.9


def test_a_remark_says_why_there_is_no_grid(photos: Path, run: Run) -> None:
    command = ("evaluate", photos, *TINY, "--metric", "grid", "--target", 1)
    found = run(*command, "--min-confidence", 1)
    assert found.exit_code == 0
    assert (
        "grid needs 4 images of different classes, each predicted with a probability of at least 1 "
        "(--min-confidence)" in stdout(found).splitlines()
    )


def test_without_other_metrics_no_single_image_is_explained(
    photos: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("evaluate", photos, *TINY, "--metric", "grid", "--min-confidence", 0, "--json")
    found = [json.loads(run(*command, *more).stdout_bytes) for more in ((), ("--metric", "win"))]
    monkeypatch.delattr(BatchEvidence, "_explanations")
    assert json.loads(run(*command).stdout_bytes) == found[0]
    assert found[0]["metrics"]["grid"] == found[1]["metrics"]["grid"]
