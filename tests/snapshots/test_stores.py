"""`camcli check` and `camcli compare` on stores: what they say of the same folders on a disk."""

from __future__ import annotations

import json
import math
import threading
from pathlib import Path

import pytest

from camcli.errors import CamcliError
from camcli.images.store import RemotePath
from camcli.report.compare_page import Compared
from camcli.runs.ahead import MOST_FAILURES, read_from
from camcli.snapshots.networks import contrasts
from tests.support.command import Run, refused, stderr, stdout
from tests.support.files import make_photo
from tests.support.s3 import S3, Fault, url
from tests.support.snapshots import PEAK, contents, write_output
from tests.support.stores import upload

DAMAGED = "d.gradcam.npy"


@pytest.fixture
def folders(pair: tuple[Path, Path]) -> Path:
    """The folder that holds the new folder, in which a map is damaged, and its baseline."""
    for folder in pair:
        rows = (folder / "manifest.jsonl").read_text()
        write_output(folder, {"d.jpg": PEAK}, crop=[0, 0, 9, 9])
        (folder / "manifest.jsonl").write_text((folder / "manifest.jsonl").read_text() + rows)
    (pair[0] / DAMAGED).write_bytes(b"damaged")
    return pair[0].parent


@pytest.mark.parametrize("sides", [("store", "store"), ("store", "disk"), ("disk", "store")])
def test_check_of_a_store_says_what_it_says_of_a_disk(
    sides: tuple[str, str], folders: Path, store: RemotePath, run: Run, tmp_path: Path
) -> None:
    upload(folders, store)
    found, texts, reports, pictures = [], [], [], []
    for number, places in enumerate((("disk", "disk"), sides)):
        new, old = (
            str((store if place == "store" else folders) / name)
            for place, name in zip(places, ("new", "old"), strict=True)
        )
        junit, diff = tmp_path / "junit.xml", tmp_path / f"diff{number}"
        texts.append(stdout(run("check", new, old)).replace(new, "NEW").split())
        written = run("check", new, old, "--json", "--junit", junit, "--diff", diff)
        assert written.exit_code == 3
        lines = stdout(written).replace(new, "NEW").replace(old, "OLD").replace(str(diff), "DIFF")
        found.append([json.loads(line) for line in lines.splitlines()])
        text = junit.read_text().replace(new, "NEW").replace(str(diff), "DIFF")
        reports.append(text.split())  # columns are as wide as the names
        pictures.append(contents(diff))
    assert found[0] == found[1]
    assert texts[0] == texts[1]
    assert reports[0] == reports[1]
    assert pictures[0] == pictures[1]
    assert list(pictures[0]) == ["sub/b.gradcam.diff.png"]
    assert f"map NEW/{DAMAGED} not readable (expected a .npy file" in found[1][0]["reasons"][0]
    assert [row["verdict"] for row in found[1]] == ["changed", "alike", "changed", "missing"]


def test_compare_of_a_store_says_what_it_says_of_a_disk(
    folders: Path, store: RemotePath, run: Run, tmp_path: Path
) -> None:
    """The page has the photos of --images, on this machine."""
    (folders / "new" / DAMAGED).write_bytes((folders / "old" / DAMAGED).read_bytes())
    make_photo(tmp_path / "photos" / "d.jpg", 9, 9)
    upload(folders, store)
    found, written = [], []
    for top in (folders, store):
        options = ("--images", tmp_path / "photos", "--output", tmp_path / "out")
        one = run("compare", top / "new", top / "old", *options)
        assert one.exit_code == 0, one.stderr_bytes
        found.append(stdout(one).replace(str(top), "TOP").splitlines())
        written.append(contents(tmp_path / "out"))
    assert found[0] == found[1]
    assert written[0] == written[1]
    assert b"data:image/webp" in written[0]["compare.html"]
    assert json.loads(written[0]["compare.jsonl"].splitlines()[0])["correlation"] == 1


@pytest.mark.parametrize("exists", [True, False])
def test_update_from_a_store(
    exists: bool, folders: Path, store: RemotePath, run: Run, tmp_path: Path
) -> None:
    (folders / "new" / "run.json").write_text("{}")
    upload(folders, store)
    old = folders / ("old" if exists else "made")
    found = run("check", store / "new", old, "--update")
    assert found.exit_code == 0, found.stderr_bytes
    what = "updated" if exists else "created"
    assert stdout(found).endswith(f"{old} {what} from {store}/new\n")
    assert contents(old) == contents(folders / "new")
    (store / "new" / "a.gradcam.npy").unlink()
    (line,) = stderr(run("check", store / "new", tmp_path / "other", "--update")).splitlines()
    assert line.endswith(f": {store}/new/a.gradcam.npy: No such file or directory")
    assert not contents(tmp_path / "other")


def test_a_baseline_on_a_store_is_not_updated(run: Run) -> None:
    line = refused(run("check", "none", "s3://key:secret@b/old?region=x", "--update"))
    assert line.endswith("'s3://b/old' is on a store: expected a folder on this machine")


