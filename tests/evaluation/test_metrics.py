"""Every metric against a slow float64 implementation of its paper, on a tiny network."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

import camcli
from camcli.evaluation import evidence as evidence_module
from camcli.evaluation import metrics
from camcli.evaluation.baselines import BASELINES
from camcli.evaluation.evidence import BatchEvidence, MapEvidence
from camcli.evaluation.grid_pointing import GridEvidence, Tile, grid_evidence
from camcli.evaluation.protocol import Protocol
from camcli.evaluation.registry import METRICS
from camcli.evaluation.study import MethodRunner
from camcli.models.model import Model
from tests.support.metric_oracles import ORACLES, Array, SlowEvidence, bilinear
from tests.support.networks import GapNet

METHODS = ("gradcam++", "cam", "guided")  # cam and gradcam would be the same map, a draw
PROTOCOL = Protocol(curve_steps=9, window=8, stride=5, road_noise=0.05)


@pytest.fixture
def batch(gap_net: GapNet, images: Tensor) -> BatchEvidence:
    """Evidence of a network whose prediction changes easily."""
    with torch.no_grad():
        features = gap_net.pool(gap_net.last(gap_net.trunk(images))).flatten(1)
        gap_net.fc.weight.mul_(40)
        gap_net.fc.bias.copy_(-gap_net.fc.weight @ features.mean(0))
    runner = MethodRunner(Model(gap_net), METHODS, PROTOCOL, batch_size=4)
    return BatchEvidence(runner, images, [5, 0, 9])


def value(evidence: MapEvidence | GridEvidence, name: str) -> Array:
    needs = METRICS[name].needs
    return METRICS[name].function(**{need: getattr(evidence, need) for need in needs}).numpy()


@pytest.mark.parametrize("name", ORACLES)
def test_metric_equals_its_oracle(name: str, batch: BatchEvidence) -> None:
    for row, evidence in batch.by_row.items():
        expected = [ORACLES[name](SlowEvidence(batch, row, i)) for i in range(3)]
        assert value(evidence, name) == pytest.approx(expected, abs=1e-6, nan_ok=True), row


def test_grid_pointing_equals_its_oracle(batch: BatchEvidence, gap_net: GapNet) -> None:
    torch.manual_seed(3)
    tiles = [Tile(n, torch.randn(3, 30, 26).double(), n % 5) for n in range(8)]
    grids = [tiles[:4], tiles[4:]]
    for row, evidence in grid_evidence(batch.runner, grids).items():
        expected = []
        for cell in range(4):
            for grid in grids:
                a, b, c, d = (tile.image.numpy() for tile in grid)
                image = np.concatenate([np.concatenate([a, b], 2), np.concatenate([c, d], 2)], 1)
                slow = SlowEvidence(batch, "cam", 0)
                slow.row, slow.label = row, grid[cell].label
                slow.centres = batch.centres.get(row)
                if row in BASELINES:
                    raw = BASELINES[row]([grid[cell].number], 0)[0].double().numpy()
                else:
                    raw = slow.explained(image, gap_net)
                positive = np.maximum(bilinear(raw, 60, 52, slow.centres), 0)
                y, x = 30 * (cell // 2), 26 * (cell % 2)
                total = positive.sum()
                expected.append(positive[y : y + 30, x : x + 26].sum() / total if total else 0)
        assert value(evidence, "grid") == pytest.approx(expected, abs=1e-9), row


def test_every_metric_has_an_oracle() -> None:
    annotated = {name for name, metric in METRICS.items() if metric.place == "annotation"}
    assert {*ORACLES, "grid", *annotated} == set(METRICS)


def test_a_batch_of_n_equals_n_batches_of_one(batch: BatchEvidence) -> None:
    for i, number in enumerate(batch.numbers):
        single = BatchEvidence(batch.runner, batch.images[i : i + 1], [number])
        for row in ("guided", "random"):
            for name in ORACLES:
                whole = value(batch.by_row[row], name)[i : i + 1]
                assert value(single.by_row[row], name) == pytest.approx(
                    whole, abs=1e-9, nan_ok=True
                ), name


def test_occlusion_explains_the_explained_class_and_runs_once(
    batch: BatchEvidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = (batch.classes + 1) % 5
    runner = replace(batch.runner, target=labels, methods=("cam", "occlusion"))
    both = BatchEvidence(runner, batch.images, batch.numbers)
    without = BatchEvidence(replace(runner, methods=("cam",)), batch.images, batch.numbers)
    (expected,) = camcli.explain(
        runner.model, batch.images, ["occlusion"], [labels], window=runner.window
    )
    assert torch.equal(without.occlusion_map, expected.maps)
    assert torch.equal(both.maps["occlusion"], expected.maps)
    monkeypatch.delattr(MethodRunner, "explain")
    assert both.occlusion_map is both.maps["occlusion"]


def test_equal_probabilities_are_draws() -> None:
    own = torch.tensor([0.5, 0.5])
    others = torch.tensor([[0.5, 0.4], [0.7, 0.5]])
    assert metrics.win(own, others).tolist() == [25, 75]
    rounding, small = torch.tensor([2e-5, -2e-5]), torch.tensor([2e-4, -2e-4])
    assert metrics.win(own + rounding, others).tolist() == [25, 75]
    assert metrics.win(own + small, others).tolist() == [50, 50]
    assert metrics.win(own * 1e-9, others * 1e-9).tolist() == [25, 75], "a relative difference"
    whole = torch.tensor([0.5, 0.5, 0.5])
    assert metrics.increase(whole, whole + torch.tensor([2e-5, 2e-4, -1])).tolist() == [0, 100, 0]


def test_nan_in_the_evidence_is_nan_in_the_value() -> None:
    """Comparisons with NaN are False and would give 0."""
    half, nan = torch.tensor([0.5]), torch.tensor([float("nan")])
    for found in (
        metrics.increase(half, nan),
        metrics.win(half, nan[None]),
        metrics.win(nan, half[None]),
        metrics.average_drop(half, nan),
    ):
        assert found.isnan().all()


def test_road_imputes_the_highest_or_the_lowest_pixels(
    batch: BatchEvidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    holes: list[Tensor] = []
    monkeypatch.setattr(evidence_module, "impute", lambda x, hole: holes.append(hole) or x)
    evidence, slow = batch.by_row["random"], SlowEvidence(batch, "random", 0)
    for name, pixels in (("road_morf", slow.pixels), ("road_lerf", slow.pixels[::-1])):
        holes.clear()
        getattr(evidence, name)
        for i, hole in enumerate(torch.cat(holes)[:9]):
            removed = pixels[: round((i + 1) / 10 * len(pixels))]
            assert sorted(map(tuple, hole.nonzero().tolist())) == sorted(removed)


@pytest.mark.parametrize("row", ["cam", "random"])  # a signed and an unsigned map
def test_maps_are_scaled_after_upsampling_or_before(batch: BatchEvidence, row: str) -> None:
    for i, mask in enumerate(batch.by_row[row].mask):
        slow = SlowEvidence(batch, row, i)
        assert mask.numpy() == pytest.approx(slow.mask, abs=1e-9)
        assert mask.max() == (1 if slow.map.max() > 0 else 0)
    runner = replace(batch.runner, protocol=replace(PROTOCOL, normalize_order="before-upsampling"))
    before = BatchEvidence(runner, batch.images, batch.numbers).by_row[row].mask.numpy()
    for i in range(3):
        raw = SlowEvidence(batch, row, i).raw
        scaled = np.maximum(raw, 0) / max(raw.max(), 1e-300)
        assert before[i] == pytest.approx(
            bilinear(scaled, *before[i].shape, batch.centres.get(row)), abs=1e-9
        )


def test_every_option_changes_its_metric(gap_net: GapNet, images: Tensor) -> None:
    def values(name: str, **options: object) -> Array:
        protocol = Protocol(**{"curve_steps": 9, **options})  # type: ignore
        runner = MethodRunner(Model(gap_net), ("cam",), protocol)
        return value(BatchEvidence(runner, images, [0, 1, 2]).by_row["cam"], name)

    for name, options in (
        ("average-drop", {"masking": "mean"}),
        ("complexity", {"normalize": "minmax"}),
        ("complexity", {"normalize_order": "before-upsampling"}),
        ("complexity", {"placement": "equal-parts"}),
        ("insertion", {"insertion_fill": "black"}),
        ("deletion", {"deletion_fill": "blur"}),
        ("deletion", {"curve_steps": 3}),
        ("sanity", {"seed": 1}),
        ("sanity", {"sanity_steps": 1}),
        ("occlusion-correlation", {"window": 11}),
        ("occlusion-correlation", {"stride": 3}),
    ):
        assert np.abs(values(name) - values(name, **options)).max() > 1e-6, (name, options)
