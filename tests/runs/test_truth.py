"""True classes of a run's images: the fields of rows, the counts of right predictions."""

from __future__ import annotations

import pickle
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from camcli import Model, explain
from camcli.errors import AnnotationError, CamcliError, CamcliWarning, TargetError
from camcli.images.find import find
from camcli.runs import pipeline
from camcli.runs.accuracy import accuracy, counts_of, is_chance
from camcli.runs.class_map import Label
from camcli.runs.job import Job
from camcli.runs.merge import merge
from camcli.runs.options import TruthOptions
from camcli.runs.predictions import Prediction, predictions
from camcli.runs.shards import shard_of
from camcli.runs.truth import read_truth
from tests.support.files import make_photo, manifest
from tests.support.networks import GapNet
from tests.support.truth import (
    ANTS,
    NAMES,
    RANKS,
    classes_by_rank,
    job_on,
    make_photos,
    nine_classes,
    record_in,
    rows_of,
    shares_of,
    write_csv,
)

TRUTH_FIELDS = ("true_index", "true_name", "correct", "top5")


@pytest.fixture
def model() -> Model:
    return nine_classes()


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    return make_photos(tmp_path)


def test_rows_equal_a_forward_pass(tmp_path: Path, model: Model, photos: list[Path]) -> None:
    """Indices in a CSV file say which of two classes of a name is the true one."""
    shares = shares_of(tmp_path, model)
    true = classes_by_rank(shares)
    truth = write_csv(tmp_path, "class_index", true)
    rows = rows_of(job_on(tmp_path, model, truth, targets=("pred", "3"), batch_size=2))
    for image, row in rows.items():
        best = int(shares[image].argmax())
        assert (row["predicted_index"], row["predicted_name"]) == (best, NAMES[best])
        assert row["confidence"] == pytest.approx(float(shares[image].max()))
        assert (row["true_index"], row["true_name"]) == (true[image], NAMES[true[image]])
        assert row["correct"] is (true[image] == best)
        assert row["top5"] is (true[image] in shares[image].topk(5).indices)
        assert row["size"] == [50 + 3 * int(image[0]), 40]
    assert [row["correct"] for row in rows.values()] == [rank == 0 for rank in RANKS]
    assert [row["top5"] for row in rows.values()] == [rank < 5 for rank in RANKS]
    record = record_in(tmp_path / "out")
    assert record["accuracy"] == {"images": 5, "top1": 1, "top5": 3}
    assert (record["truth"], record["class_map"]) == (truth, None)


def test_folders_are_names(tmp_path: Path, model: Model, photos: list[Path]) -> None:
    """A label with two classes is right if one of them is the best, and else the better one."""
    (tmp_path / "in" / "DOG").mkdir()
    (tmp_path / "in" / "crane").mkdir()
    photos[0].rename(tmp_path / "in" / "DOG" / "0.jpg")
    photos[1].rename(tmp_path / "in" / "crane" / "1.jpg")
    with pytest.warns(CamcliWarning, match=r"3 of 5, whose label is no class of the model: 'in'$"):
        rows = rows_of(job_on(tmp_path, model, "folder"))
    shares = shares_of(tmp_path, model)
    dog, crane = rows["DOG/0.jpg"], rows["crane/1.jpg"]
    assert (dog["true_index"], dog["true_name"]) == (3, "dog")
    better = max((2, 6), key=lambda index: shares["crane/1.jpg"][index])
    assert (crane["true_index"], crane["true_name"]) == (better, "crane")
    assert crane["correct"] is (crane["predicted_index"] in (2, 6))
    assert [rows["2.jpg"][field] for field in TRUTH_FIELDS] == [None] * 4
    assert rows["2.jpg"]["predicted_index"] is not None
    assert record_in(tmp_path / "out")["accuracy"]["images"] == 2


