"""Every metric against a slow float64 re-implementation of its paper, on a tiny network."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate

import camcli
from camcli.engine.explain import aimed
from camcli.errors import TargetError
from camcli.evaluation import evidence as evaluated
from camcli.evaluation import grid_pointing, metrics, perturbation, sanity
from camcli.evaluation.baselines import CONTROLS
from camcli.evaluation.correlation import pearson, ranks, spearman
from camcli.evaluation.evidence import MosaicTrial, Setup, Subject, Trial, mosaic_trials
from camcli.evaluation.imputation import imputed
from camcli.evaluation.metrics import EVIDENCE, METRICS, ON_MOSAICS, ON_TRUTH
from camcli.evaluation.protocol import Protocol
from camcli.images.preprocess import Preset
from camcli.models.model import Model
from tests.support.networks import GapNet

Array = NDArray[np.float64]
METHODS = ("gradcam++", "cam", "guided")  # cam and gradcam would be one map, and tie
MEAN, STD = (np.array(values)[:, None, None] for values in (Preset.mean, Preset.std))
PROTOCOL = Protocol(steps=9, window=8, stride=5, noise=0.05)


@pytest.fixture
def subject(gap_net: GapNet, images: Tensor) -> Subject:
    """Of a network that changes its mind easily: a random one has much the same for all images."""
    with torch.no_grad():
        features = gap_net.pool(gap_net.last(gap_net.trunk(images))).flatten(1)
        gap_net.fc.weight.mul_(40)
        gap_net.fc.bias.copy_(-gap_net.fc.weight @ features.mean(0))
    return Subject(Setup(Model(gap_net), METHODS, PROTOCOL, batch_size=4), images, [5, 0, 9])


class Slow:
    """One map of one image, by loops: what the metrics are made of."""

    def __init__(self, subject: Subject, name: str, i: int) -> None:
        self.subject, self.name, self.i = subject, name, i
        self.net = subject.setup.model.module
        self.image: Array = subject.images[i].numpy()
        self.height, self.width = self.image.shape[1:]
        self.label = int(self.probabilities(self.image).argmax())
        self.raw = self.explained(self.image, self.net)
        # By torch, unlike `seen`: which of two pixels is higher may hang on the last digit.
        raw = torch.from_numpy(self.raw)[None, None]
        self.map = interpolate(raw, self.image.shape[1:], mode="bilinear")[0, 0].numpy()
        self.pixels = sorted(np.ndindex(*self.map.shape), key=lambda p: (-self.map[p], p))
        self.seen = bilinear(np.maximum(self.raw, 0) / max(self.raw.max(), 1e-300), *self.map.shape)
        pixels = self.image * STD + MEAN
        self.product: Array = (pixels * self.seen - MEAN) / STD
        self.y = self.probabilities(self.image)[self.label]
        self.kept = self.probabilities(self.product)[self.label]

    def probabilities(self, image: Array) -> Array:
        with torch.no_grad():
            scores = self.net(torch.from_numpy(image)[None])[0].numpy()
        raised = np.exp(scores - scores.max())
        return np.asarray(raised / raised.sum())

    def explained(self, image: Array, net: nn.Module, method: str | None = None) -> Array:
        name = method or self.name
        if name in CONTROLS:
            number = self.subject.numbers[self.i]
            return CONTROLS[name]([number], PROTOCOL.seed)[0].double().numpy()
        window = self.subject.setup.window
        batch = torch.from_numpy(image)[None]
        (found,) = camcli.explain(net, batch, [name], self.label, window=window)
        values = found.maps[0].numpy()
        return np.abs(values).sum(0) if values.ndim == 3 else values

    def changed(self, before: Array, after: Array, k: int, *, lowest: bool = False) -> Array:
        """`before` with the k highest pixels of the map, or the lowest, as in `after`."""
        found = before.copy()
        for y, x in self.pixels[::-1][:k] if lowest else self.pixels[:k]:
            found[:, y, x] = after[:, y, x]
        return found

    def area(self, before: Array, after: Array) -> float:
        counts = [round(i / PROTOCOL.steps * self.map.size) for i in range(PROTOCOL.steps + 1)]
        images = [self.changed(before, after, k) for k in counts]
        heights = [self.probabilities(image)[self.label] for image in images]
        pairs = zip(heights[1:], heights[:-1], strict=True)
        return float(sum((a + b) / 2 for a, b in pairs) / PROTOCOL.steps)

    def accuracy(self, *, lowest: bool) -> float:
        noise = torch.randn(self.image.shape, generator=torch.Generator().manual_seed(0)).numpy()
        right = []
        for share in range(10, 100, 10):
            k = round(share / 100 * self.map.size)
            hole = self.changed(np.zeros_like(self.map)[None], np.ones((1, *self.map.shape)), k,
                                lowest=lowest)[0] > 0  # fmt: skip
            filled = solved(self.image, hole) + PROTOCOL.noise * noise * hole
            right.append(int(self.probabilities(filled).argmax()) == self.label)
        return float(np.mean(right))


def bilinear(values: Array, height: int, width: int) -> Array:
    def at(i: int, size: int, old: int) -> tuple[int, int, float]:
        place = min(max((i + 0.5) * old / size - 0.5, 0), old - 1)
        return int(place), min(int(place) + 1, old - 1), place - int(place)

    found = np.empty((height, width))
    for y, x in np.ndindex(height, width):
        y0, y1, v = at(y, height, values.shape[0])
        x0, x1, u = at(x, width, values.shape[1])
        above = values[y0, x0] * (1 - u) + values[y0, x1] * u
        below = values[y1, x0] * (1 - u) + values[y1, x1] * u
        found[y, x] = above * (1 - v) + below * v
    return found


def blurred(image: Array) -> Array:
    """Eleven by eleven, sigma 5, zeros around: RISE's code blurs a point to get its kernel."""
    point = np.zeros((11, 11))
    point[5, 5] = 1
    kernel = cv2.GaussianBlur(point, (41, 41), 5, borderType=cv2.BORDER_REFLECT)
    padded = np.pad(image, ((0, 0), (5, 5), (5, 5)))
    height, width = image.shape[1:]
    parts = [
        weight * padded[:, i : i + height, j : j + width]
        for (i, j), weight in np.ndenumerate(kernel)
    ]
    return np.asarray(sum(parts))


