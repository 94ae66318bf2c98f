"""`camcli evaluate --boxes`: metrics of annotated photos, and the reasons to skip a photo."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from camcli.errors import AnnotationError
from camcli.evaluation.baselines import BASELINES
from camcli.evaluation.ground_truth import Annotation, explained_classes
from camcli.evaluation.localisation import covered, energy, iou, loc, localised, pointing
from camcli.evaluation.objects import Object
from camcli.evaluation.registry import METRICS, default_metrics
from camcli.images.geometry import Centres, Crop, MapArray, Placement
from camcli.models.model import Model
from camcli.render.boxes import largest_box
from camcli.render.draw import place_map
from tests.support.command import Run, line_of, problems, stderr, stdout
from tests.support.evaluation import BLOBS, BOXES, SIZES
from tests.support.files import manifest
from tests.support.networks import GapNet

Options = tuple[object, ...]

MEASURES: dict[str, Callable[[MapArray, list[Object], float], float]] = {
    "pointing": lambda values, found, _: pointing(values, found),
    "energy": lambda values, found, _: energy(values, found),
    "loc-0": lambda values, found, _: loc(values, found, 0),
    "loc-0.25": lambda values, found, _: loc(values, found, 0.25),
    "loc-0.5": lambda values, found, _: loc(values, found, 0.5),
    "iou": lambda values, found, share: max(
        iou(largest_box(values, share) or (0, 0, 0, 0), one.box) for one in found
    ),
    "localised": lambda values, found, share: localised(values, found, share),
    "covered": lambda values, found, share: covered(values, found, share) / len(found),
}
"""The metrics of one map, its objects and its box threshold."""


def scores(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "scores.csv").read_text().splitlines()))


def objects(name: str, label: int) -> list[Object]:
    """Return the objects of a class by the default class map: red is every class, blue the last."""
    classes = {"red": range(5), "blue": [4], "green": []}
    return [Object(word, box) for word, box in BOXES[name] if label in classes[word]]


@pytest.mark.parametrize("target", ["pred", "top2", "4"])
def test_metrics_are_those_of_the_maps_that_explain_writes(
    target: str, run: Run, annotated: Path, ground_truth: Options, tmp_path: Path
) -> None:
    options = (annotated, *BLOBS, "--method", "gradcam", "--method", "cam", "--target", target)
    out, maps = tmp_path / "quality", tmp_path / "maps"
    assert run("evaluate", *options, *ground_truth, "--output", out).exit_code == 0
    assert run("explain", *options, "--save", "map", "--output", maps).exit_code == 0
    found = {(row["image"], row["method"]): row for row in scores(out)}
    rows = [row for row in manifest(maps) if row["image"] in ("a.png", "b.png")]
    methods = ("gradcam", "cam", *BASELINES)
    assert set(found) == {(name, method) for name in ("a.png", "b.png") for method in methods}
    for row in rows:
        crop = Placement(*row["crop"], cells=Centres(*row["cells"]))
        values = place_map(np.load(maps / row["map"]), crop, SIZES[row["image"]])
        share = 0.2 if row["method"] == "cam" else 0.15
        of_class = objects(row["image"], row["class_index"])
        for name, measure in MEASURES.items():
            value = float(found[row["image"], row["method"]][name])
            expected = measure(values, of_class, share)
            assert value == pytest.approx(float(expected), abs=1e-5), (name, row)


def test_every_metric_of_annotations_is_tested_and_is_a_default() -> None:
    annotated = {name for name, metric in METRICS.items() if metric.place == "annotation"}
    assert set(MEASURES) == set(default_metrics(annotated=True)) == annotated


def test_skipped_photos_are_counted_by_reason(
    run: Run, annotated: Path, ground_truth: Options, tmp_path: Path
) -> None:
    (tmp_path / "all.txt").write_text("red: 1\nblue: 2\n")
    (annotated / "e.png").write_bytes(b"nothing")
    command = ("evaluate", annotated, *BLOBS, *ground_truth, "--metric", "pointing", "--target", 2)
    lines = (tmp_path / "boxes.csv").read_text().splitlines()
    kept = [line for line in lines if not line.startswith("b.png,blue")]
    (tmp_path / "boxes.csv").write_text("\n".join([*kept, "e.png,red,1,1,2,2"]))
    found = run(*command)
    assert found.exit_code == 1, "e.png cannot be read"
    assert re.search(r"(?m)^pointing +higher +1 ", stdout(found))
    lines = stdout(found).splitlines()
    assert {
        "1 of 5 images skipped: no object of the explained class (--target annotated explains a "
        "class that they have)",
        "1 of 5 images skipped: no object of a class of the model",
        "1 of 5 images failed",
        f"1 of 5 images skipped: not annotated (d.png: no row for it in {tmp_path}/boxes.csv)",
    } <= set(lines)
    record = json.loads(run(*command, "--json").stdout_bytes)
    assert record["images"] == 1
    assert record["failed"] == [
        {"image": "e.png", "reason": f"{annotated}/e.png: not an image that Pillow can read"}
    ]
    assert [row["image"] for row in record["skipped"]] == ["b.png", "c.png", "d.png"]
    assert record["boxes"] == f"csv:{tmp_path / 'boxes.csv'}"


def test_without_any_measured_photo_the_exit_code_says_whether_one_failed(
    run: Run, annotated: Path, ground_truth: Options, tmp_path: Path
) -> None:
    (tmp_path / "all.txt").write_text("red: 1\nblue: 2\n")
    (annotated / "e.png").write_bytes(b"nothing")
    command = ("evaluate", annotated, *BLOBS, *ground_truth, "--target", 3)
    found = run(*command)
    assert (found.exit_code, found.stdout_bytes) == (1, b"")
    assert "no image could be measured; 2 of 5 images" in stderr(found)
    (annotated / "e.png").unlink()
    found = run(*command)
    assert found.exit_code == 2
    assert "no image could be measured; 2 of 4 images" in stderr(found)


def test_target_annotated_is_the_best_annotated_class(
    run: Run, annotated: Path, ground_truth: Options, tmp_path: Path
) -> None:
    (tmp_path / "all.txt").write_text("red: 2, 3\nblue: 4\n")
    for name in ("annotated", *range(5)):
        metrics = ("--metric", "energy", "--metric", "complexity")
        options = (*ground_truth, "--target", name, *metrics, "--output", tmp_path / str(name))
        run("evaluate", annotated, *BLOBS, *options)
    chosen = {row["image"]: row for row in scores(tmp_path / "annotated")}
    assert set(chosen) == {"a.png", "b.png"}
    others = [row for label in (2, 3, 4) for row in scores(tmp_path / str(label))]
    for image, row in chosen.items():
        best = max(float(one["probability"]) for one in others if one["image"] == image)
        assert float(row["probability"]) == pytest.approx(best, abs=1e-5)
    assert len({row["class_index"] for row in others}) == 3


def test_min_objects_leaves_out_classes_with_fewer(
    run: Run, annotated: Path, ground_truth: Options, tmp_path: Path
) -> None:
    """a.png has two red objects and a blue one, b.png one of each."""
    (tmp_path / "all.txt").write_text("red: 2, 3\nblue: 4\n")
    command = ("evaluate", annotated, *BLOBS, *ground_truth, "--min-objects", 2)
    record = json.loads(run(*command, "--target", "annotated", "--json").stdout_bytes)
    assert (record["images"], record["min_objects"]) == (1, 2)
    reasons = {row["image"]: row["reason"] for row in record["skipped"]}
    assert reasons["b.png"] == "fewer objects of the class than --min-objects"
    assert [*reasons] == ["b.png", "c.png", "d.png"]
    found = run(*command, "--target", 2)
    assert "min-objects 2, fit preset" in line_of(stdout(found), "Measured with")
    blue = run(*command, "--target", 4)
    assert blue.exit_code == 2, "each photo has one blue object"
    assert b"2 of 4 images skipped: fewer objects of the class" in blue.stderr_bytes
    alone = run("evaluate", annotated, *BLOBS, "--min-objects", 2)
    assert problems(alone) == ["Error: --min-objects 2 needs annotations: expected --boxes"]


def test_difficult_objects_are_left_out(run: Run, annotated: Path, tmp_path: Path) -> None:
    (tmp_path / "voc").mkdir()
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>20</xmax><ymax>20</ymax></bndbox>"
    for name, mark in (("a", 0), ("b", 1)):
        text = f"<a><object><name>3</name><difficult>{mark}</difficult>{box}</object></a>"
        (tmp_path / "voc" / f"{name}.xml").write_text(text)
    (tmp_path / "map.txt").write_text("3: 0-4\n")
    options = ("--boxes", f"voc:{tmp_path / 'voc'}", "--class-map", tmp_path / "map.txt", "--json")
    record = json.loads(run("evaluate", annotated, *BLOBS, *options).stdout_bytes)
    assert list(record["metrics"]) == list(default_metrics(annotated=True))
    assert record["images"] == 1
    assert [row["image"] for row in record["skipped"]] == ["b.png", "c.png", "d.png"]
    assert record["skipped"][0]["reason"] == "only objects that are marked as difficult"


METRICS_OF_CLASSES = ("--metric", "pointing", "--metric", "localised")


def test_the_mean_over_classes(
    run: Run, annotated: Path, ground_truth: Options, tmp_path: Path
) -> None:
    """a.png and c.png are explained for what is red or green, b.png for the last class."""
    (tmp_path / "all.txt").write_text("red: 2\nblue: 3\ngreen: 2\n")
    options = (*ground_truth, "--target", "annotated", "--output", tmp_path / "out", "--json")
    record = json.loads(
        run("evaluate", annotated, *BLOBS, *options, *METRICS_OF_CLASSES).stdout_bytes
    )
    images: dict[str, list[float]] = {"red": [], "blue": [], "green": []}
    for row in scores(tmp_path / "out"):
        if row["method"] == "centre":
            labels = {label for label, _ in BOXES[row["image"]]}
            (label,) = labels & ({"red", "green"} if row["class_index"] == "2" else {"blue"})
            images[label].append(float(row["pointing"]))
    means = [np.mean(values) for values in images.values() if values]
    assert record["metrics"]["pointing"]["by_class"]["centre"] == pytest.approx(np.mean(means))
    assert f"pointing, mean over {len(means)} classes: " in "".join(record["remarks"])
    assert "localised, mean over" not in "".join(record["remarks"])
    assert record["top1"] is None, "the class may not be the prediction"


def test_top1_localisation(
    run: Run, annotated: Path, ground_truth: Options, tmp_path: Path
) -> None:
    (tmp_path / "all.txt").write_text("red: 0-4\nblue: 3\ngreen: 4\n")
    options = (*ground_truth, *METRICS_OF_CLASSES, "--json")
    record = json.loads(run("evaluate", annotated, *BLOBS, *options).stdout_bytes)
    found = record["metrics"]["localised"]
    assert (record["images"], found["rows"]["centre"]["images"]) == (2, 2)
    assert [row["image"] for row in record["skipped"]] == ["c.png", "d.png"]
    assert found["rows"]["centre"]["mean"] > 0
    assert record["top1"]["centre"] == pytest.approx(found["rows"]["centre"]["mean"] * 2 / 3)
    assert "localised, with images of another class as 0 (top-1): " in "".join(record["remarks"])


def test_a_class_that_the_network_does_not_have_is_refused() -> None:
    """The class map of a network with an unknown number of classes may name any class."""
    model = Model(GapNet(), name="mine")
    annotation = Annotation((9, 9), Crop(0, 0, 9, 9), {7: (Object("dog", (0, 0, 1, 1)),)})
    with pytest.raises(AnnotationError, match="class 7 of the annotations: mine has 5 classes"):
        explained_classes(model, "annotated", torch.zeros(1, 3, 20, 20), [annotation])


def test_photos_that_share_an_annotation_are_refused(
    run: Run, annotated: Path, ground_truth: Options
) -> None:
    Image.new("RGB", (90, 70)).save(annotated / "a.webp")
    found = run("evaluate", annotated, *BLOBS, *ground_truth)
    assert found.exit_code == 2
    (line,) = problems(found)
    assert f"'{annotated}/a.png' and '{annotated}/a.webp' would have the same annotations" in line


def test_a_wrong_annotation_is_one_line_and_the_others_are_measured(
    run: Run, annotated: Path, ground_truth: Options, tmp_path: Path
) -> None:
    lines = (tmp_path / "boxes.csv").read_text()
    (tmp_path / "boxes.csv").write_text(lines + "b.png,red,1,1,much,2\n")
    found = run("evaluate", annotated, *BLOBS, *ground_truth, "--json")
    assert found.exit_code == 1
    (line,) = problems(found)
    assert "boxes.csv, line 8: expected image,class,x0,y0,x1,y1" in line
    record = json.loads(found.stdout_bytes)
    assert record["images"] == 1
    assert "1 of 4 images skipped: wrong annotation" in record["remarks"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--metric", "deletion", "--metric", "iou"), "metric 'iou' needs annotations: expected"),
        (("--target", "annotated"), "target 'annotated' needs annotations: expected --boxes"),
        (("--class-map", "classes.txt"), "--class-map without --boxes: expected both"),
        (("--boxes", "boxes.csv"), "annotations 'boxes.csv': expected FORMAT:PATH"),
        (("--boxes", "yolo:."), "the model has no class names to match labels with"),
        (("--boxes", "csv:no.csv", "--class-map", "all.txt"), "no.csv: No such file"),
    ],
)
def test_wrong_usage_is_one_line(
    options: tuple[str, ...],
    message: str,
    run: Run,
    annotated: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    found = run("evaluate", annotated, *BLOBS, *options)
    assert found.exit_code == 2
    (line,) = problems(found)
    assert line.startswith("Error: ")
    assert message in line
