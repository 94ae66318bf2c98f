"""Reading labelled images from folders and zips, and splitting them."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from camcli.errors import TrainingError
from camcli.training.data import read_dataset, relabel, split
from tests.support.training import COLOURS


def test_folder_and_zip_give_the_same_dataset(folder: Path, tmp_path: Path) -> None:
    packed = Path(shutil.make_archive(str(tmp_path / "squares"), "zip", folder))
    with zipfile.ZipFile(packed, "a") as archive:
        archive.writestr("red/notes.txt", "not an image")
        archive.writestr("__MACOSX/red/._00.png", b"not an image")
    unpacked, zipped = read_dataset(folder), read_dataset(packed)
    assert unpacked.classes == zipped.classes == tuple(COLOURS)
    assert unpacked.names == zipped.names
    assert np.array_equal(unpacked.labels, zipped.labels)
    assert all(map(np.array_equal, unpacked.pixels, zipped.pixels))
    assert np.bincount(unpacked.labels).tolist() == [40, 40, 40]
    assert all(
        name.startswith(f"{unpacked.classes[label]}/")
        for name, label in zip(unpacked.names, unpacked.labels, strict=True)
    )


def test_only_images_larger_than_the_limit_are_downscaled(folder: Path) -> None:
    small, unchanged = read_dataset(folder, max_side=18), read_dataset(folder, max_side=36)
    assert {pixels.shape for pixels in small.pixels} == {(18, 18, 3), (18, 22, 3)}
    assert all(map(np.array_equal, unchanged.pixels, read_dataset(folder).pixels))


def test_split_depends_only_on_each_name(folder: Path) -> None:
    dataset = read_dataset(folder)
    train, val = split(dataset, 0.25)
    assert sorted(train.names + val.names) == sorted(dataset.names)
    assert 18 <= len(val) <= 42, "about a quarter of 120"
    fewer = dataset.subset(np.arange(len(dataset)) > 50)
    assert set(split(fewer, 0.25)[1].names) == set(val.names) & set(fewer.names)
    assert set(split(dataset, 0.1)[1].names) < set(val.names)
    assert len(split(dataset, 0.9, limit=12)[1]) < 30


def test_relabelled_images_keep_their_class(folder: Path) -> None:
    dataset = read_dataset(folder)
    more = relabel(dataset, ("amber", *COLOURS))
    assert np.array_equal(more.labels, dataset.labels + 1)
    assert more.has_class.tolist() == [False, True, True, True]
    with pytest.raises(TrainingError, match="has the class 'green': expected blue, red"):
        relabel(dataset, ("blue", "red"))