def solved(image: Array, hole: NDArray[np.bool_]) -> Array:
    """ROAD's equations for the pixels of a hole, solved as one dense system."""
    places = {tuple(p): i for i, p in enumerate(np.argwhere(hole))}
    a, b = np.zeros((len(places), len(places))), np.zeros((len(places), len(image)))
    for (y, x), i in places.items():
        for dy, dx in np.ndindex(3, 3):
            near = y + dy - 1, x + dx - 1
            weight = {0: 0, 1: 1 / 6, 2: 1 / 12}[abs(dy - 1) + abs(dx - 1)]
            if not (0 <= near[0] < hole.shape[0] and 0 <= near[1] < hole.shape[1]):
                continue
            a[i, i] += weight
            if near in places:
                a[i, places[near]] -= weight
            else:
                b[i] += weight * image[:, near[0], near[1]]
    found = image.copy()
    for p, value in zip(places, np.linalg.solve(a, b), strict=True):
        found[:, p[0], p[1]] = value
    return found


def places_by_counting(values: Array) -> Array:
    flat = values.ravel()
    below = np.array([(flat < v).sum() for v in flat])
    return np.asarray(below + (np.array([(flat == v).sum() for v in flat]) - 1) / 2)


def rank_correlation(a: Array, b: Array) -> float:
    return float(np.corrcoef(places_by_counting(a), places_by_counting(b))[0, 1])


def slow_sanity(slow: Slow) -> float:
    net = copy.deepcopy(slow.net)
    generator, found = torch.Generator().manual_seed(PROTOCOL.seed), []
    for layer in (net.fc, net.last[0], net.trunk[0]):
        for p in (layer.weight, layer.bias):
            noise = torch.randn(p.shape, generator=generator).double()
            mean = p.mean().item() if p.ndim == 1 else 0
            p.data = noise * p.detach().numpy().std() + mean
        new = slow.explained(slow.image, net)
        if new.std() > 0 and slow.raw.std() > 0:
            found.append(rank_correlation(slow.raw, new))
    return float(np.mean(found)) if found else float("nan")


