"""Rows of two manifests are paired by what they are about, in any order."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from camcli.errors import CamcliError
from camcli.images.store import AnyPath, RemotePath
from camcli.snapshots import pairs
from camcli.snapshots.compare import compare
from camcli.snapshots.measures import Tolerance
from camcli.snapshots.pairs import read_index
from tests.support.snapshots import PEAK, write_output, write_rows
from tests.support.stores import upload


def row(image: str, **fields: Any) -> dict[str, Any]:
    return {"image": image, "method": "m", "target": "t", "status": "ok", "layer": "a", **fields}


def paired(tmp_path: Path, new: list[dict[str, Any]], old: list[dict[str, Any]]) -> list[Any]:
    """Return the images and numbers of the rows of each pair."""
    write_rows(tmp_path / "new", new)
    write_rows(tmp_path / "old", old)
    return [
        tuple(one and (one["image"], one.get("n")) for one in (pair.new, pair.baseline))
        for pair in pairs.pairs(read_index(tmp_path / "new"), read_index(tmp_path / "old"))
    ]


def test_rows_in_any_order(tmp_path: Path) -> None:
    old = [row(f"{i}.jpg", n=i) for i in range(500)]
    new = [*random.Random(0).sample(old[50:], 450), row("extra.jpg", n=-1)]
    found = paired(tmp_path, new, old)
    assert [one for _, one in found] == [*((f"{i}.jpg", i) for i in range(500)), None]
    assert [one for one, _ in found[:50]] == [None] * 50
    assert [one for one, _ in found[50:500]] == [other for _, other in found[50:500]]
    assert found[-1] == (("extra.jpg", -1), None)


def test_of_several_rows_of_one_result_the_last_counts(tmp_path: Path) -> None:
    old = [row("a", n=1), row("b", n=2), row("a", n=3)]
    assert paired(tmp_path, [row("b", n=4), row("b", n=5)], old) == [
        (None, ("a", 3)),
        (("b", 5), ("b", 2)),
    ]


def test_layers_decide_where_there_are_several(tmp_path: Path) -> None:
    """An image of one layer on both sides is a pair, whichever layer it is."""
    old = [row("a", layer="x"), row("b", layer="x", n=1), row("b", layer="y", n=2)]
    new = [row("b", layer="y", n=3), row("a", layer="z")]
    assert paired(tmp_path, new, old) == [
        (("a", None), ("a", None)),
        (None, ("b", 1)),
        (("b", 3), ("b", 2)),
    ]


def test_texts_with_separators_are_different_results(tmp_path: Path) -> None:
    old = [row("a', 'm", target="t"), row("a", target="', 'm"), row("a", target="t\0")]
    assert [one == other for one, other in paired(tmp_path, old[::-1], old)] == [True] * 3


@pytest.mark.parametrize("on_store", [False, True])
def test_a_manifest_that_grows_while_it_is_read(
    on_store: bool, store: RemotePath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_output(tmp_path / "new", {"a.jpg": PEAK})
    upload(tmp_path, store)
    old = write_output(tmp_path / "old", {"a.jpg": PEAK})
    read = pairs.read_index

    def growing(folder: AnyPath) -> pairs.Index:
        index, file = read(folder), folder / "manifest.jsonl"
        file.write_bytes(file.read_bytes() + json.dumps(row("b.jpg")).encode() + b"\n")
        return index

    monkeypatch.setattr("camcli.snapshots.compare.read_index", growing)
    with pytest.raises(CamcliError, match=r"new/manifest\.jsonl' changed while it was read"):
        compare((store if on_store else tmp_path) / "new", old, Tolerance())
