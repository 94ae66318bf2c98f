"""Training for real, on shapes drawn here: data, losses, a distillation run, resuming, the command.

The runs are small: three classes of coloured squares and a small network.
"""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from camcli.cli import main
from camcli.errors import CamcliError
from camcli.images.preprocess import Preset
from camcli.methods.registry import Method
from camcli.models.classifier import with_classes
from camcli.models.load import load
from camcli.models.model import Model
from camcli.models.torchvision_networks import initialise_torchvision as untrained
from camcli.training import augment
from camcli.training import data as reading
from camcli.training.data import Dataset
from camcli.training.distillation import EXPLAINERS, explained, explanation_distance, soft_distance
from camcli.training.recipe import Data, Phase, Recipe
from camcli.training.temporary_norm import NormedConv, NormedHead, folded, rectify, with_aids
from camcli.training.train import Row, accuracy, cross_entropy, one_cycle, train

CPU = torch.device("cpu")
COLOURS = {"blue": (40, 60, 220), "green": (40, 190, 60), "red": (220, 40, 40)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Squares of three colours on noise, 40 of each, some in a photo's proportions."""
    root, rng = tmp_path_factory.mktemp("shapes"), np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (root / name).mkdir()
        for i in range(40):
            pixels = rng.integers(60, 180, (36, 36 + 8 * (i % 2), 3)).astype(np.uint8)
            y, x = rng.integers(0, 12, 2)
            pixels[y : y + 22, x : x + 22] = colour
            Image.fromarray(pixels).save(root / name / f"{i:02}.png")
    return root


@pytest.fixture(scope="module")
def data(folder: Path) -> Data:
    part, held = reading.split(reading.read(folder), 0.25)
    return Data(part.classes, (part,), (held,))


RECIPE = Recipe("squeezenet1_1", (Phase(33, 6),), batch_size=16, lr=5e-3, ema=0.9, seed=3)


@pytest.fixture(scope="module")
def teacher(data: Data, tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, list[Row]]:
    """A network that was trained by the same command, and what its epochs reported."""
    output = tmp_path_factory.mktemp("teacher")
    rows = list(train(replace(RECIPE, phases=(Phase(50, 7),)), data, output, device=CPU))
    return load(str(output)), rows


# ---------------------------------------------------------------- data


def test_a_folder_and_a_zip_give_the_same(folder: Path, tmp_path: Path) -> None:
    packed = Path(shutil.make_archive(str(tmp_path / "shapes"), "zip", folder))
    with zipfile.ZipFile(packed, "a") as archive:
        archive.writestr("red/notes.txt", "no image")
        archive.writestr("__MACOSX/red/._00.png", b"no image")
    one, other = reading.read(folder), reading.read(packed)
    assert one.classes == other.classes == tuple(COLOURS)
    assert one.names == other.names
    assert np.array_equal(one.labels, other.labels)
    assert all(map(np.array_equal, one.pixels, other.pixels))
    assert np.bincount(one.labels).tolist() == [40, 40, 40]
    assert one.names[40].startswith("green/")
    assert one.labels[40] == 1


def test_large_images_are_reduced_and_small_ones_kept(folder: Path) -> None:
    small, kept = reading.read(folder, shorter=18), reading.read(folder, shorter=36)
    assert {pixels.shape for pixels in small.pixels} == {(18, 18, 3), (18, 22, 3)}
    assert all(map(np.array_equal, kept.pixels, reading.read(folder).pixels))


def test_the_split_follows_each_name_alone(folder: Path) -> None:
    every = reading.read(folder)
    part, held = reading.split(every, 0.25)
    assert sorted(part.names + held.names) == sorted(every.names)
    assert 18 <= len(held) <= 42  # of 120, by hash
    fewer = every.subset(np.arange(len(every)) > 50)
    assert set(reading.split(fewer, 0.25)[1].names) == set(held.names) & set(fewer.names)
    assert set(reading.split(every, 0.1)[1].names) < set(held.names)
    assert len(reading.split(every, 0.9, most=12)[1]) < 30


def _dataset(name: str, counts: dict[int, int]) -> Dataset:
    labels = np.repeat(list(counts), list(counts.values())).astype(np.int64)
    names = tuple(f"{label}/{i}" for i, label in enumerate(labels))
    return Dataset(name, ("a", "b"), names, labels, (np.zeros((2, 2, 3), np.uint8),) * len(names))


def test_groups_are_drawn_in_proportion_to_the_root_of_their_size() -> None:
    groups = reading.shares([_dataset("many", {0: 400, 1: 100}), _dataset("few", {1: 25})])
    assert [(len(group), round(share * 35)) for group, share in groups] == [
        (400, 20),
        (100, 10),
        (25, 5),
    ]
    drawn = reading.draw(groups, 350, np.random.default_rng(0))
    counts = np.bincount(drawn, minlength=525)
    parts = [counts[:400], counts[400:500], counts[500:]]
    assert [abs(part.sum() - n) <= 1 for part, n in zip(parts, (200, 100, 50), strict=True)]
    assert [part.max() - part.min() <= 1 for part in parts] == [True] * 3
    assert not np.array_equal(drawn, reading.draw(groups, 350, np.random.default_rng(1)))


def test_a_source_without_a_class_says_nothing_of_it() -> None:
    every, some = _dataset("every", {0: 4, 1: 4}), _dataset("some", {1: 4})
    told, coarse = reading.telling([every, some])
    assert told.tolist() == [[True, True], [False, True]]
    assert coarse == 2  # 1.25 times the 2 pixels of the complete source's images, as a whole number
    told, _ = reading.telling([_dataset("one", {0: 4}), some])
    assert told.all(), "where no source is complete, each label speaks against all other classes"


def test_cross_entropy_among_rivals() -> None:
    scores = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    labels, every = torch.tensor([0, 2, 1, 2]), torch.ones(4, 3, dtype=torch.bool)
    expected = nn.functional.cross_entropy(scores, labels, label_smoothing=0.1)
    torch.testing.assert_close(cross_entropy(scores, labels, every, 0.1), expected)
    few = every.clone()
    few[1, 0] = False
    alone = nn.functional.cross_entropy(scores[1:2, 1:], labels[1:2] - 1, label_smoothing=0.1)
    found = cross_entropy(scores[1:2], labels[1:2], few[1:2], 0.1)
    torch.testing.assert_close(found, alone)
    (gradient,) = torch.autograd.grad(found, scores)
    assert gradient.isfinite().all()
    assert gradient[1, 0] == 0


def test_views_are_reproducible_and_differ(folder: Path) -> None:
    images = reading.read(folder).pixels[::7]
    one, again, other = (augment.views(images, 24, np.random.default_rng(s))[0] for s in (5, 5, 6))
    assert one.shape == (len(images), 24, 24, 3)
    assert one.dtype == np.uint8
    assert np.array_equal(one, again)
    assert (one != other).any((1, 2, 3)).all()
    before = [pixels.copy() for pixels in images]
    augment.views(images, 64, np.random.default_rng(0))
    assert all(map(np.array_equal, before, images)), "views changed the images they were made of"


def test_sharpness_says_little_of_where_an_image_came_from() -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (64, 64, 3)).astype(np.uint8)  # as sharp as can be
    ramp = np.broadcast_to(np.linspace(0, 255, 64).astype(np.uint8)[:, None], (64, 64, 3)).copy()
    batch, fineness = augment.views([noise] * 40 + [ramp] * 120, 64, rng)
    steps = np.abs(np.diff(batch[..., 1].astype(np.float32), axis=2)).mean((1, 2))
    assert np.corrcoef(steps[:40], fineness[:40])[0, 1] > 0.8
    assert (fineness <= 40).mean() == pytest.approx(0.5, abs=0.15)
    sharp, smooth = steps[:40], steps[40:]
    assert (sharp < 0.4 * sharp.max()).mean() > 0.25, "too few sharp images were blurred"
    assert (smooth > 0.1 * sharp.max()).mean() > 0.1, "too few smooth images were lent detail"


