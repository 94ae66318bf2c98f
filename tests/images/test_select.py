"""Lists of paths, and globs that include and exclude images."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from camcli.errors import CamcliError
from camcli.images.listing import Listing
from camcli.images.select import filter_sources, read_list
from camcli.images.source import Source

SOURCES = Listing.of(
    Source(Path("/x", name), Path(name)) for name in ("a.jpg", "s/a.png", "s/t/b.jpg", "ü")
)


@pytest.mark.parametrize(
    ("include", "exclude", "names"),
    [
        ([], [], ["a.jpg", "s/a.png", "s/t/b.jpg", "ü"]),
        (["*.jpg"], [], ["a.jpg", "s/t/b.jpg"]),
        (["*.jpg", "?"], ["b*"], ["a.jpg", "ü"]),
        (["s/*"], [], ["s/a.png", "s/t/b.jpg"]),
        ([], ["s/t/*", "a.jpg"], ["s/a.png", "ü"]),
        (["[ab].[jp][pn]g"], ["*/t/*"], ["a.jpg", "s/a.png"]),
    ],
)
def test_globs_match_file_names_or_paths(
    include: list[str], exclude: list[str], names: list[str]
) -> None:
    found = filter_sources(SOURCES, include, exclude)
    assert [source.image for source in found] == names


@pytest.mark.parametrize(
    ("data", "paths"),
    [
        (b"a.jpg\nb c.jpg\r\n\n'q' \"r\".jpg", ["a.jpg", "b c.jpg", "'q' \"r\".jpg"]),
        (b"a\nb.jpg\0\xff.jpg\0", ["a\nb.jpg", "\udcff.jpg"]),
        (b"", []),
    ],
)
def test_lists_are_read_from_files_and_standard_input(
    data: bytes, paths: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "list").write_bytes(data)
    assert [*read_list(str(tmp_path / "list"))] == paths
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))
    assert [*read_list("-")] == paths


def test_a_missing_list_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CamcliError, match=r"^--from-file '.*none': No such file or directory$"):
        next(read_list(str(tmp_path / "none")))
