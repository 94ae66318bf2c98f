"""`--activation` of the commands: rows, records, lines, reports, figures and metrics."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from camcli import load
from camcli.errors import ModelError
from camcli.evaluation.registry import METRICS
from camcli.images.decode import decode
from camcli.report.figure.sheet import MapCell
from tests.support.command import Run, line_of, refused, stderr, stdout
from tests.support.files import make_photo, manifest

NETS = '''
import torch
from torch import nn

from tests.support.networks import GapNet

def one(): return GapNet(1)

class Flat(GapNet):
    def __init__(self): super().__init__(1)
    def forward(self, x): return super().forward(x)[:, 0]

def three(): return GapNet(3)

def softmaxed(): return nn.Sequential(GapNet(3), nn.Softmax(1))

def unsoftmaxed(): return nn.Sequential(GapNet(3), nn.Identity())

class SigmoidAtEnd(GapNet):
    def __init__(self): super().__init__(1)
    def forward(self, x): return super().forward(x).sigmoid()

def twin():
    """Return `one` with the logits 0 and z."""
    net = GapNet(1)
    z, net.fc = net.fc, nn.Linear(4, 2)
    net.fc.weight.data = torch.cat([0 * z.weight.data, z.weight.data])
    net.fc.bias.data = torch.cat([0 * z.bias.data, z.bias.data])
    return net
'''


VALUE = ("--activation", "none", "--target", "score")


@pytest.fixture
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Write a module of networks into the working directory; return its name."""
    name = f"nets_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(NETS)
    (tmp_path / "two.txt").write_text("cat\ndog\n")
    (tmp_path / "age.txt").write_text("age\n")
    for i in range(2):
        make_photo(tmp_path / "in" / f"{i}.jpg")
    monkeypatch.chdir(tmp_path)
    yield name
    sys.modules.pop(name, None)


@pytest.mark.parametrize("factory", ["one", "Flat"])
def test_two_classes_by_one_logit(run: Run, nets: str, factory: str) -> None:
    net = ("--model", f"{nets}:{factory}", "--labels", "two.txt", "--activation", "sigmoid")
    found = run("explain", "in", *net, "--target", "pred", "--target", "cat", "--target", "not:1")
    assert found.exit_code == 0, stderr(found)
    cat, against, best = (row for row in manifest(Path("camcli-out")) if row["image"] == "0.jpg")
    assert cat["class_index"] == 0
    assert cat["class_name"] == "cat"
    assert cat["probability"] == pytest.approx(torch.tensor(cat["score"]).sigmoid().item())
    assert against["class_name"] == "dog"
    assert against["score"] == pytest.approx(cat["score"])
    assert against["probability"] == pytest.approx(1 - cat["probability"])
    assert best["probability"] == max(cat["probability"], against["probability"])
    assert line_of(stdout(found), "0.jpg  gradcam  cat (").count(f"({cat['probability']:.1%})")
    assert json.loads(Path("camcli-out/run.json").read_text())["activation"] == "sigmoid"
    other = refused(run("explain", "in", *net[:2], *VALUE, "--quiet"))
    assert "activation sigmoid, here none" in other


def test_a_regression(run: Run, nets: str) -> None:
    net = ("--model", f"{nets}:one", "--activation", "none")
    targets = ("--target", "score", "--target", "-score")
    found = run("explain", "in", *net, *targets, "--method", "gradcam", "--method", "cam")
    assert found.exit_code == 0, stderr(found)
    rows = manifest(Path("camcli-out"))
    assert len(rows) == 2 * 2 * 2
    for row in rows:
        assert [row[name] for name in ("probability", "unsure", "class_name")] == [None] * 3
        assert row["status"] in ("ok", "empty")
        assert (row["image"], row["method"], f"({row['score']:.4g})") in [
            (words[0], words[1], words[3])
            for words in map(str.split, stdout(found).splitlines())
            if words[2] == row["target"]
        ]
    assert "%" not in stdout(found)
    by_target = {(row["image"], row["method"], row["target"]): row for row in rows}
    for (image, method, target), row in by_target.items():
        if target == "score":
            assert by_target[image, method, "-score"]["score"] == -row["score"]
    assert run("report", "camcli-out").exit_code == 0
    page = Path("camcli-out/report.html").read_text()
    assert '"probability":' not in page
    assert '"class 0"' not in page
    named = run("explain", "in", *net, *targets, "--labels", "age.txt", "--output", "named")
    assert named.exit_code == 0, stderr(named)
    assert line_of(stdout(named), "0.jpg  gradcam  age (")