# ---------------------------------------------------------------- networks and losses


def test_a_network_with_aids_folds_back_into_its_published_form() -> None:
    plain, aided = (untrained("squeezenet1_1", ["a", "b"]).module for _ in range(2))
    with_aids(aided)
    assert sum(isinstance(part, NormedConv) for part in aided.modules()) >= 5
    generator = torch.Generator().manual_seed(0)
    for part in aided.modules():
        if isinstance(part, nn.BatchNorm2d):
            for value in (part.weight, part.bias, part.running_mean, part.running_var):
                value.data.uniform_(0.5, 1.5, generator=generator)
    plain.load_state_dict(folded(aided, aided.state_dict()))
    images = torch.rand(2, 3, 70, 70, generator=generator)
    with torch.no_grad():
        expected, found = aided.eval()(images), plain.eval()(images)
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_weights_to_start_from_compute_with_aids_what_they_did() -> None:
    images = torch.rand(4, 3, 70, 70, generator=torch.Generator().manual_seed(0))
    plain, aided = (untrained("squeezenet1_1", ["a", "b"], seed=5).module for _ in range(2))
    with torch.no_grad():
        for part in (plain.get_submodule("features.0"), aided.get_submodule("features.0")):
            part.weight *= 40  # published features may be of any size
        with_aids(aided, images)
        assert sum(isinstance(part, NormedConv) for part in aided.modules()) >= 5
        assert sum(isinstance(part, NormedHead) for part in aided.modules()) == 1
        head = aided.get_submodule("classifier.1")
        heard: list[Tensor] = []
        head.norm.register_forward_hook(lambda *call: heard.append(call[2]))
        expected, found = plain.eval()(images), aided.eval()(images)
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
        assert 0.3 < heard[0].std() < 1.1
        again = untrained("squeezenet1_1", ["a", "b"]).module.eval()
        again.load_state_dict(folded(aided, aided.state_dict()))
        torch.testing.assert_close(again(images), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "vgg11"])
