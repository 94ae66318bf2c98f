"""The records of classes and confusions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from camcli.audit.classes import EXAMPLES, class_record, confusions, estimate
from camcli.audit.read import read_samples
from camcli.audit.samples import Samples
from camcli.evaluation.intervals import mean_intervals
from tests.support.audit import blob, result, write_heat


@pytest.fixture
def samples(tmp_path: Path) -> Samples:
    """Six images of `a`, of which two are taken for `b` and one for `c`, and two of `b`."""
    wrong = {1: "b", 3: "b", 4: "c"}
    rows = [
        result(
            f"a/{i}", blob(0.1 * i + 0.1, 0.5), confidence=0.1 * i + 0.2,
            predicted_name=wrong.get(i, "a"), correct=i not in wrong,
        )
        for i in range(6)
    ]  # fmt: skip
    rows += [result(f"b/{i}", blob(0.9, 0.9)) for i in range(2)]
    return read_samples(write_heat(tmp_path, rows))


def test_a_class_has_its_accuracy_and_confidence(samples: Samples) -> None:
    found = class_record(samples, samples.by_class[0], 0)
    assert (found["class"], found["images"], found["correct"]) == ("a", 6, 3)
    assert found["accuracy"]["mean"] == pytest.approx(0.5)
    assert found["confidence_wrong"]["mean"] == pytest.approx(np.mean([0.3, 0.5, 0.6]))
    assert found["confidence_right"]["mean"] == pytest.approx(np.mean([0.2, 0.4, 0.7]))


def test_the_heat_of_right_and_wrong_images_is_apart(samples: Samples) -> None:
    found = class_record(samples, samples.by_class[0], 0)
    right, wrong = (np.array(found["maps"][name]) for name in ("right", "wrong"))
    np.testing.assert_allclose(right, samples.heat[[0, 2, 5]].mean(0, dtype=float), atol=1e-4)
    np.testing.assert_allclose(wrong, samples.heat[[1, 3, 4]].mean(0, dtype=float), atol=1e-4)
    assert class_record(samples, samples.by_class[1], 1)["maps"]["wrong"] is None


def test_all_images_are_a_record_without_a_class(samples: Samples) -> None:
    found = class_record(samples, np.arange(8), None)
    assert (found["class"], found["images"], found["correct"]) == (None, 8, 5)
    expected = samples.shares["border"].mean()
    assert found["shares"]["border"]["mean"] == pytest.approx(expected)


def test_confusions_are_ordered_by_their_number(samples: Samples) -> None:
    first, second = confusions(samples)
    assert (first["true"], first["predicted"], first["images"]) == ("a", "b", 2)
    assert first["share"] == pytest.approx(2 / 6)
    assert first["confidence"] == pytest.approx(0.4)
    assert first["examples"] == ["a/3", "a/1"], "the surest first"
    assert (second["predicted"], second["images"]) == ("c", 1)


def test_a_confusion_has_few_examples(tmp_path: Path) -> None:
    rows = [
        result(f"a/{i:02}", blob(0.5, 0.5), predicted_name="b", correct=False) for i in range(20)
    ]
    (found,) = confusions(read_samples(write_heat(tmp_path, rows)))
    assert found["images"] == 20
    assert len(found["examples"]) == EXAMPLES


@pytest.mark.parametrize("count", [2, 10, 60])
def test_intervals_are_those_of_evaluate(count: int) -> None:
    values = np.random.default_rng(0).random(count)
    found = estimate([*values, np.nan])
    ((low, high),) = mean_intervals(values[None], 0)
    assert found == pytest.approx(
        {"mean": values.mean(), "low": low, "high": high, "images": count}
    )


def test_a_single_value_has_no_interval() -> None:
    assert estimate([0.5]) == {"mean": 0.5, "low": None, "high": None, "images": 1}
    assert estimate([np.nan]) is None
