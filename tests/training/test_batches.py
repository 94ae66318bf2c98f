"""Sampling images from several sources, and the classes that a label is contrasted with."""

from __future__ import annotations

import numpy as np

from camcli.training.batches import candidate_classes, draw_indices, sampling_groups
from camcli.training.data import Dataset


def dataset(name: str, counts: dict[int, int]) -> Dataset:
    """A dataset of two classes with this number of images for each label."""
    labels = np.repeat(list(counts), list(counts.values())).astype(np.int64)
    names = tuple(f"{label}/{i}" for i, label in enumerate(labels))
    return Dataset(name, ("a", "b"), names, labels, (np.zeros((2, 2, 3), np.uint8),) * len(names))


def test_groups_are_drawn_in_proportion_to_the_root_of_their_size() -> None:
    groups = sampling_groups([dataset("many", {0: 400, 1: 100}), dataset("few", {1: 25})])
    shares = [(len(group), round(share * 35)) for group, share in groups]
    assert shares == [(400, 20), (100, 10), (25, 5)]
    drawn = draw_indices(groups, 350, np.random.default_rng(0))
    counts = np.bincount(drawn, minlength=525)
    for part, expected in ((counts[:400], 200), (counts[400:500], 100), (counts[500:], 50)):
        assert abs(part.sum() - expected) <= 1
        assert part.max() - part.min() <= 1, "an image is repeated before all others are drawn"
    assert not np.array_equal(drawn, draw_indices(groups, 350, np.random.default_rng(1)))


def test_label_is_contrasted_only_with_classes_of_its_source() -> None:
    complete, partial = dataset("complete", {0: 4, 1: 4}), dataset("partial", {1: 4})
    mask, resolution = candidate_classes([complete, partial])
    assert mask.tolist() == [[True, True], [False, True]]
    assert resolution == 2, "1.25 times the 2 pixels of the complete source, rounded"


def test_without_a_complete_source_all_classes_are_contrasted() -> None:
    mask, _ = candidate_classes([dataset("one", {0: 4}), dataset("other", {1: 4})])
    assert mask.all()
