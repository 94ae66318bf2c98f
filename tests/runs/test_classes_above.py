"""The target `p>T`: a map for every class of an image with a probability above T."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from camcli import Model, explain
from camcli.capture.windows import Window
from camcli.engine.predict import probabilities
from camcli.errors import CamcliWarning, OutputError, TargetError
from camcli.images.find import find
from camcli.runs import pipeline
from camcli.runs.job import Job
from tests.support.command import Run, refused
from tests.support.files import files, make_photo
from tests.support.jobs import changed, make_job, rows_of
from tests.support.networks import OF_MAPS, GapNet

NAMES = ("crane", "bee", "Crane", "sea/cat", "elk")
WINDOW = Window(8, 8)


def threshold_of(net: GapNet, images: Tensor) -> float:
    """Return a threshold above which one image has no class, and others have some."""
    shares = net(images).sigmoid().detach()
    best = shares.amax(1)
    threshold = float(best.min() + 1e-4)
    counts = (shares > threshold).sum(1)
    assert len(set(counts.tolist())) > 1
    assert counts.min() == 0
    return threshold


@pytest.mark.parametrize("name", sorted(OF_MAPS.keys() - {"gradcam++softmax"}))
def test_each_class_above_has_its_own_map(name: str, gap_net: GapNet, images: Tensor) -> None:
    model, threshold = Model(gap_net, activation="sigmoid"), threshold_of(gap_net, images)
    found = explain(model, images, name, f"p>{threshold}", window=WINDOW)
    shares = gap_net(images).sigmoid().detach()
    assert found.classes is not None
    assert found.probabilities is not None
    for i, of_image in enumerate(shares):
        above = [k for k in of_image.argsort(descending=True).tolist() if of_image[k] > threshold]
        rest = found.classes.shape[1] - len(above)
        assert found.classes[i].tolist() == above + [-1] * rest
        for part, label in enumerate(above):
            alone = explain(model, images, name, label, window=WINDOW)
            torch.testing.assert_close(found.maps[i, part], alone.maps[i])
            torch.testing.assert_close(found.scores[i, part], alone.scores[i])
            torch.testing.assert_close(found.probabilities[i, part], of_image[label])
        assert found.names is not None
        assert found.names[i] == ", ".join(f"class {label}" for label in above)
        assert not found.maps[i, len(above) :].any()
        assert found.scores[i, len(above) :].isnan().all()
        assert found.probabilities[i, len(above) :].isnan().all()


def test_alternatives_may_be_above_as_well(gap_net: GapNet, images: Tensor) -> None:
    shares = gap_net(images).softmax(1)
    found = explain(gap_net, images, target="p>0.15")
    assert found.classes is not None
    assert (found.classes >= 0).sum(1).tolist() == (shares > 0.15).sum(1).tolist()


def test_classes_of_pixels_may_be_above(images: Tensor) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 1)).double()
    model = Model(net, num_classes=4, task="segmentation")
    shares = probabilities(model, images)
    assert shares is not None
    threshold = float(shares.median())
    found = explain(model, images, target=f"p>{threshold}", layer="1")
    assert found.classes is not None
    counts = (shares > threshold).sum(1)
    assert counts.any()
    assert (found.classes >= 0).sum(1).tolist() == counts.tolist()


@pytest.mark.parametrize("spec", ["p>1", "p>0", "p>-0.5", "p>nan", "p>half", "p>50%"])
def test_invalid_thresholds(spec: str, gap_net: GapNet, images: Tensor) -> None:
    with pytest.raises(TargetError, match=r"expected a probability between 0 and 1, as in p>0.5"):
        explain(gap_net, images, target=spec)


def test_values_have_no_probability(gap_net: GapNet, images: Tensor) -> None:
    model = Model(gap_net, activation="none")
    with pytest.raises(TargetError, match=r"'p>0.5' does not apply to values .*: they have no"):
        explain(model, images, target="p > 0.5")


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A job on three photos with different numbers of classes above 0.5."""
    found = make_job(tmp_path, {f"{i}.png": (40, 40 + 9 * i) for i in range(3)})
    net = found.model.module
    assert isinstance(net, GapNet)
    model = replace(found.model, class_names=NAMES, activation="sigmoid")
    inputs = torch.stack(
        [pipeline.load_image(found, source).input for source in found.sources]  # type: ignore[union-attr]
    )
    with torch.no_grad():
        net.fc.weight *= 100
        scores = net(inputs)
        for k, low in enumerate((0, 1, 0)):  # classes 0 and 2 are of two photos, 1 is of one
            ordered = scores[:, k].sort().values
            net.fc.bias[k] -= ordered[low : low + 2].mean()
        net.fc.bias[3:] -= scores[:, 3:].amax(0) + 1  # of none
    return replace(found, model=model, targets=("p>0.5",), saves=("overlay", "map"))