def test_a_new_class_layer_starts_at_zero_and_an_old_one_stays(name: str) -> None:
    model = untrained(name, ["a", "b"])
    assert with_classes(model, ["a", "b"]) is model
    trunk = {key: value.clone() for key, value in model.module.state_dict().items()}
    new = with_classes(model, ["x", "y", "z"])
    assert new.class_names == ("x", "y", "z")
    with torch.no_grad():
        scores = new.module.eval()(torch.rand(1, 3, 64, 64))
    assert scores.tolist() == [[0, 0, 0]]
    same = [
        torch.equal(value, new.module.state_dict()[key])
        for key, value in trunk.items()
        if value.shape == new.module.state_dict()[key].shape
    ]
    assert len(trunk) - sum(same) == 2, "all but the class layer is as it was"


def test_a_network_with_norms_of_its_own_is_trained_as_it_is() -> None:
    module = untrained("shufflenet_v2_x0_5", ["a", "b"]).module
    before = str(module)
    assert str(with_aids(module)) == before


def test_late_relus_end_as_plain_ones() -> None:
    module = with_aids(untrained("squeezenet1_1", ["a", "b"]).module)
    late = module.get_submodule("classifier.2")
    x = torch.tensor([-2.0, 3.0])
    rectify(module, 0.0)
    assert torch.equal(late(x), x)
    rectify(module, 0.5)
    assert torch.equal(late(x), x.relu())
    rectify(module, 0.0)
    assert torch.equal(late.eval()(x), x.relu())


