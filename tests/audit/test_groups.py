"""Groups of images that the network treats alike."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.cluster import SpectralClustering
from sklearn.metrics import adjusted_rand_score

from camcli.audit.groups import LEAST_IMAGES, MOST_IMAGES, Groups, find_groups
from camcli.audit.read import read_samples
from camcli.audit.samples import Samples
from camcli.errors import CamcliError
from tests.support.audit import fixed, write_heat

CORNERS = ((0.1, 0.1), (0.9, 0.1), (0.5, 0.9))


def _samples(folder: Path, counts: tuple[int, ...]) -> Samples:
    """Return samples of one class whose heat is in as many places."""
    rows, start = [], 0
    for count, place in zip(counts, CORNERS, strict=False):
        rows += fixed("a", 0, count, place, start)
        start += count
    return read_samples(write_heat(folder, rows))


def _labels(found: Groups, count: int) -> np.ndarray:
    labels = np.full(count, -1)
    for group, numbers in enumerate(found.members):
        labels[numbers] = group
    return labels


@pytest.mark.parametrize("counts", [(30, 30), (40, 12), (30, 20, 10)])
def test_separate_places_are_groups(tmp_path: Path, counts: tuple[int, ...]) -> None:
    samples = _samples(tmp_path, counts)
    found = find_groups(samples, samples.by_class[0])
    assert found
    assert sorted(map(len, found.members)) == sorted(counts)
    truth = np.repeat(np.arange(len(counts)), counts)
    assert adjusted_rand_score(truth, _labels(found, sum(counts))) == 1
    assert found.stability == 1
    assert [*found.separations] == sorted(found.separations, reverse=True)


def test_groups_are_those_of_a_library(tmp_path: Path) -> None:
    """scikit-learn's own spectral clustering of the same points has the same groups."""
    samples = _samples(tmp_path, (30, 20, 10))
    found = find_groups(samples, samples.by_class[0])
    points = np.sqrt(samples.heat.reshape(60, -1).astype(float))
    theirs = SpectralClustering(3, affinity="rbf", gamma=2, random_state=0)
    labels = theirs.fit_predict(points)
    assert found
    assert adjusted_rand_score(labels, _labels(found, 60)) == 1


def test_eigenvalues_show_the_number_of_groups(tmp_path: Path) -> None:
    samples = _samples(tmp_path, (30, 20, 10))
    found = find_groups(samples, samples.by_class[0])
    assert found
    np.testing.assert_allclose(found.eigenvalues[:3], 0, atol=1e-9)
    assert found.eigenvalues[3] > 0.05


def test_one_place_is_one_group(tmp_path: Path) -> None:
    samples = _samples(tmp_path, (50,))
    found = find_groups(samples, samples.by_class[0])
    assert found
    assert len(found.members) == 1
    assert found.stability == 1


def test_few_images_have_no_groups(tmp_path: Path) -> None:
    samples = _samples(tmp_path, (LEAST_IMAGES - 1,))
    assert find_groups(samples, samples.by_class[0]) is None


def test_of_many_images_some_are_drawn(tmp_path: Path) -> None:
    samples = _samples(tmp_path, (MOST_IMAGES, 40))
    one, same, other = (find_groups(samples, samples.by_class[0], seed) for seed in (1, 1, 2))
    assert one
    assert same
    assert other
    drawn, again, others = (np.concatenate(found.members) for found in (one, same, other))
    assert len({*drawn}) == MOST_IMAGES
    np.testing.assert_array_equal(drawn, again)
    assert {*drawn} != {*others}


def test_a_missing_package_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = _samples(tmp_path, (LEAST_IMAGES,))
    for name in ("sklearn", "sklearn.cluster"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(CamcliError, match=r"pip install 'camcli\[audit\]'"):
        find_groups(samples, samples.by_class[0])