def test_a_single_image_has_no_bars_without_probabilities(
    run: Run, nets: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    net = ("--model", f"{nets}:one", "--activation", "none", "--target", "score")
    assert run("explain", "in/0.jpg", *net).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "gives one value for each image (activation auto): expected --activation sigmoid"),
        (["--activation", "sigmod"], "unknown activation 'sigmod': did you mean 'sigmoid'"),
        (
            ["--activation", "none"],
            "target 'pred' does not apply to a value (activation none): ",
        ),
        (
            ["--labels", "two.txt"],
            "with activation auto; two classes by one logit have activation sigmoid",
        ),
        (["--labels", "two.txt", "--activation", "none"], "labels: 2 names given, 1 expected for"),
        (
            ["--activation", "sigmoid", "--labels", "age.txt"],
            "labels: 1 names given, 2 expected for",
        ),
    ],
)
def test_one_value_is_not_read_in_silence(
    run: Run, nets: str, arguments: list[str], message: str
) -> None:
    found = run("explain", "in", "--model", f"{nets}:one", *arguments, "--quiet")
    assert message in refused(found)


def test_python_loads_with_an_activation(nets: str) -> None:
    model = load(f"{nets}:one", labels="two.txt", activation="sigmoid")
    assert (model.num_classes, model.class_names) == (2, ("cat", "dog"))
    assert (model.activation, load(f"{nets}:three").activation) == ("sigmoid", "auto")
    with pytest.raises(ModelError, match="unknown activation 'probit'"):
        load(f"{nets}:three", activation="probit")
    with pytest.raises(ModelError, match=r"activation none .* a segmentation network"):
        load("lraspp_mobilenet_v3_large", "none", activation="none")