def test_the_distance_of_explanations_against_a_slow_reference() -> None:
    generator = torch.Generator().manual_seed(1)
    a, b = (torch.rand(4, 3, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    slow = []
    for one, other in zip(a.tolist(), b.tolist(), strict=True):
        flat = [list(itertools.chain(*rows)) for rows in (one, other)]
        norms = [sum(v * v for v in values) ** 0.5 for values in flat]
        pairs = zip(*flat, strict=True)
        slow.append(sum((u / norms[0] - v / norms[1]) ** 2 for u, v in pairs))
    assert explanation_distance(a, b).item() == pytest.approx(sum(slow) / 4, rel=1e-12)
    assert explanation_distance(3 * a, a).item() == pytest.approx(0, abs=1e-12)
    assert explanation_distance(torch.zeros_like(a), b).item() == pytest.approx(1)


def test_maps_of_other_sizes_are_compared_at_the_students() -> None:
    student = torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(0))
    teacher = student.repeat_interleave(4, 1).repeat_interleave(4, 2)
    shifted = teacher.roll(4, 1)
    assert explanation_distance(student, teacher) < 0.05 < explanation_distance(student, shifted)


def test_an_empty_map_gives_no_nan() -> None:
    student = torch.zeros(1, 2, 2, requires_grad=True)
    explanation_distance(student, torch.ones(1, 2, 2)).backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()


def test_soft_scores_against_hintons_formula() -> None:
    student, teacher = torch.tensor([[2.0, -1.0, 0.5]]), torch.tensor([[1.0, 0.0, 3.0]])
    p, q = (torch.softmax(scores / 4, 1) for scores in (teacher, student))
    expected = 16 * (p * (p / q).log()).sum()
    torch.testing.assert_close(soft_distance(student, teacher, 4.0), expected)


def _small() -> nn.Sequential:
    """A small smooth network in float64, with a layer `1` to explain and a nonlinear head."""
    torch.manual_seed(4)
    parts = nn.Conv2d(3, 4, 3), nn.Softplus(), nn.Conv2d(4, 5, 3), nn.Softplus()
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3)).double()


@pytest.mark.parametrize("method", EXPLAINERS.values(), ids=lambda method: method.name)
def test_the_explanation_term_is_differentiated_to_second_order(method: Method) -> None:
    module = _small()
    images, labels = torch.rand(3, 3, 8, 8).double(), torch.tensor([0, 2, 1])
    goal = torch.rand(3, 6, 6).double()

    def distance() -> Tensor:
        maps = explained(module, images, labels, "1", method, differentiable=True)[1]
        return explanation_distance(maps, goal)

    parameters = dict(module.named_parameters())
    found = torch.autograd.grad(distance(), list(parameters.values()), allow_unused=True)
    gradients = dict(zip(parameters, found, strict=True))
    # 2 and 6 lie behind the layer: their weights enter through the gradients alone.
    for name in ("0.weight", "2.weight", "6.weight"):
        gradient = gradients[name].flatten()
        index = int(gradient.abs().argmax())
        assert abs(gradient[index]) > 1e-6, name
        value, step = parameters[name].data.view(-1), 1e-6
        value[index] += step
        above = distance().item()
        value[index] -= 2 * step
        below = distance().item()
        value[index] += step
        assert gradient[index].item() == pytest.approx((above - below) / (2 * step), rel=1e-4), name


def test_a_tapped_network_is_left_as_it_was() -> None:
    module = _small()
    images, labels = torch.rand(1, 3, 8, 8).double(), torch.tensor([0])
    explained(module, images, labels, "1", EXPLAINERS["gradcam"], differentiable=True)
    assert not any(part._forward_hooks for part in module.modules())
    assert all(parameter.grad is None for parameter in module.parameters())
    with pytest.raises(CamcliError, match="not a feature map"):
        explained(module, images, labels, "5", EXPLAINERS["gradcam"], differentiable=True)
    assert not any(part._forward_hooks for part in module.modules())


def test_the_cycle_of_the_learning_rate() -> None:
    rates = [one_cycle(step / 1000) for step in range(1001)]
    assert max(rates) == pytest.approx(1)
    assert rates.index(max(rates)) == 150
    assert rates[0] == pytest.approx(0.02)
    assert rates[-1] == pytest.approx(0, abs=1e-12)


# ---------------------------------------------------------------- runs


