"""Shards: disjoint parts of a list of images in whole batches."""

from __future__ import annotations

from pathlib import Path

import pytest

from camcli.errors import CamcliError
from camcli.images.source import Source
from camcli.runs.shards import shard_of

SOURCES = [Source(Path(str(i)), Path(str(i))) for i in range(13)]


@pytest.mark.parametrize("count", [1, 2, 3, 7])
@pytest.mark.parametrize("batch_size", [1, 2, 3, 4, 5])
def test_shards_are_a_partition_in_whole_batches(count: int, batch_size: int) -> None:
    batches = [SOURCES[start : start + batch_size] for start in range(0, 13, batch_size)]
    for i in range(1, count + 1):
        mine, shard = shard_of(SOURCES, f"{i}/{count}", batch_size)
        assert [*mine] == [source for batch in batches[i - 1 :: count] for source in batch]
        assert shard.share(batch_size) == len(mine)
        assert (shard.name, shard.images) == (f"{i}-of-{count}", 13)


def test_shards_of_other_images_have_another_digest() -> None:
    assert shard_of(SOURCES, "1/2", 4)[1].names == shard_of(list(SOURCES), "2/2", 4)[1].names
    assert shard_of(SOURCES, "1/2", 4)[1].names != shard_of(SOURCES[1:], "1/2", 4)[1].names


@pytest.mark.parametrize("spec", ["0/2", "3/2", "1", "1/0", "-1/2", "a/b", "1/2/3", ""])
def test_malformed_shards_are_refused(spec: str) -> None:
    with pytest.raises(CamcliError, match=r"--shard '.*': expected I/N with I from 1 to N"):
        shard_of(SOURCES, spec, 1)