@pytest.mark.parametrize(
    ("problem", "count", "given", "activation", "classes"),
    [
        (None, 3, "auto", "auto", 3),
        ("single_label_classification", 3, "auto", "auto", 3),
        ("multi_label_classification", 3, "auto", "sigmoid", 3),
        ("multi_label_classification", 1, "auto", "sigmoid", 2),
        ("regression", 1, "auto", "none", 1),
        ("regression", 3, "softmax", "softmax", 3),
    ],
)
def test_a_configuration_may_say_what_the_network_gives(
    problem: str | None, count: int, given: str, activation: str, classes: int, tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers")
    names = {i: f"thing {i}" for i in range(count)}
    shape = {"embedding_size": 4, "hidden_sizes": [4, 8], "depths": [1, 1]}
    config = transformers.ResNetConfig(**shape, id2label=names, problem_type=problem)
    transformers.ResNetForImageClassification(config).save_pretrained(tmp_path)
    size = {"height": 32, "width": 32}
    transformers.ViTImageProcessor(size=size).save_pretrained(tmp_path)
    model = load(f"hf:{tmp_path}", activation=given)
    assert (model.activation, model.num_classes) == (activation, classes)
    assert model.class_names == (None if classes > count else tuple(names.values()))


def test_a_figure_of_a_regression(run: Run, nets: str) -> None:
    pytest.importorskip("matplotlib")
    from camcli.report.figure.layout import label_lines
    from camcli.report.figure.maps import SheetOptions, make_sheet

    net = ("--model", f"{nets}:one", "--model", f"{nets}:Flat", "--activation", "none")
    targets = ("--target", "score", "--target", "-score")
    found = run("figure", "in/0.jpg", *net, *targets, "--method", "gradcam")
    assert found.exit_code == 0, stderr(found)
    model = load(f"{nets}:one", activation="none")
    options = SheetOptions(("gradcam",), ("score", "-score", "not:0"))
    (column,) = make_sheet({"0.jpg": decode(Path("in/0.jpg"))}, [model], options).columns
    labels = [label_lines(cell, 9, 8) for cell in column.cells if isinstance(cell, MapCell)]
    assert labels == [["score"], ["-score"], ["not:0"]]


def test_metrics_of_a_regression(run: Run, nets: str) -> None:
    net = ("--model", f"{nets}:one", "--activation", "none", "--target", "score")
    message = refused(run("evaluate", "in", *net, "--quiet"))
    assert message.startswith("metric 'average-drop' needs the probability of a class, which the v")
    for name in ("road", "insertion", "grid"):
        message = refused(run("evaluate", "in", *net, "--quiet", "--metric", name))
        assert message.startswith(f"metric '{name}' needs the probability of a class")
    found = run("evaluate", "in", *net, "--metric", "all", "--output", "out", "--sanity-steps", 2)
    assert found.exit_code == 0, stderr(found)
    record = json.loads(Path("out/metrics.json").read_text())
    expected = {
        name
        for name, one in METRICS.items()
        if name in ("complexity", "coherency", "occlusion-correlation", "sanity")
    }
    assert record["metrics"].keys() == expected
    assert record["activation"] == "none"
    rows = list(csv.DictReader(Path("out/scores.csv").read_text().splitlines()))
    assert {row["probability"] for row in rows} == {""}
    message = refused(
        run("evaluate", "in", *net[:-1], "-score", "--metric", "complexity", "--quiet")
    )
    assert message.startswith("target '-score': ")


def test_metrics_of_a_sigmoid_equal_those_of_its_twin(run: Run, nets: str) -> None:
    """A perturbed image's probability is the sigmoid's, as it is for the softmax of two logits."""
    metrics = ("--metric", "average-drop", "--metric", "deletion", "--metric", "road")
    own = ("evaluate", "in", *metrics, "--json", "--target", 1)
    found = run(*own, "--model", f"{nets}:one", "--activation", "sigmoid")
    expected = run(*own, "--model", f"{nets}:twin")
    assert found.exit_code == expected.exit_code == 0, stderr(found)
    for name, column in json.loads(stdout(expected))["metrics"].items():
        for row, one in json.loads(stdout(found))["metrics"][name]["rows"].items():
            assert one["mean"] == pytest.approx(column["rows"][row]["mean"], rel=1e-4)


ENDED = pytest.mark.parametrize(
    ("factory", "twin", "activation"),
    [("softmaxed", "unsoftmaxed", "auto"), ("SigmoidAtEnd", "one", "sigmoid")],
)


@ENDED
def test_a_network_that_ends_in_its_activation_equals_its_twin(
    run: Run, nets: str, factory: str, twin: str, activation: str
) -> None:
    """No second softmax: neither in the rows and maps, nor in the metrics of changed images."""
    methods = ("--method", "gradcam", "--method", "cam", "--method", "occlusion")
    own = ("explain", "in", "--activation", activation, *methods, "--save", "map")
    metrics = ("--metric", "average-drop", "--metric", "deletion", "--metric", "road", "--json")
    rows, columns = [], []
    for name in (factory, twin):
        found = run(*own, "--model", f"{nets}:{name}", "--output", name)
        assert found.exit_code == 0, stderr(found)
        rows.append(manifest(Path(name)))
        measured = run(
            *("evaluate", "in", *metrics, "--target", 1, "--activation", activation),
            *("--model", f"{nets}:{name}"),
        )
        assert measured.exit_code == 0, stderr(measured)
        columns.append(json.loads(stdout(measured))["metrics"])
    for one, other in zip(*rows, strict=True):
        assert one["score"] == pytest.approx(other["score"], rel=1e-4)
        assert one["probability"] == pytest.approx(other["probability"], rel=1e-4)
        maps = (np.load(Path(name) / row["map"]) for name, row in ((factory, one), (twin, other)))
        np.testing.assert_allclose(*maps, rtol=1e-4, atol=1e-6)
    for name, column in columns[0].items():
        for row, one in column["rows"].items():
            assert one["mean"] == pytest.approx(columns[1][name]["rows"][row]["mean"], rel=1e-4)