def expected_classes(job: Job) -> dict[str, set[int]]:
    found = {}
    for source in job.sources:
        loaded = pipeline.load_image(job, source)
        with torch.no_grad():
            shares = job.model.module(loaded.input[None]).sigmoid()[0]  # type: ignore[union-attr]
        found[source.name.name] = set((shares > 0.5).nonzero().flatten().tolist())
    return found


def test_each_class_has_a_row_and_files(job: Job) -> None:
    list(pipeline.run(job))
    expected, rows = expected_classes(job), rows_of(job)
    assert len({len(classes) for classes in expected.values()}) > 1
    parts = {0: "crane 0", 1: "bee", 2: "Crane 2", 3: "sea/cat", 4: "elk"}
    for image, classes in expected.items():
        if not classes:
            continue
        assert {row["class_index"] for row in rows[image]} == classes
        for row in rows[image]:
            index = row["class_index"]
            assert row["target"] == f"p>0.5:{parts[index]}"
            assert row["class_name"] == NAMES[index]
            assert row["probability"] > 0.5
            stem = image.removesuffix(".png") + f".gradcam.p_0.5_{parts[index]}"
            assert row["map"] == f"{stem}.npy".replace("/", "_")
            assert (Path(str(job.output)) / row["overlay"]).is_file()
    named = [row["map"] for of_image in rows.values() for row in of_image]
    assert len(set(named)) == len(named)


def test_an_image_without_a_class_has_a_row(job: Job) -> None:
    list(pipeline.run(replace(job, targets=("p>0.999999999",))))
    for of_image in rows_of(job).values():
        (row,) = of_image
        assert row["target"] == "p>0.999999999"
        assert row["status"] == "empty"
        names = ("class_index", "class_name", "score", "probability", "box", "error")
        assert [row[name] for name in names] == [None] * len(names)
        assert row["map"].endswith(".gradcam.p_0.999999999.npy")


def test_a_run_is_repeated_with_the_same_files(job: Job, tmp_path: Path) -> None:
    list(pipeline.run(job))
    before = files(Path(str(job.output)))
    list(pipeline.run(changed(job, skip_existing=True)))
    assert files(Path(str(job.output))) == before
    list(pipeline.run(changed(job, overwrite=True)))
    assert files(Path(str(job.output))) == before
    whole = {row["map"] for rows in rows_of(job).values() for row in rows}
    list(pipeline.run(changed(job, targets=("pred",), fit="squash", overwrite=True)))
    left = {path.name for path in (tmp_path / "out").glob("*.npy")}
    assert not whole & left


def test_the_classes_of_an_image_are_those_of_its_last_run(job: Job) -> None:
    list(pipeline.run(replace(job, targets=("p>0.000001", "pred"))))
    list(pipeline.run(replace(job, targets=("p>0.999999999",))))
    every = rows_of(job)
    list(pipeline.run(replace(job, targets=("p>0.999999999",))))
    assert rows_of(job) == every
    job.sources[0].path.write_bytes(job.sources[1].path.read_bytes())
    with pytest.warns(CamcliWarning, match="1 images have new results"):
        list(pipeline.run(replace(job, targets=("p>0.000001",))))
    for image, rows in rows_of(job).items():
        assert len({row["target"] for row in rows}) == len(rows), image


def test_a_run_needs_the_number_of_classes(job: Job) -> None:
    model = replace(job.model, class_names=None, num_classes=None)
    with pytest.raises(TargetError, match=r"'p>0.5' needs the number of classes.*: give --labels"):
        list(pipeline.run(replace(job, model=model)))


def test_an_input_is_not_overwritten(job: Job, tmp_path: Path) -> None:
    make_photo(tmp_path / "in" / "x.png")
    make_photo(tmp_path / "in" / "x.gradcam.p_0.5_bee.png")
    sources = find([str(tmp_path / "in")])
    with pytest.raises(OutputError, match="is an input and would be written over"):
        list(pipeline.run(replace(job, sources=sources, output=tmp_path / "in")))


def test_commands_that_need_one_map_refuse(run: Run, photo: Path, tmp_path: Path) -> None:
    net = ("--model", "tests.support.networks:GapNet", "--target", "p>0.5", "--quiet")
    message = refused(run("explain", photo, *net, "--dry-run"))
    assert message.startswith("--dry-run: the files of target 'p>0.5' depend on")
    assert refused(run("evaluate", photo, *net)).startswith("target 'p>0.5': metrics need the prob")
    pytest.importorskip("matplotlib")
    assert refused(run("figure", photo, *net)).startswith("target 'p>0.5' has several maps: name a")


def test_an_overlay_shows_one_map(photo: Path) -> None:
    model = Model(GapNet().eval(), num_classes=5)
    shown = explain(model, str(photo), target="p>0.01")
    assert shown._repr_png_() is None
    with pytest.raises(ValueError, match=r"'p>0.01' has several maps: explain a class to draw it"):
        shown.overlay()