def test_plain_training_learns(teacher: tuple[Model, list[Row]], data: Data) -> None:
    model, rows = teacher
    assert [row["epoch"] for row in rows[:-1]] == list(range(1, 8))
    assert rows[-2]["ce"] < rows[0]["ce"]
    assert rows[-2]["val_accuracy"] >= max(0.7, rows[0]["val_accuracy"])  # chance is 1/3
    assert model.class_names == tuple(COLOURS)
    assert (model.preset.resize, model.preset.crop) == (50, 50)
    measured = accuracy(model.module, data.val[0], model.preset, CPU)
    assert measured == pytest.approx(max(row["val_accuracy"] for row in rows[:-1]), abs=0.035)


@pytest.mark.parametrize("method", EXPLAINERS)
def test_distillation_learns_and_looks_where_its_teacher_does(
    method: str, teacher: tuple[Model, list[Row]], data: Data, tmp_path: Path
) -> None:
    recipe = replace(RECIPE, phases=(Phase(50, 6),), seed=8, explain_method=method)
    blank = untrained(recipe.model, data.classes).module.eval()
    before = accuracy(blank, data.val[0], Preset(50, 50), CPU)
    last = {}
    for alpha in (0.0, 1.0):
        changed = replace(recipe, alpha=alpha)
        output = tmp_path / str(alpha)
        *rows, _ = train(changed, data, output, device=CPU, teacher=teacher[0])
        last[alpha] = rows[-1]["explanation"]
        assert rows[-1]["val_accuracy"] > max(before, 0.6)  # chance is 1/3
    assert last[1.0] < 0.5 * rows[0]["explanation"], "it does not go down"
    assert last[1.0] < 0.5 * last[0.0], "it goes down by itself"


def test_training_goes_on_from_weights(
    teacher: tuple[Model, list[Row]], data: Data, tmp_path: Path
) -> None:
    weights = tmp_path / "trained.pth"
    torch.save(teacher[0].module.state_dict(), weights)
    recipe = replace(RECIPE, phases=(Phase(50, 2),), weights=str(weights), lr=1e-3)
    parted = Data(
        ("b", "g", "r"),
        *([replace(s, classes=("b", "g", "r")) for s in part] for part in (data.train, data.val)),
    )
    _, started, _ = train(recipe, parted, tmp_path / "started", device=CPU)
    _, blank, _ = train(replace(recipe, weights="none"), parted, tmp_path / "blank", device=CPU)
    assert started["ce"] < 0.8 * blank["ce"]
    card = json.loads((tmp_path / "started" / "model.json").read_text())
    assert card["training"]["weights"].startswith("squeezenet1_1 sha256:")
    assert load(str(tmp_path / "started")).class_names == ("b", "g", "r")
    with pytest.raises(CamcliError, match=r"holds another run \(weights squeezenet1_1 sha256"):
        list(train(replace(recipe, weights="none"), parted, tmp_path / "started", device=CPU))
    folder = str(tmp_path / "started")
    longer = replace(recipe, weights=folder, lr=1e-9)
    _, further, _ = train(longer, parted, tmp_path / "further", device=CPU)
    assert further["ce"] < started["ce"]  # its head is kept: a new one starts from log 3
    with pytest.raises(CamcliError, match="do not fit resnet18"):
        list(train(replace(longer, model="resnet18"), parted, tmp_path / "other", device=CPU))
    with pytest.raises(CamcliError, match="cannot be trained"):
        list(train(replace(recipe, model=folder), parted, tmp_path / "other", device=CPU))


def _run(
    data: Data, output: Path, teacher: Model, stop_after: int | None = None, **changes: Any
) -> list[Row]:
    """A distillation of two epochs at one size and one at another, stopped early or not."""
    phases = (Phase(33, 2), Phase(37, 1))
    recipe = replace(RECIPE, phases=phases, kd_weight=0.5, alpha=0.3, **changes)
    rows = train(recipe, data, output, device=CPU, teacher=teacher)
    return list(itertools.islice(rows, stop_after))


