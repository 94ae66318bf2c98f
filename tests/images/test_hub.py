"""Images of the Hugging Face hub, of which a server on this machine has the protocol."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from camcli.images.decode import decode
from camcli.images.find import find
from camcli.images.store import parse_path
from tests.support.command import TINY, Run, problems
from tests.support.files import files, make_photo
from tests.support.hub import TOKEN, hub
from tests.support.s3 import Fault, Proxy

NAMES = ("a b.jpg", "z.png", "sub/x.jpg", "sub/deep/y.jpg", "ü%20.jpg")
REPOSITORIES = ("photos", "private", "gated")
HUB = "hf://datasets/me"
FEW = (*TINY, "--save", "map", "--quiet", "--output")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A hub with REPOSITORIES of five photos. Requests are repeated without pauses."""
    for repository in REPOSITORIES:
        for i, name in enumerate(NAMES):
            make_photo(tmp_path / "hub" / "me" / repository / name, 60 + i, 50)
    with hub(tmp_path / "hub", monkeypatch) as proxy:
        pauses = SimpleNamespace(sleep=lambda _: None)
        monkeypatch.setattr("huggingface_hub.utils._http.time", pauses)
        yield proxy


def test_a_data_set_is_read_as_a_local_folder(server: Proxy, run: Run, tmp_path: Path) -> None:
    """An image takes one request, which is redirected. Folders are listed in pages."""
    local, below = tmp_path / "hub" / "me" / "photos", tmp_path / "local"
    assert run("explain", f"{HUB}/photos", *FEW, tmp_path / "out").exit_code == 0
    asked = [one.key for one in server.requests]
    for kind in ("resolve", "content"):
        photos = [key.partition("/main/")[2] for key in asked if f"/{kind}/" in key]
        assert sorted(photos) == sorted(NAMES)
    assert asked.count("datasets/me/photos") == 1
    lists = [one for one in server.requests if "/tree/" in one.key and "cursor" not in one.query]
    assert len(lists) <= 3, "the tree; of pages, the top and its folder, which are listed at once"
    assert run("explain", local, *FEW, below).exit_code == 0
    maps, expected = files(tmp_path / "out"), files(below)
    assert maps.pop("manifest.jsonl").count(b"\n") == len(NAMES)
    assert maps == {name: data for name, data in expected.items() if name != "manifest.jsonl"}


def test_parts_of_a_data_set_are_found(server: Proxy) -> None:
    def names(place: str, *, recursive: bool = True) -> list[str]:
        return [one.image for one in find([f"{HUB}/{place}"], recursive=recursive)]

    assert names("photos/sub") == ["x.jpg", "deep/y.jpg"]
    assert names("photos", recursive=False) == ["a b.jpg", "z.png", "ü%20.jpg"]
    assert names("photos@main/z.png") == ["z.png"]
    assert decode(parse_path(f"{HUB}/photos@main/z.png")).shape == (50, 61, 3)


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("photos/none.jpg", "No such file or directory"),
        ("none/a.jpg", "datasets/me/none/a.jpg (repository not found). If the repo is private, "),
        ("private/z.png", "datasets/me/private/z.png (repository not found). If the repo is "),
        ("photos@old/z.png", "datasets/me/photos@old/z.png (revision not found)"),
        ("gated/z.png", "403 Client Error. Please ask for access."),
    ],
)
def test_a_file_that_the_hub_refuses_is_one_line(
    server: Proxy, run: Run, photo: Path, tmp_path: Path, place: str, reason: str
) -> None:
    """The other images of the run are explained."""
    found = run("explain", f"{HUB}/{place}", photo, *FEW, tmp_path / "out")
    assert found.exit_code == 1
    (line,) = (one for one in problems(found) if one.startswith("Error: "))
    assert line.startswith(f"Error: {HUB}/{place}: {reason}")
    assert any(name.endswith("photo.gradcam.npy") for name in files(tmp_path / "out"))


def test_a_token_opens_a_private_data_set(server: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert len(find([f"{HUB}/private"])) == len(NAMES)


@pytest.mark.parametrize("what", ["slow down", "too many", "dropped", "truncated"])
def test_a_failure_that_passes_is_repeated(server: Proxy, what: str) -> None:
    server.faults = [Fault(what, "GET", part, times=2) for part in ("tree", "resolve")]
    (found,) = find([f"{HUB}/photos/z.png"])
    assert decode(found.path).shape == (50, 61, 3)
    assert len([one for one in server.requests if "resolve" in one.key]) == 3


@pytest.mark.parametrize("what", ["slow down", "too many", "dropped"])
def test_a_failure_that_stays_is_no_missing_file(server: Proxy, what: str) -> None:
    server.faults = [Fault(what, "GET", times=99)]
    with pytest.raises(OSError, match=r"503|429|disconnected") as raised:
        parse_path(f"{HUB}/photos/z.png").read_bytes()
    assert "\n" not in str(raised.value)
