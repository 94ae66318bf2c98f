"""Counts, quartiles and the sign test of two networks' results, and what is said of them."""

from __future__ import annotations

import math
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from camcli.snapshots import agreement_tables as tables
from camcli.snapshots.agreement import Agreement
from camcli.snapshots.class_agreement import sign_test
from camcli.snapshots.networks import Contrast, contrasts
from tests.support.snapshots import PEAK, write_output

RUN = {
    "model": "mini", "weights": "DEFAULT", "weights_hash": "sha256:1", "layers": ["auto"],
    "fit": "preset", "device": "cpu", "versions": {"camcli": "1", "python": "3"},
}  # fmt: skip


def row(image: int, side: str = "", **fields: Any) -> dict[str, Any]:
    return {
        **{"image": f"{image}.jpg", "method": "gradcam", "target": "pred", "status": "ok"},
        **{"class_index": 3, "class_name": "cat", "probability": 0.5, **fields},
    }


def added(*found: Contrast, runs: tuple[Any, Any] = ({}, {}), keep: int = 0) -> Agreement:
    agreement = Agreement(runs, keep)
    for one in found:
        agreement.add(one)
    return agreement


@pytest.mark.parametrize(("a", "b"), [*product(range(0, 13, 3), (0, 1, 5, 12))])
def test_the_sign_test_against_its_definition(a: int, b: int) -> None:
    """Add the probabilities of all outcomes that are no more likely than this one."""
    if not a + b:
        assert sign_test(a, b) is None
        return
    outcomes = [math.comb(a + b, k) / 2 ** (a + b) for k in range(a + b + 1)]
    expected = sum(p for p in outcomes if p <= outcomes[a])
    assert sign_test(a, b) == pytest.approx(expected, rel=1e-9)


def test_the_sign_test_of_many_images() -> None:
    """100 standard deviations from the middle, and a difference that is none."""
    assert sign_test(500_000, 500_000) == pytest.approx(1, abs=1e-3)
    p = sign_test(499_000, 501_000)  # two standard deviations
    assert p == pytest.approx(math.erfc(2 / math.sqrt(2)), rel=0.01)
    assert sign_test(0, 100_000) == 0


def test_images_are_counted_once() -> None:
    """Two methods of an image, one of an image of A alone, and one method that B has not."""
    found = added(
        Contrast(row(1), row(1), 0.5, 0.1),
        Contrast(row(1, method="cam"), row(1, method="cam"), 0.7, 0.2),
        Contrast(row(2), None),
        Contrast(row(1, method="lime"), None),
        Contrast(None, row(3)),
    ).record()
    assert found["images"] == {"both": 1, "a": 1, "b": 1}
    assert found["results"] == {"both": 2, "a": 2, "b": 1}
    assert found["classes"] == {"same": 1, "other": 0}
    assert [*tables.summary_lines(found)] == [
        "in both: 2 results of 1 image",
        "only in A: 2 results, 1 image",
        "only in B: 1 result, 1 image",
        "same class predicted: 100.0%, 1 of 1 image",
    ]


def test_classes_come_from_the_row_that_has_them() -> None:
    """The first row of an older folder explains a given class; a later one the best class."""
    found = added(
        Contrast(row(1, target="cat"), row(1, target="cat"), 1, 0),
        Contrast(row(1), row(1, class_name="dog", class_index=4), 1, 0),
    ).record()
    assert found["classes"] == {"same": 0, "other": 1}


def test_who_is_right() -> None:
    counts = {(True, True): 5, (True, False): 4, (False, True): 1, (False, False): 2}
    pairs = [pair for pair, count in counts.items() for _ in range(count)]
    found = added(
        *(Contrast(row(n, correct=a), row(n, correct=b)) for n, (a, b) in enumerate(pairs)),
        Contrast(row(99, correct=True), row(99)),
    ).record()
    assert found["correct"] == {"a": {"right": 10, "images": 13}, "b": {"right": 6, "images": 12}}
    p = found["right"].pop("p")
    assert found["right"] == {"both": 5, "a": 4, "b": 1, "neither": 2}
    assert p == pytest.approx(2 * (1 + 5) / 32)
    assert added(Contrast(row(1), row(1))).record()["right"] is None


def test_true_classes_of_one_folder_alone_are_said() -> None:
    one = Contrast(row(1), row(1, correct=False, true_name="dog"))
    (line,) = added(one).warnings()
    assert line.startswith("only B has true classes: explain the other with --truth")
    assert not [*added(one, Contrast(row(2, correct=True), row(2))).warnings()]


