"""A list of images in few bytes holds what a list of sources holds."""

from __future__ import annotations

import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from camcli.errors import CamcliError
from camcli.images import listing
from camcli.images.decode import STDIN
from camcli.images.listing import Folder, Hashes, Listing, repeated
from camcli.images.source import Source
from camcli.images.store import RemotePath

SOURCES = [
    Source(Path("/in/a.jpg"), "a.jpg"),
    Source(Path("/in/sub/b"), "sub/b"),
    Source(STDIN, "stdin"),
    Source("/in/sub/\udcff .png", "sub/\udcff .png"),
    Source(RemotePath("s3://bucket?x=1", "k/c.jpg"), "c.jpg"),
    Source(Path("c.jpg"), "up/c.jpg", keeps_suffix=True),
    Source(Path("/in/a.jpg"), "a.jpg"),
]


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 4096])
def test_sources_of_a_list_are_those_that_were_given(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "CHUNK", chunk)
    found = Listing.of(SOURCES)
    for same in (found, pickle.loads(pickle.dumps(found))):  # noqa: S301 - as Ray does
        assert len(same) == len(SOURCES)
        pairs = zip([*same, *map(same.__getitem__, range(-7, 0))], SOURCES * 2, strict=True)
        for made, given in pairs:
            assert (made.path, made.image, made.stem) == (given.path, given.image, given.stem)
        assert [one.path for one in same[5:1:-2]] == [one.path for one in SOURCES[5:1:-2]]
        assert [*same.images()] == [one.image for one in SOURCES]
        assert [*same.stems()] == [one.stem for one in SOURCES]
    some = found.where(np.arange(7) % 2 == 1)
    assert [(one.path, one.stem) for one in some] == [(x.path, x.stem) for x in SOURCES[1::2]]
    assert not Listing.of([])
    assert repeated(found.images, 7) == {"a.jpg"}


@pytest.mark.parametrize("count", [0, 1, 2, 100])
def test_texts_are_found_by_their_hashes(count: int) -> None:
    texts = [*map(str, range(count))]
    made = Hashes(texts, count)
    found = made.contain([*map(str, range(-50, 150))])
    assert found.tolist() == [0 <= number < count for number in range(-50, 150)]
    assert made.contain_all(texts)
    assert not made.contain_all([*texts, "x"])


def test_a_name_with_nul_is_refused() -> None:
    with pytest.raises(CamcliError, match=r"'a\\x00.jpg': expected a name without NUL"):
        Listing([(Folder("in/", ""), ["a\0.jpg"])])


def test_an_image_takes_few_bytes_more_than_its_name() -> None:
    folder, names = Folder("in/", ""), [f"{number:012}.jpg" for number in range(100_000)]
    tracemalloc.start()
    found = Listing([(folder, names)])
    held = tracemalloc.get_traced_memory()[0] / len(found)
    tracemalloc.stop()
    assert held < len(names[0]) + 8
