"""Remote paths: parsing, reading, writing, listing and errors."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from camcli.errors import CamcliError, ImageError
from camcli.images import store as stores
from camcli.images.decode import decode, fetch
from camcli.images.find import find
from camcli.images.store import RemotePath, canonical, parse_path
from tests.support.files import make_photo
from tests.support.stores import upload


@pytest.mark.parametrize(
    ("url", "root", "key", "shown"),
    [
        ("s3://bucket/a/b c.jpg", "s3://bucket", "a/b c.jpg", "s3://bucket/a/b c.jpg"),
        ("s3://b/a?region=x/y", "s3://b?region=x/y", "a", "s3://b/a"),
        ("s3://key:secret@b/a", "s3://key:secret@b", "a", "s3://b/a"),
        ("gs://bucket", "gs://bucket", "", "gs://bucket/"),
        ("file:///tmp/x", "file://", "tmp/x", "file:///tmp/x"),
    ],
)
def test_urls_are_parsed_and_shown_without_secrets(
    url: str, root: str, key: str, shown: str
) -> None:
    found = parse_path(url)
    assert found == RemotePath(root, key)
    assert str(found) == shown


def test_other_texts_are_local_paths(tmp_path: Path) -> None:
    assert parse_path("a/b:c") == Path("a/b:c")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert canonical(tmp_path / "link") == canonical(tmp_path / "file")


def test_paths_have_names_and_parents() -> None:
    path = RemotePath("s3://b?region=x", "a/b") / "c.jpg"
    assert (path.name, path.parent) == ("c.jpg", RemotePath("s3://b?region=x", "a/b"))
    assert RemotePath("s3://b", "a/b/").name == "b"


def test_files_are_written_read_listed_and_removed(store: RemotePath) -> None:
    file = store / "a" / "b.txt"
    assert not file.is_file()
    file.write_bytes(b"text")
    assert file.is_file()
    assert file.parent.is_dir()
    assert file.open().read() == file.read_bytes() == b"text"
    assert [*store.files(recursive=True)] == [file]
    assert [*store.files(recursive=False)] == [*(store / "none").files(recursive=True)] == []
    assert [*file.parent.glob("*.txt")] == [file]
    assert [*file.parent.glob("*.jpg")] == []
    file.unlink()
    assert not file.is_file()
    file.unlink(missing_ok=True)
    with pytest.raises(FileNotFoundError):
        file.unlink()


def test_a_failed_write_leaves_no_file(store: RemotePath) -> None:
    class Broken:
        def read(self, _: int) -> bytes:
            raise OSError(5, "broken")

    with pytest.raises(OSError, match="Input/output error"):
        (store / "file").write_from(Broken())  # type: ignore[arg-type]
    assert [*store.files(recursive=True)] == []


def test_a_fetched_file_is_read_once(store: RemotePath) -> None:
    (store / "file").write_bytes(b"text")
    fetched = fetch(store / "file")
    (store / "file").unlink()
    assert fetched.read_bytes() == fetched.open().read() == b"text"


def names(*given: object, **options: object) -> list[str]:
    found = find([str(path) for path in given], **options)  # type: ignore[arg-type]
    return [source.image for source in found]


def test_images_are_found_as_in_a_local_folder(store: RemotePath, tmp_path: Path) -> None:
    local = tmp_path / "in"
    for name in ("z.png", "a b.jpg", "sub/x.jpg", "sub/deep/y.jpg", "sub-1/w.jpg", "ü%20.jpg"):
        make_photo(local / name)
    for name in (".hidden.jpg", ".cache/h.jpg"):
        make_photo(local / name)
    (local / "notes.txt").touch()
    upload(local, store)
    assert names(store) == names(local)
    assert names(store, recursive=False) == names(local, recursive=False)
    given = (store / "sub" / "x.jpg", local / "z.png", store / "none")
    places = (f"{store.key}/sub/x.jpg", f"{local}/z.png", f"{store.key}/none")
    assert names(*given) == [place.lstrip("/") for place in places], "no folder is common to all"
    assert names(store / "sub" / "x.jpg", store / "none") == ["sub/x.jpg", "none"]


def test_output_folders_are_left_out_or_refused(store: RemotePath) -> None:
    for name in ("a.jpg", "out/b.jpg", "other/c.jpg"):
        (store / name).write_bytes(b"")
    (store / "out" / "manifest.jsonl").write_bytes(b"")
    assert names(store) == ["a.jpg", "other/c.jpg", "out/b.jpg"]
    (store / "out" / "run.json").write_bytes(b"")
    assert names(store) == ["a.jpg", "other/c.jpg"]
    assert names(store, skip=store / "other") == ["a.jpg"]
    with pytest.raises(CamcliError, match="is an output folder"):
        names(store / "out")
    with pytest.raises(CamcliError, match="is an output folder"):
        names(store, skip=store)


def test_errors_of_stores_are_one_line(store: RemotePath, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ImageError, match=r"^fsspec\+memory:///bucket/no.jpg: No such file or dir"):
        decode(store / "no.jpg")
    with pytest.raises(CamcliError, match=r"^'nix://there/': Unrecognized filesystem type"):
        find(["nix://there/x.jpg"])
    monkeypatch.setitem(sys.modules, "pyarrow.fs", None)
    stores._file_system.cache_clear()
    with pytest.raises(CamcliError, match=r"need pyarrow, .*: pip install 'camcli\[ray\]'"):
        find([str(store)])


def test_writing_to_a_file_url_leaves_no_temporary_file(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="stores need the extra camcli[ray]")
    (parse_path(f"file://{tmp_path}/a/b.txt")).write_bytes(b"text")  # type: ignore[union-attr]
    assert os.listdir(tmp_path / "a") == ["b.txt"]
    assert (tmp_path / "a" / "b.txt").read_bytes() == b"text"


def test_a_hub_that_refuses_connections_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyarrow", reason="stores need the extra camcli[ray]")
    pytest.importorskip("huggingface_hub", reason="hf:// needs huggingface_hub")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(CamcliError, match=r"^'hf://datasets/a/b/x.jpg': .*refused"):
        find(["hf://datasets/a/b/x.jpg"])


@pytest.mark.parametrize("url", ["foo://key:secret@b/x?region=hidden", "s3://key:sec ret@b/x"])
def test_errors_of_urls_show_no_secrets(url: str) -> None:
    pytest.importorskip("pyarrow", reason="stores need the extra camcli[ray]")
    with pytest.raises(CamcliError, match=r"^'\w+://b/': .*URI") as found:
        parse_path(url).read_bytes()
    assert not [part for part in ("key", "sec", "ret", "hid") if part in str(found.value)]