def test_the_given_folder_is_a_label(
    tmp_path: Path, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = make_photo(tmp_path / "elk" / "0.jpg")
    monkeypatch.chdir(file.parent)
    for given in ("0.jpg", ".", str(file), "../elk"):
        job = replace(job_on(tmp_path, model, "folder"), sources=find([given]))
        assert [job.label(source).name for source in job.sources] == ["elk"]


def test_a_class_map_has_labels_of_several_classes(
    tmp_path: Path, model: Model, photos: list[Path]
) -> None:
    shares = shares_of(tmp_path, model)
    best = int(shares["0.jpg"].argmax())
    others = sorted({*range(9)} - {best})[:3]
    file = tmp_path / "classes.txt"
    file.write_text(
        f"Pet: {best}, {others[0]}\n7: {', '.join(map(str, others))}\nsolo: {others[1]}\n"
    )
    labels = {"0.jpg": "pet", "1.jpg": "7", "2.jpg": "solo", "3.jpg": "ant"}
    truth = write_csv(tmp_path, "class", labels)
    with pytest.warns(CamcliWarning) as warned:
        rows = rows_of(job_on(tmp_path, model, truth, class_map=file))
    assert [str(one.message).partition(": ")[2] for one in warned] == [
        f"1 of 5, which have no label in --truth {truth}: '4.jpg'",
        "1 of 5, whose label is no class of the model: 'ant'",
    ]
    of_best = int(shares["0.jpg"].argmax())
    assert [rows["0.jpg"][field] for field in TRUTH_FIELDS[:3]] == [of_best, "Pet", True]
    better = max(others, key=lambda index: shares["1.jpg"][index])
    assert [rows["1.jpg"][field] for field in TRUTH_FIELDS[:2]] == [better, "7"]
    assert [rows["2.jpg"][f] for f in TRUTH_FIELDS[:2]] == [others[1], NAMES[others[1]]]
    for image in ("3.jpg", "4.jpg"):
        assert [rows[image][field] for field in TRUTH_FIELDS] == [None] * 4
    record = record_in(tmp_path / "out")
    assert (record["class_map"], record["accuracy"]["images"]) == (str(file), 3)


def test_only_a_class_map_changes_the_digest(
    tmp_path: Path, model: Model, photos: list[Path]
) -> None:
    file = tmp_path / "classes.txt"
    plain = job_on(tmp_path, model)
    digests = [plain.settings, replace(job_on(tmp_path, model, "folder")).settings]
    for content in ("in: 1", "in: 1, 2", "in: 2,1"):
        file.write_text(content)
        digests.append(job_on(tmp_path, model, "folder", class_map=file).settings)
    first, same, one, two, twice = digests
    assert first == same
    assert len({first, one, two}) == 3
    assert two == twice


def test_failed_images_keep_their_true_class(
    tmp_path: Path, model: Model, photos: list[Path]
) -> None:
    photos[1].write_text("no image")
    rows = rows_of(job_on(tmp_path, model, write_csv(tmp_path, "class", ANTS | {"1.jpg": "elk"})))
    assert rows["1.jpg"]["status"] == "error"
    facts = Prediction(true_index=4, true_name="elk")
    assert {field: rows["1.jpg"][field] for field in Prediction._fields} == facts._asdict()
    assert rows["1.jpg"]["size"] is None
    assert record_in(tmp_path / "out")["accuracy"]["images"] == 4


def test_a_prediction_of_nan_is_unknown(tmp_path: Path, model: Model, photos: list[Path]) -> None:
    assert isinstance(model.module, GapNet)
    torch.nn.init.constant_(model.module.fc.weight, torch.nan)
    rows = rows_of(job_on(tmp_path, model, write_csv(tmp_path, "class", ANTS | {"1.jpg": "elk"})))
    facts = Prediction(true_index=4, true_name="elk")
    assert {field: rows["1.jpg"][field] for field in Prediction._fields} == facts._asdict()
    assert "NaN" in rows["1.jpg"]["error"]


def test_an_error_of_writing_keeps_the_prediction(
    tmp_path: Path, model: Model, photos: list[Path]
) -> None:
    job = job_on(tmp_path, model, write_csv(tmp_path, "class_index", dict.fromkeys(ANTS, 4)))
    (tmp_path / "out" / "1.gradcam.npy").mkdir(parents=True)
    row = rows_of(job)["1.jpg"]
    assert row["status"] == "error"
    assert None not in [row[field] for field in Prediction._fields]


def test_resuming_follows_the_truth(tmp_path: Path, model: Model, photos: list[Path]) -> None:
    """Rows with another true class are made again, also those of other targets."""
    true = classes_by_rank(shares_of(tmp_path, model))
    first = job_on(tmp_path, model, write_csv(tmp_path, "class_index", true), batch_size=1)
    before = rows_of(replace(first, targets=("2",)))
    before |= rows_of(first)
    kept = {source.image: job_kept(first, source.image) for source in first.sources}
    assert all(kept.values())
    other = (true["1.jpg"] + 1) % 9
    write_csv(tmp_path, "class_index", true | {"1.jpg": other})
    second = job_on(tmp_path, model, first.truth.spec, batch_size=1, skip_existing=True)  # type: ignore[union-attr]
    kept = {source.image: job_kept(second, source.image) for source in second.sources}
    assert [image for image, same in kept.items() if not same] == ["1.jpg"]
    list(pipeline.run(second))
    rows = [row for row in manifest(tmp_path / "out") if row["image"] == "1.jpg"]
    assert [(row["target"], row["true_index"]) for row in rows] == [("2", other), ("pred", other)]
    right = sum(rank == 0 for rank in RANKS[2:]) + 1 + (rows[0]["predicted_index"] == other)
    assert record_in(tmp_path / "out")["accuracy"]["images"] == 5
    assert record_in(tmp_path / "out")["accuracy"]["top1"] == right
    plain = job_on(tmp_path, model, batch_size=1, skip_existing=True)
    assert all(job_kept(plain, source.image) for source in plain.sources)


def job_kept(job: Job, image: str) -> bool:
    """Return whether a job keeps the earlier rows of an image."""
    from camcli.runs.earlier import earlier_rows

    (source,) = (source for source in job.sources if source.image == image)
    return pipeline._kept_rows(job, earlier_rows(job))(source) is not None


@pytest.mark.parametrize("form", ["", "not:", "finer:"])
def test_the_true_class_is_a_target(
    form: str, tmp_path: Path, model: Model, photos: list[Path]
) -> None:
    """Of a label with two classes it is the one with the higher score."""
    shares = shares_of(tmp_path, model)
    file = tmp_path / "classes.txt"
    file.write_text("\n".join(f"{index}: {index}, {(index + 1) % 9}" for index in range(9)))
    labels = classes_by_rank(shares)
    truth = write_csv(tmp_path, "class", labels)
    options = {"class_map": file, "batch_size": 2, "methods": ("gradcam", "scorecam")}
    target = f"{form}true"
    rows = [*pipeline.run(job_on(tmp_path, model, truth, targets=(target, "pred"), **options))]
    for row in (row for of_image in rows for row in of_image if row["target"] == target):
        pair = labels[row["image"]], (labels[row["image"]] + 1) % 9
        better = max(pair, key=lambda index: shares[row["image"]][index])
        assert (row["class_index"], row["true_index"]) == (better, better)
        by_index = job_on(tmp_path, model, targets=(f"{form}{better}",), methods=(row["method"],))
        by_index = replace(by_index, output=tmp_path / str(better))
        ((alone,),) = pipeline.run(
            replace(by_index, sources=find([str(tmp_path / "in" / row["image"])]))
        )
        assert alone["score"] == pytest.approx(row["score"], rel=1e-5)
        maps = [
            np.load(folder / one["map"])
            for folder, one in ((tmp_path / "out", row), (tmp_path / str(better), alone))
        ]
        np.testing.assert_allclose(*maps, rtol=1e-4, atol=1e-6 * np.abs(maps[0]).max())
    assert (tmp_path / "out" / f"0.gradcam.{target.replace(':', '_')}.npy").is_file()


def test_an_image_without_a_true_class_fails(
    tmp_path: Path, model: Model, photos: list[Path]
) -> None:
    labels = {"0.jpg": "ant", "1.jpg": "person", "2.jpg": "ant", "3.jpg": "ant"}
    job = job_on(tmp_path, model, write_csv(tmp_path, "class", labels), targets=("true",))
    with pytest.warns(CamcliWarning, match="images without a true class"):
        rows = rows_of(job)
    errors = {image: row["error"] for image, row in rows.items() if row["error"]}
    assert errors == {
        "1.jpg": f"{photos[1]}: no true class: label 'person' is no class of the model",
        "4.jpg": f"{photos[4]}: no true class: no label in --truth {job.truth and job.truth.spec}",
    }


def test_the_true_class_needs_a_truth(tmp_path: Path, model: Model, photos: list[Path]) -> None:
    expected = r"target 'true' needs true classes: expected --truth of camcli explain, or in Py"
    with pytest.raises(TargetError, match=expected):
        list(pipeline.run(job_on(tmp_path, model, targets=("not:true",))))
    with pytest.raises(TargetError, match="target 'true' needs true classes"):
        explain(model, torch.zeros(1, 3, 32, 32), target="true")
    names = ("True", *NAMES[1:])
    model = replace(model, class_names=names)
    rows = rows_of(job_on(tmp_path, model, targets=("true",)))
    assert {row["class_index"] for row in rows.values()} == {0}, "the class of this name"
    truth = write_csv(tmp_path, "class_index", dict.fromkeys(ANTS, 4))
    rows = rows_of(job_on(tmp_path, model, truth, targets=("true",)))
    assert {row["class_index"] for row in rows.values()} == {4}


def test_shards_merge_their_counts(tmp_path: Path, model: Model, photos: list[Path]) -> None:
    true = classes_by_rank(shares_of(tmp_path, model))
    job = job_on(tmp_path, model, write_csv(tmp_path, "class_index", true), batch_size=1)
    list(pipeline.run(job))
    shared = tmp_path / "shared"
    for spec in ("1/2", "2/2"):
        sources, shard = shard_of(job.sources, spec, 1)
        list(pipeline.run(replace(job, sources=sources, shard=shard, output=shared)))
    merge([shared], shared)
    assert manifest(shared) == manifest(tmp_path / "out")
    records = [record_in(folder) for folder in (tmp_path / "out", shared)]
    assert records[0]["accuracy"] == records[1]["accuracy"] == {"images": 5, "top1": 1, "top5": 3}


def test_a_shard_may_have_no_true_class(tmp_path: Path, model: Model, photos: list[Path]) -> None:
    job = job_on(tmp_path, model, write_csv(tmp_path, "class_index", {"0.jpg": 1}), batch_size=1)
    sources, shard = shard_of(job.sources, "2/2", 1)
    with pytest.warns(CamcliWarning, match="2 of 2, which have no label"):
        list(pipeline.run(replace(job, sources=sources, shard=shard)))


def test_a_truth_can_be_sent(tmp_path: Path, model: Model, photos: list[Path]) -> None:
    job = job_on(tmp_path, model, write_csv(tmp_path, "class", {"0.jpg": "Gnu"}))
    sent = pickle.loads(pickle.dumps(job.truth))  # noqa: S301 - made here
    assert [sent.label(source) for source in job.sources] == [
        job.label(source) for source in job.sources
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column 'image': expected a first line with image"),
        ("image,class", "expected rows under image,class or image,class_index"),
        ("name,class\na,bee", "no column 'image': expected a first line with image"),
        ("image,label\na,bee", "expected rows under image,class or image,class_index"),
        ("image,class,class_index\na,bee,1", "expected rows under image,class or image,class"),
        ("image,class\n0.jpg,", "line 2: expected image,class"),
        ("image,class\n0.jpg", "line 2: expected image,class"),
        ("image,class\n,bee", "line 2: expected image,class"),
        (
            "image,class\n0.jpg,bee\n0.jpg,Bee\n0.jpg,ant",
            "line 4: 0.jpg is 'ant' here, and 'bee'",
        ),
        ("image,class\n0.jpg,3", "line 2: label 3 is a number, not a name: expected --class-map"),
        ("image,class_index\n0.jpg,bee", "line 2: 'bee': expected the index of a class, from 0 to"),
        ("image,class_index\n0.jpg,9", "line 2: '9': expected the index of a class, from 0 to 8"),
        ("image,class_index\n0.jpg,-1", "line 2: '-1': expected the index of a class, from 0 to 8"),
        ("image,class_index\n0.jpg," + "9" * 5000, "expected the index of a class, from 0 to 8"),
        ("image,class_index\n0.jpg,1\n0.jpg,2", "line 3: 0.jpg is 'crane' here, and 'bee' in an"),
    ],
)
def test_wrong_files_are_one_line(tmp_path: Path, model: Model, text: str, message: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(AnnotationError) as raised:
        read_truth(TruthOptions(f"csv:{tmp_path / 't.csv'}"), model)
    assert str(raised.value).startswith(f"{tmp_path / 't.csv'}")
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("truth", "class_map", "message"),
    [
        ("folders", None, "--truth 'folders': expected folder or csv:FILE"),
        ("csv:", None, "--truth 'csv:': expected folder or csv:FILE"),
        ("csv:none.csv", None, "none.csv: No such file"),
        (None, "t.txt", "--class-map is for --truth: expected --truth folder or csv:FILE"),
        ("folder", "none.txt", "none.txt: No such file"),
        ("csv:indices.csv", "t.txt", "--class-map is for labels, and .* column class_index"),
    ],
)
def test_wrong_options_are_one_line(
    truth: str | None,
    class_map: str | None,
    message: str,
    model: Model,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("t.txt").write_text("in: 1")
    Path("indices.csv").write_text("image,class_index\n0.jpg,1")
    with pytest.raises(CamcliError, match=message):
        read_truth(TruthOptions(truth, Path(class_map) if class_map else None), model)


def test_networks_without_classes_are_refused(model: Model) -> None:
    with pytest.raises(CamcliError, match=r"--truth is for classes, .* values \(--activation none"):
        read_truth(TruthOptions("folder"), replace(model, activation="none"))
    with pytest.raises(CamcliError, match="--truth is for classification; custom is for segmenta"):
        read_truth(TruthOptions("folder"), replace(model, task="segmentation"))
    with pytest.raises(AnnotationError, match="no class names to match labels with"):
        read_truth(TruthOptions("folder"), replace(model, class_names=None))


def test_labels_that_fit_no_image_are_refused(
    tmp_path: Path, model: Model, photos: list[Path]
) -> None:
    with pytest.raises(AnnotationError, match="known class: label 'in': did you mean 'ant', "):
        job_on(tmp_path, model, "folder").check()
    truth = write_csv(tmp_path, "class", {"in/0.jpg": "bee"})
    expected = r"such as '0.jpg': expected names as in the manifest, not 'in/0.jpg'"
    with pytest.raises(AnnotationError, match=expected):
        job_on(tmp_path, model, truth).check()
    assert not (tmp_path / "out" / "run.json").exists()


def test_a_class_that_the_network_lacks_stops_the_run(
    tmp_path: Path, model: Model, photos: list[Path]
) -> None:
    """The number of classes is unknown until the network ran."""
    model = replace(model, class_names=None, num_classes=None)
    job = job_on(tmp_path, model, write_csv(tmp_path, "class_index", dict.fromkeys(ANTS, 9)))
    with pytest.raises(CamcliError, match="true class 9: the model has 9 classes"):
        list(pipeline.run(job))


@pytest.mark.parametrize(
    ("images", "top1", "classes", "expected"),
    [
        (49, 0, 1000, False),
        (50, 0, 1000, True),
        (50, 1, 1000, False),
        (500, 1, 1000, True),
        (500, 3, 1000, False),
        (50, 25, 2, True),
        (50, 40, 2, False),
        (50, 50, 1, True),
    ],
)
def test_chance(images: int, top1: int, classes: int, *, expected: bool) -> None:
    assert is_chance({"images": images, "top1": top1, "top5": 0}, classes) is expected


def test_a_run_like_chance_warns(tmp_path: Path, model: Model) -> None:
    photos = [make_photo(tmp_path / "in" / f"{i}.png", 40, 40) for i in range(50)]
    worst = int(shares_of(tmp_path, model)["0.png"].argmin())
    labels = dict.fromkeys((photo.name for photo in photos), worst)
    with pytest.warns(CamcliWarning, match="0 of 50 images are right, as by chance among 9 class"):
        list(pipeline.run(job_on(tmp_path, model, write_csv(tmp_path, "class_index", labels))))


@pytest.mark.parametrize(("classes", "top5"), [(5, None), (6, True)])
def test_five_classes_have_no_five_best(classes: int, top5: bool | None) -> None:
    ranking, label = torch.arange(classes)[None].float(), Label("a", frozenset({1}))
    (found,) = predictions(ranking, torch.tensor([0.5]), [label], None)
    assert (found.correct, found.top5) == (False, top5)
    right = accuracy([found._asdict()])
    assert counts_of(right) == {"images": 1, "top1": 0} | ({"top5": 1} if top5 else {})
    assert counts_of(Counter()) == {"images": 0, "top1": 0, "top5": 0}