def _without_times(file: Path) -> list[Row]:
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def test_a_resumed_run_equals_an_uninterrupted_one(
    teacher: tuple[Model, list[Row]], data: Data, tmp_path: Path
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert len(_run(data, whole, teacher[0])) == 4
    torch.manual_seed(99)  # the state of the process must not matter
    assert [row["epoch"] for row in _run(data, parts, teacher[0], stop_after=1)] == [1]
    torch.rand(5)
    assert [row.get("epoch") for row in _run(data, parts, teacher[0])] == [2, 3, None]
    for name in ("weights.safetensors", "model.json", "labels.txt"):
        assert (whole / name).read_bytes() == (parts / name).read_bytes(), name
    assert _without_times(whole / "metrics.jsonl") == _without_times(parts / "metrics.jsonl")
    one, other = (torch.load(f / "checkpoint.pt", weights_only=True) for f in (whole, parts))
    for part in ("module", "average"):
        assert all(torch.equal(one[part][key], other[part][key]) for key in one[part])
    assert not list(parts.glob("*.tmp"))
    # Once more: it is finished, and says so. Another seed is another run.
    assert [row.get("finished") for row in _run(data, parts, teacher[0])] == [3]
    with pytest.raises(CamcliError, match=r"holds another run \(seed 3, now 4\)"):
        _run(data, parts, teacher[0], seed=4)
    (parts / "checkpoint.pt").write_bytes(b"no checkpoint")
    with pytest.raises(CamcliError, match="not readable"):
        _run(data, parts, teacher[0])


def test_the_folder_holds_the_best_epoch_of_the_last_size(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = iter([0.9, 0.8, 0.3, 0.5, 0.4])
    monkeypatch.setattr("camcli.training.train.accuracy", lambda *_: next(measured, 0.0))
    recipe = replace(RECIPE, phases=(Phase(33, 2), Phase(35, 3)))
    kept = []
    for _row in train(recipe, data, tmp_path, device=CPU):
        kept.append(json.loads((tmp_path / "model.json").read_text())["epoch"])
    assert kept == [1, 1, 3, 4, 4, 4]
    assert load(str(tmp_path)).preset.crop == 35


# ---------------------------------------------------------------- the command


def _camcli(*arguments: object) -> int:
    with warnings.catch_warnings(), pytest.raises(SystemExit) as left:  # main changes how they show
        main([str(argument) for argument in arguments])
    return int(left.value.code or 0)


def test_the_command_trains_a_model_that_explain_takes(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, image = tmp_path / "model", folder / "red" / "00.png"
    small = ("--model", "squeezenet1_1", "--batch-size", 32, "--device", "cpu")
    given = ("train", folder, "--val", 0.2, "--test", folder, "--image-size", "33:1,35")
    assert _camcli(*given, "--epochs", 1, *small, "--precision", "bf16", "--output", output) == 0
    out, err = capsys.readouterr()
    rows = [json.loads(line) for line in out.splitlines()]
    assert [(row["epoch"], row["size"]) for row in rows[:-1]] == [(1, 33), (2, 35)]
    assert 0 <= rows[-1]["test"][folder.name] <= 1
    assert err == "", "no progress bar where stderr is no terminal"
    card = json.loads((output / "model.json").read_text())
    assert card["architecture"] == "squeezenet1_1"
    assert card["classes"] == list(COLOURS) == (output / "labels.txt").read_text().split()
    assert card["accuracy"]["test"] == rows[-1]["test"]
    assert str(tmp_path) not in (output / "model.json").read_text()
    weights = load_file(output / "weights.safetensors")
    assert weights.keys() == untrained("squeezenet1_1", card["classes"]).module.state_dict().keys()
    assert {w.dtype for w in weights.values() if w.ndim > 1} == {torch.float16}
    out_dir = tmp_path / "heat"
    assert _camcli("explain", image, "--model", output, "--target", "red", "--output", out_dir) == 0
    assert (out_dir / "00.gradcam.red.png").exists()


def test_help_and_lists_need_no_torch() -> None:
    code = (
        "import sys, click; from camcli.cli import camcli\n"
        "for words in (['--help'], ['train', '--help']):\n"
        "    try: camcli.main(words, standalone_mode=False)\n"
        "    except click.exceptions.Exit: pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--kd-temperature" in done.stdout


def test_the_commands_choices_are_the_registrys() -> None:
    from camcli.cli.train import train as command

    (option,) = [p for p in command.params if p.name == "explain_method"]
    assert set(option.type.choices) == set(EXPLAINERS)


@pytest.fixture
def bad(folder: Path, tmp_path: Path) -> dict[str, Path]:
    """Data that cannot be used, by what is wrong with it."""
    (tmp_path / "one").mkdir()
    shutil.copytree(folder / "red", tmp_path / "one" / "red")
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.zip").write_text("no zip")
    shutil.copytree(folder, tmp_path / "broken")
    (tmp_path / "broken" / "red" / "99.png").write_bytes(b"no image")
    shutil.copytree(folder / "red", tmp_path / "other" / "purple")
    return {path.name: path for path in tmp_path.iterdir()} | {"good": folder, "tmp": tmp_path}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["{tmp}/missing"], "missing': No such file"),
        (["{empty}"], "no images in"),
        (["{text.zip}"], "expected a folder or a zip"),
        (["{broken}"], "broken/red/99.png: not an image"),
        (["{one}"], "only one class, 'red'"),
        (["{good}", "--val", "0"], "no images to validate on"),
        (["{good}", "--val", "{other}"], "has the class 'purple': expected blue, green, red"),
        (["{good}", "--model", "squeezenet1_9"], "unknown model 'squeezenet1_9'"),
        (["{good}", "--weights", "{tmp}/missing.pth"], "missing.pth': no such file"),
        (["{good}", "--image-size", "64x10"], "expected PX or PX:EPOCHS"),
        (["{good}", "--image-size", "8"], "squeezenet1_1 does not take images of 8 pixels"),
        (["{good}", "--teacher", "{teacher}"], "has 2 classes"),
        (["{good}", "--teacher", "{one}"], "no model.json in it"),
        (["{good}", "--explain-method", "cam"], "unknown method 'cam'"),
    ],
)
def test_bad_inputs_are_one_line_each(
    arguments: list[str], says: str, bad: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    if "{teacher}" in arguments:
        bad["teacher"] = _write_teacher(bad["tmp"] / "teacher", ["cat", "dog"])
    filled = [_filled(argument, bad) for argument in arguments]
    assert _camcli("train", *filled, "--device", "cpu", "--output", bad["tmp"] / "out") == 2
    err = capsys.readouterr().err
    assert says in err
    assert len(err.splitlines()) == 1


def _filled(argument: str, paths: dict[str, Path]) -> str:
    for name, path in paths.items():
        argument = argument.replace("{" + name + "}", str(path))
    return argument


def _write_teacher(folder: Path, classes: list[str]) -> Path:
    """A folder as `camcli train` writes it, with random weights."""
    folder.mkdir()
    save_file(
        untrained("squeezenet1_1", classes).module.state_dict(),
        folder / "weights.safetensors",
    )
    (folder / "labels.txt").write_text("\n".join(classes))
    preset = {"resize": 64, "crop": 64, "mean": Preset.mean, "std": Preset.std, "bicubic": False}
    card = {"architecture": "squeezenet1_1", "preprocessing": preset}
    (folder / "model.json").write_text(json.dumps(card))
    return folder


def test_a_damaged_card_is_one_line(tmp_path: Path) -> None:
    folder = _write_teacher(tmp_path / "model", ["a", "b"])
    assert load(str(folder)).class_names == ("a", "b")
    with pytest.raises(CamcliError, match="comes with its weights: leave them on DEFAULT"):
        load(str(folder), "none")
    card = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(card | {"architecture": str(folder)}))
    with pytest.raises(CamcliError, match="unknown architecture"):
        load(str(folder))
    (folder / "model.json").write_text('{"architecture": "squeezenet1_1"}')
    with pytest.raises(CamcliError, match=r"model\.json is not readable") as caught:
        load(str(folder))
    assert "\n" not in str(caught.value)