def test_quartiles_of_each_method_and_explained_class() -> None:
    rng = np.random.default_rng(0)
    numbers = rng.random((40, 2))
    found = added(
        *(
            Contrast(row(n), row(n, class_name="cat" if n % 2 else "dog"), *numbers[n].tolist())
            for n in range(40)
        ),
        Contrast(row(40), row(40), note="failed in A"),
        Contrast(row(41), row(41), note="map of A not readable (gone)"),
        Contrast(row(42), row(42), note="map of A not readable (torn)"),
        Contrast(row(43), row(43)),
        Contrast(row(44, class_name=None, class_index=None), row(44), 0.5, 0.5),
    ).record()
    same, other, unknown = found["methods"]
    for one, part in ((same, numbers[1::2]), (other, numbers[::2])):
        low, median, high = np.percentile(part[:, 0], (25, 50, 75))
        assert one["correlation"] == pytest.approx({"median": median, "low": low, "high": high},
                                                   abs=1e-6)  # fmt: skip
        assert one["shift"] == pytest.approx(np.median(part[:, 1]), abs=1e-6)
        assert one["compared"] == 20
    assert [one["results"] for one in (same, other, unknown)] == [24, 20, 1]
    assert found["not_compared"] == {"failed in A": 1, "map of A not readable": 2}


@pytest.mark.parametrize("keep", [0, 1, 5, 30, 100])
def test_the_strongest_disagreements_are_kept_in_order(keep: int) -> None:
    rng = np.random.default_rng(1)
    found = [
        Contrast(row(n), row(n), round(float(c), 1), 0)  # some are equal
        for n, c in enumerate(rng.random(60))
    ]
    expected = sorted(found, key=lambda one: one.rank)[:keep]
    assert added(*found, keep=keep).most == expected


@pytest.mark.parametrize(
    ("names_a", "names_b", "warned"),
    [
        ("abcdefghijkl", "abcdefghijkl", None),
        ("abcdefghijkl", "lkjihgfedcba", None),
        ("abcdefghijkl", "mnopqrstuvwx", "hardly any predicted class has a name that both"),
        ("abcdefghijkl", "zzzzzzzzzzzz", None),  # a network that gives one class
        ("abcdefghijkl", [None] * 12, "only A has class names: classes are compared by index"),
        ([None] * 12, "abcdefghijkl", "only B has class names: classes are compared by index"),
        ([None] * 12, [None] * 12, None),
    ],
)
def test_names_of_classes_that_do_not_fit(names_a: Any, names_b: Any, warned: str | None) -> None:
    agreement = added(
        *(
            Contrast(row(n, class_name=a), row(n, class_name=b))
            for n, (a, b) in enumerate(zip(names_a, names_b, strict=True))
        )
    )
    lines = [*agreement.warnings()]
    assert len(lines) == bool(warned)
    assert not warned or lines[0].startswith(warned)


@pytest.mark.parametrize(
    ("change", "warned"),
    [
        ({}, True),
        ({"fit": "full"}, False),
        ({"preprocessing": {"resize": 300}}, False),
        ({"weights_hash": None}, False),
        ({"seconds": 3}, True),
    ],
)
def test_the_same_run_twice(change: dict[str, Any], warned: bool) -> None:
    lines = [*added(Contrast(row(1), row(1)), runs=(RUN | change, RUN)).warnings()]
    assert len(lines) == warned
    assert not warned or "there is nothing to compare" in lines[0]
    assert [*added(Contrast(row(1), row(1))).warnings()] == []


def test_other_files_of_the_same_name_are_said() -> None:
    """Digests are the same for the same bytes only if versions and device are."""
    one = Contrast(row(1, digest="x-1"), row(1, digest="y-2"))
    same = Contrast(row(2, digest="x-1"), row(2, digest="y-1"))
    old = Contrast(row(3), row(3, digest="y-1"))
    other = RUN | {"weights_hash": "sha256:2"}
    (line,) = added(one, same, old, runs=(RUN, other)).warnings()
    assert line.endswith("with other digests: 1")
    assert not [*added(one, runs=(RUN, other | {"device": "cuda:0"})).warnings()]
    assert not [*added(one, runs=({}, {})).warnings()]


def test_other_true_classes_and_layers_are_said(tmp_path: Path) -> None:
    (line,) = added(Contrast(row(1, true_name="cat"), row(1, true_name="dog"))).warnings()
    assert line == "images with another true class in B than in A: 1"
    a, b = (write_output(tmp_path / name, {"x.jpg": PEAK}, layer="1") for name in "ab")
    for folder, layer in ((a, "2"), (b, "3")):
        text = (folder / "manifest.jsonl").read_text()
        (folder / "manifest.jsonl").write_text(text + text.replace('"1"', f'"{layer}"'))
    (line,) = added(*contrasts(a, b)).warnings()
    assert line.startswith("results of several layers")
    assert line.endswith("alone: 2")