def slow_coherency(slow: Slow) -> float:
    raw = slow.explained(slow.product, slow.net)
    again = bilinear(np.maximum(raw, 0) / max(raw.max(), 1e-300), slow.height, slow.width)
    flat = slow.seen.std() == 0 or again.std() == 0
    return 0 if flat else 50 * (np.corrcoef(slow.seen.ravel(), again.ravel())[0, 1] + 1)


def slow_win(slow: Slow) -> float:
    rows = [row for row in slow.subject.setup.rows if row != slow.name]
    rivals = [Slow(slow.subject, row, slow.i).kept for row in rows]
    equal = [max(slow.kept, r) <= 1.0001 * min(slow.kept, r) for r in rivals]
    pairs = zip(rivals, equal, strict=True)
    return 100 * float(np.mean([0.5 if tie else slow.kept > r for r, tie in pairs]))


ORACLES: dict[str, Callable[[Slow], float]] = {
    "average-drop": lambda slow: 100 * max(0, slow.y - slow.kept) / slow.y,
    "increase": lambda slow: 100 * (slow.y < slow.kept),
    "win": slow_win,
    "insertion": lambda slow: slow.area(blurred(slow.image), slow.image),
    "deletion": lambda slow: slow.area(slow.image, 0 * slow.image),
    "road": lambda slow: slow.accuracy(lowest=False),
    "road-least": lambda slow: slow.accuracy(lowest=True),
    "occlusion-correlation": lambda slow: rank_correlation(
        slow.map, slow.explained(slow.image, slow.net, "occlusion")
    ),
    "complexity": lambda slow: 100 * float(np.abs(slow.seen).sum()) / slow.seen.size,
    "coherency": slow_coherency,
    "sanity": slow_sanity,
}


def value(trial: Trial | MosaicTrial, name: str) -> Array:
    needs = METRICS[name].needs
    return METRICS[name].function(**{need: getattr(trial, need) for need in needs}).numpy()


@pytest.mark.parametrize("name", ORACLES)
def test_metric_against_its_oracle(name: str, subject: Subject) -> None:
    for row, trial in subject.trials.items():
        expected = [ORACLES[name](Slow(subject, row, i)) for i in range(3)]
        assert value(trial, name) == pytest.approx(expected, abs=1e-6, nan_ok=True), row