@pytest.mark.parametrize("command", ["check", "compare"])
def test_maps_in_tars_on_a_store_are_refused(
    command: str, store: RemotePath, run: Run, tmp_path: Path
) -> None:
    write_output(tmp_path, {"a.jpg": PEAK}, map="results-000001.tar/a.gradcam.npy")
    upload(tmp_path, store / "new")
    line = refused(run(command, store / "new", store / "new"))
    assert line == (
        f"'{store}/new' has its maps in tars, which are not read on a store: copy the folder to "
        f"this machine"
    )


def test_files_of_a_store_are_read_side_by_side_and_in_order(store: RemotePath) -> None:
    both = threading.Barrier(2)

    def read(number: int) -> int:
        if number < 2:
            both.wait(10)
        return number

    assert [*read_from([Path(), store], read, range(100))] == [*range(100)]


def test_requests_and_faults_of_s3(folders: Path, s3: S3, run: Run) -> None:
    """The requests that scaling.md states. Faults that may pass change nothing."""
    upload(folders, s3.folder)
    s3.requests.clear()
    new, old = (url(s3.folder / name) for name in ("new", "old"))
    s3.fail(*(Fault(what, "GET", times=2) for what in ("slow down", "dropped", "truncated")))
    found = run("check", new, old)
    expected = stdout(run("check", folders / "new", folders / "old"))
    assert stdout(found).split() == expected.replace(str(folders), f"s3://{s3.bucket}").split()
    s3.proxy.reset()
    run("check", new, old)
    assert s3.count("manifest.jsonl") == {"HEAD": 2 * 3, "GET": 2}
    maps = 5  # of a result whose new map is damaged, the other is not read
    assert s3.count(".npy") == {"HEAD": maps, "GET": maps}
    assert s3.count() == {"HEAD": 6 + maps, "GET": 2 + maps}


@pytest.mark.parametrize(
    ("what", "kind", "reason"),
    [("gone", "HEAD", "No such file or directory"), ("denied", "GET", "ACCESS_DENIED")],
)
def test_a_map_that_a_store_does_not_give_is_a_reason(
    what: str, kind: str, reason: str, folders: Path, s3: S3, run: Run
) -> None:
    upload(folders, s3.folder)
    s3.fail(Fault(what, kind, "old/a.gradcam.npy"))
    found = run("check", url(s3.folder / "new"), url(s3.folder / "old"), "--json")
    row = json.loads(found.stdout_bytes.splitlines()[1])
    assert (found.exit_code, row["verdict"]) == (3, "changed")
    (text,) = row["reasons"]
    assert text.startswith(f"map s3://{s3.bucket}/old/a.gradcam.npy not readable (")
    assert reason in text
    assert b"secret" not in found.stdout_bytes
    assert b"endpoint" not in found.stdout_bytes


@pytest.mark.parametrize("command", ["check", "compare"])
def test_a_store_that_gives_no_more_maps_ends_the_comparison(
    command: str, s3: S3, run: Run, tmp_path: Path
) -> None:
    """The maps of a store that has stopped would each take 25 seconds."""
    names = [f"{number:03}.jpg" for number in range(4 * MOST_FAILURES)]
    folder = write_output(tmp_path / "new", dict.fromkeys(names, PEAK), crop=[0, 0, 9, 9])
    (s3.folder / "new" / "manifest.jsonl").write_bytes((folder / "manifest.jsonl").read_bytes())
    s3.fail(Fault("denied", "HEAD", ".npy", times=math.inf))
    line = refused(run(command, url(s3.folder / "new"), folder))
    assert line.startswith("the store gives no more files, none of ")
    assert f": s3://{s3.bucket}/new/0" in line
    assert s3.count(".npy")["HEAD"] < len(names)


def test_a_page_ends_where_a_store_gives_no_more_maps(
    store: RemotePath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{number:03}.jpg" for number in range(2 * MOST_FAILURES)]
    folder = write_output(tmp_path / "new", dict.fromkeys(names, PEAK), crop=[0, 0, 9, 9])
    upload(folder, store)
    found = [*contrasts(store, store)]

    def refuse(path: RemotePath) -> RemotePath:
        raise OSError(5, "gone")

    monkeypatch.setattr(RemotePath, "fetch", refuse)
    painter = Compared((store, store), ({}, {}), {}, found).painter([], 1)
    with pytest.raises(CamcliError, match=r"the store gives no more files, .*\.npy \(gone\)$"):
        list(painter.draw_all(found, 1))


@pytest.mark.parametrize("command", ["check", "compare"])
@pytest.mark.parametrize(
    ("name", "reason"), [("none", "No such file or directory"), ("new", "ACCESS_DENIED")]
)
def test_a_manifest_that_a_store_does_not_give_is_one_line(
    command: str, name: str, reason: str, folders: Path, s3: S3, run: Run
) -> None:
    upload(folders, s3.folder)
    s3.fail(Fault("denied", "GET", "new/manifest"))
    line = refused(run(command, url(s3.folder / "old"), url(s3.folder / name)))
    assert line.startswith(f"'s3://{s3.bucket}/{name}' has no readable manifest.jsonl (")
    assert reason in line
    assert "secret" not in line
    assert "endpoint" not in line