def test_grid_against_loops(subject: Subject, gap_net: GapNet) -> None:
    torch.manual_seed(3)
    tiles = [grid_pointing.Tile(n, torch.randn(3, 30, 26).double(), n % 5) for n in range(8)]
    grids = [tiles[:4], tiles[4:]]
    for row, trial in mosaic_trials(subject.setup, grids).items():
        expected = []
        for cell in range(4):
            for grid in grids:
                a, b, c, d = (tile.image.numpy() for tile in grid)
                image = np.concatenate([np.concatenate([a, b], 2), np.concatenate([c, d], 2)], 1)
                slow = Slow(subject, "cam", 0)
                slow.name, slow.label = row, grid[cell].label
                if row in CONTROLS:
                    raw = CONTROLS[row]([grid[cell].number], 0)[0].double().numpy()
                else:
                    raw = slow.explained(image, gap_net)
                positive = np.maximum(bilinear(raw, 60, 52), 0)
                y, x = 30 * (cell // 2), 26 * (cell % 2)
                total = positive.sum()
                expected.append(positive[y : y + 30, x : x + 26].sum() / total if total else 0)
        assert value(trial, "grid") == pytest.approx(expected, abs=1e-9), row


def test_every_metric_has_an_oracle_and_every_evidence_a_home() -> None:
    assert {*ORACLES, "grid", *ON_TRUTH} == set(METRICS)
    for name in EVIDENCE.keys() - ON_MOSAICS:
        assert isinstance(getattr(Trial, name), property) or hasattr(Trial, name)
    assert set(MosaicTrial.__dataclass_fields__) == ON_MOSAICS


@pytest.mark.parametrize("name", METRICS)
def test_metric_is_documented(name: str) -> None:
    metric = METRICS[name]
    assert metric.summary.endswith((".", "?"))
    assert "(N,)" in (metric.function.__doc__ or "")
    assert "20" in metric.source


def test_registration_refuses_what_no_run_could_give() -> None:
    def of_unknown(nonsense: Tensor) -> Tensor:
        return nonsense

    def of_both(seen: Tensor, mosaic: Tensor) -> Tensor:
        return seen + mosaic

    def fine(seen: Tensor) -> Tensor:
        return seen

    for name, function, trace, message in (
        ("new", of_unknown, None, "nonsense"),
        ("new", of_both, None, "grids"),
        ("new", fine, "kept", "does not need"),
        ("grid", fine, None, "twice"),
    ):
        with pytest.raises(ValueError, match=message):
            metrics.register(name, better="higher", source="here", trace=trace)(function)
    assert "new" not in METRICS


def test_a_batch_of_n_is_n_batches_of_one(subject: Subject) -> None:
    names = list(ORACLES)
    for i, number in enumerate(subject.numbers):
        alone = Subject(subject.setup, subject.images[i : i + 1], [number])
        for row in ("guided", "random"):
            for name in names:
                whole = value(subject.trials[row], name)[i : i + 1]
                assert value(alone.trials[row], name) == pytest.approx(
                    whole, abs=1e-9, nan_ok=True
                ), name


def test_occlusion_is_of_the_class_that_is_followed_and_taken_once(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = (subject.classes + 1) % 5
    setup = replace(subject.setup, target=labels, methods=("cam", "occlusion"))
    other = Subject(setup, subject.images, subject.numbers)
    alone = Subject(replace(setup, methods=("cam",)), subject.images, subject.numbers)
    (expected,) = camcli.explain(
        setup.model, subject.images, ["occlusion"], [labels], window=setup.window
    )
    assert torch.equal(alone.occlusion, expected.maps)
    assert torch.equal(other.maps["occlusion"], expected.maps)
    monkeypatch.delattr(Setup, "explain")
    assert other.occlusion is other.maps["occlusion"]


def test_the_class_and_its_probability_are_the_explanations(subject: Subject) -> None:
    classes, probability = aimed(subject.setup.model, subject.images, subject.setup.target)
    assert torch.equal(classes, subject.classes)
    assert torch.allclose(probability, subject.probability)


def test_a_function_means_no_class() -> None:
    with pytest.raises(TypeError, match="expected a class"):
        aimed(GapNet(), torch.randn(1, 3, 16, 16), lambda output: output[:, 0])


def test_of_equal_maps_each_wins_half() -> None:
    kept = torch.tensor([0.5, 0.5])
    rivals = torch.tensor([[0.5, 0.4], [0.7, 0.5]])
    assert metrics.win(kept, rivals).tolist() == [25, 75]
    by_rounding, by_a_little = torch.tensor([2e-5, -2e-5]), torch.tensor([2e-4, -2e-4])
    assert metrics.win(kept + by_rounding, rivals).tolist() == [25, 75]
    assert metrics.win(kept + by_a_little, rivals).tolist() == [50, 50]
    assert metrics.win(kept * 1e-9, rivals * 1e-9).tolist() == [25, 75], "of what there is"
    whole = torch.tensor([0.5, 0.5, 0.5])
    assert metrics.increase(whole, whole + torch.tensor([2e-5, 2e-4, -1])).tolist() == [0, 100, 0]


def test_what_is_not_known_is_no_value() -> None:
    """Comparisons with NaN are false, and would be 0."""
    half, nan = torch.tensor([0.5]), torch.tensor([float("nan")])
    for found in (
        metrics.increase(half, nan),
        metrics.win(half, nan[None]),
        metrics.win(nan, half[None]),
        metrics.average_drop(half, nan),
    ):
        assert found.isnan().all()


def test_road_removes_the_highest_or_the_lowest(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    holes: list[Tensor] = []
    monkeypatch.setattr(evaluated, "imputed", lambda x, hole: holes.append(hole) or x)
    trial, slow = subject.trials["random"], Slow(subject, "random", 0)
    for evidence, pixels in (("imputed", slow.pixels), ("spared", slow.pixels[::-1])):
        holes.clear()
        getattr(trial, evidence)
        for i, hole in enumerate(torch.cat(holes)[:9]):
            removed = pixels[: round((i + 1) / 10 * len(pixels))]
            assert sorted(map(tuple, hole.nonzero().tolist())) == sorted(removed)


def test_ranks_are_places_and_not_the_order() -> None:
    values = torch.tensor([[3.0, 1.0, 2.0, 9.0], [5.0, 5.0, 0.0, 0.0]])
    assert ranks(values).tolist() == [[2, 0, 1, 3], [2.5, 2.5, 0.5, 0.5]]
    distinct = torch.randn(4, 6, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ranks(distinct), distinct.flatten(1).argsort(1).argsort(1).float())


def test_correlation_of_flat_maps_is_none() -> None:
    flat, slope = torch.full((1, 3, 4), 0.1), torch.arange(12.0).view(1, 3, 4)
    assert pearson(flat, slope).isnan().all()
    assert pearson(1e-20 * slope, slope).item() == pytest.approx(1)
    assert spearman(slope, flat).item() == 0
    assert spearman(slope**3, slope).item() == pytest.approx(1)
    apart = torch.cat([slope, 1e-20 * slope])
    assert pearson(apart, apart.flip(0)).tolist() == pytest.approx([1, 1]), "each by itself"


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_imputation_solves_the_papers_equations(share: float) -> None:
    generator = torch.Generator().manual_seed(4)
    images = torch.randn(2, 3, 15, 22, generator=generator).double()
    missing = torch.rand(2, 15, 22, generator=generator) < share
    found = imputed(images, missing, tolerance=1e-10).numpy()
    for i in range(2):
        assert found[i] == pytest.approx(solved(images[i].numpy(), missing[i].numpy()), abs=1e-7)
    kept = ~missing[:, None].expand_as(images)
    assert torch.equal(imputed(images, missing)[kept], images[kept])


def test_imputation_of_an_image_does_not_hang_on_its_batch() -> None:
    generator = torch.Generator().manual_seed(1)
    images = (
        torch.randn(3, 3, 40, 40, generator=generator)
        * torch.tensor([1.0, 30, 0.1])[:, None, None, None]
    )
    missing = (
        torch.rand(3, 40, 40, generator=generator) < torch.tensor([0.2, 0.9, 0.5])[:, None, None]
    )
    together = imputed(images, missing)
    for i in range(3):
        alone = imputed(images[i : i + 1], missing[i : i + 1])
        assert torch.allclose(together[i], alone[0], atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_imputation_of_half_precision_is_that_of_float32(dtype: torch.dtype) -> None:
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)).to(dtype)
    missing = torch.rand(2, 64, 64, generator=torch.Generator().manual_seed(1)) < 0.9
    found = imputed(images, missing)
    assert found.dtype == dtype
    assert torch.equal(found, imputed(images.float(), missing).to(dtype))


def test_options_of_scale_product_and_fill(subject: Subject) -> None:
    maps = torch.tensor([[[-1.0, 0.0], [1.0, 3.0]], [[-2.0, -2.0], [-2.0, -2.0]]])
    assert perturbation.scaled(maps, "max")[0].tolist() == [[0, 0], [pytest.approx(1 / 3), 1]]
    assert perturbation.scaled(maps, "range")[0].tolist() == [[0, 0.25], [0.5, 1]]
    assert not perturbation.scaled(maps, "range")[1].any()
    gradients = torch.tensor([[[[-1.0]], [[2.0]], [[-3.0]]]])
    assert perturbation.flattened(gradients, "abs").item() == 6
    assert perturbation.flattened(gradients, "positive").item() == 2
    black = perturbation.fill(subject.images, Preset(), "black")[0, :, 0, 0].numpy()
    assert black == pytest.approx((0 - MEAN[:, 0, 0]) / STD[:, 0, 0])
    assert not perturbation.fill(subject.images, Preset(), "mean").any()
    plain = Preset(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    grey = perturbation.fill(subject.images, plain, "mean")[0, :, 0, 0].numpy()
    assert grey == pytest.approx(np.array(Preset.mean), abs=1e-6)


def test_every_option_changes_what_it_is_for(gap_net: GapNet, images: Tensor) -> None:
    def values(name: str, **options: object) -> Array:
        setup = Setup(Model(gap_net), ("cam",), Protocol(**{"steps": 9, **options}))  # type: ignore
        return value(Subject(setup, images, [0, 1, 2]).trials["cam"], name)

    for name, options in (
        ("average-drop", {"product": "mean"}),
        ("complexity", {"scale": "range"}),
        ("insertion", {"insertion_fill": "black"}),
        ("deletion", {"deletion_fill": "blur"}),
        ("deletion", {"steps": 3}),
        ("sanity", {"seed": 1}),
        ("sanity", {"stages": 1}),
        ("occlusion-correlation", {"window": 11}),
        ("occlusion-correlation", {"stride": 3}),
    ):
        assert np.abs(values(name) - values(name, **options)).max() > 1e-6, (name, options)


def test_sanity_puts_the_very_weights_back(gap_net: GapNet) -> None:
    before = {name: (t.data_ptr(), t.clone()) for name, t in gap_net.state_dict().items()}
    with pytest.raises(KeyError), sanity.forgetting(gap_net, 8, 0) as stages:  # noqa: PT012
        for stage in stages:
            changed = [n for n, t in gap_net.state_dict().items() if not t.equal(before[n][1])]
            assert len(changed) == 2 * (stage + 1)
        assert stage == 2
        assert changed[0].startswith("trunk")
        raise KeyError
    for name, tensor in gap_net.state_dict().items():
        assert tensor.data_ptr() == before[name][0]
        assert tensor.equal(before[name][1])


def test_stages_begin_with_the_logits_and_end_with_all(gap_net: GapNet) -> None:
    (first, second) = sanity.stages(gap_net, 2)
    assert [id(p) for p in first] == [id(p) for p in gap_net.fc.parameters()]
    assert len(first) + len(second) == len(list(gap_net.parameters()))
    deep = nn.Sequential(*(nn.Linear(2, 2) for _ in range(20)))
    found = sanity.stages(deep, 7)
    assert len(found) == 7
    assert sum(map(len, found)) == 40
    assert len(found[0]) == 2


def test_pool_makes_grids_of_different_classes_and_does_not_grow() -> None:
    pool, image = grid_pointing.Pool(), torch.zeros(3, 4, 4)
    assert pool.add([grid_pointing.Tile(n, image, 7) for n in range(50)]) == []
    assert len(pool.waiting[7]) == grid_pointing.LIMIT
    grids = pool.add([grid_pointing.Tile(60 + n, image, n % 3) for n in range(6)])
    assert [sorted(tile.label for tile in grid) for grid in grids] == [[0, 1, 2, 7]] * 2
    assert [grid[0].number for grid in grids] == [0, 1]


def test_grids_do_not_hang_on_batches() -> None:
    labels = np.random.default_rng(0).integers(0, 6, 100).tolist()
    tiles = [grid_pointing.Tile(n, torch.zeros(3, 1, 1), label) for n, label in enumerate(labels)]
    whole, parts = grid_pointing.Pool(), grid_pointing.Pool()
    at_once = whole.add(tiles)
    in_parts = [grid for i in range(0, 100, 7) for grid in parts.add(tiles[i : i + 7])]
    assert [[t.number for t in grid] for grid in at_once] == [
        [t.number for t in grid] for grid in in_parts
    ]
    assert len(at_once) > 15


def test_half_sized_cells_make_a_grid_of_the_networks_own_size() -> None:
    tiles = [grid_pointing.Tile(n, torch.full((3, 8, 6), float(n)), n) for n in range(4)]
    found = grid_pointing.mosaic([tiles], "half")
    assert found.shape == (1, 3, 8, 6)
    assert found[0, 0, ::4, ::3].tolist() == [[0, 1], [2, 3]]
    assert grid_pointing.mosaic([tiles], "full").shape == (1, 3, 16, 12)


def test_a_class_for_each_image_as_target(gap_net: GapNet, images: Tensor) -> None:
    classes = torch.tensor([4, 0, 2])
    together = camcli.explain(gap_net, images, ["cam", "gradcam"], [classes])
    for shown in together:
        assert shown.classes is not None
        assert shown.classes.tolist() == [4, 0, 2]
        for i, label in enumerate(classes.tolist()):
            alone = camcli.explain(gap_net, images[i : i + 1], shown.method, label)
            assert torch.allclose(shown.maps[i], alone.maps[0])
    with pytest.raises(TargetError, match="2 classes as target for 3 images"):
        camcli.explain(gap_net, images, target=classes[:2])
    with pytest.raises(TargetError, match="from 0 to 4"):
        camcli.explain(gap_net, images, target=classes + 1)
