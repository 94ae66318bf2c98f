"""Reports of output folders on stores."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from camcli.errors import CamcliError
from camcli.images.store import RemotePath, parse_path
from camcli.report.folder import files_in
from camcli.report.markup import link
from camcli.runs import ahead
from camcli.runs.originals import NEARBY, PROBES, Search
from camcli.runs.resume import environment_digest, input_digest
from tests.support.command import Run, refused, stderr, stdout
from tests.support.files import make_photo
from tests.support.report import (
    MAP,
    ODD_NAME,
    PageParser,
    make_evaluation,
    make_output_folder,
    read_page,
)
from tests.support.s3 import S3, Fault, url
from tests.support.stores import upload


def read(page: RemotePath) -> PageParser:
    return PageParser(page.read_bytes().decode())


def without_links(data: dict[str, Any]) -> dict[str, Any]:
    """Return the data of a page without what its place decides."""
    for image in data["images"]:
        image.pop("original", None)
        for result in image["results"]:
            result.pop("files", None)
    return data


def read_after(run: Run, folder: Path, *arguments: object) -> dict[str, Any]:
    """Return the data of the page that a report writes to a folder."""
    assert run("report", *arguments).exit_code == 0
    return read_page(folder).data


def test_the_page_on_a_store_is_that_of_a_local_folder(
    run: Run, folder: Path, store: RemotePath, tmp_path: Path
) -> None:
    """Also with an evaluation and with a check, whose baseline is on the store, too."""
    make_evaluation(folder)
    baseline = make_output_folder(tmp_path / "earlier")
    np.save(baseline / "plain.gradcam.npy", MAP[::-1])
    upload(tmp_path, store)
    for top in (tmp_path, store):
        found = run("check", top / "out", top / "earlier" / "out", "--json")
        (top / "out" / "check.jsonl").write_bytes(found.stdout_bytes)
    for top in (tmp_path, store):
        (top / "out" / "plain.occlusion.npy").unlink()
    local, remote = (
        run("report", top / "out", "--sheet", top / "sheet.png") for top in (tmp_path, store)
    )
    assert remote.exit_code == local.exit_code == 0
    assert stdout(remote) == stdout(local).replace(str(tmp_path), str(store))
    assert (store / "sheet.png").read_bytes() == (tmp_path / "sheet.png").read_bytes()
    assert stderr(remote) == stderr(local) != ""
    page = (folder / "report.html").read_bytes()
    assert (store / "out" / "report.html").read_bytes() == page
    assert "before" in read_page(folder).results("plain.jpg")[0]
    here = tmp_path / "page.html"
    named = ("--evaluation", store / "out", "--check", store / "out" / "check.jsonl")
    assert run("report", store / "out", "--output", here, *named).exit_code == 0
    own = PageParser(here.read_text())
    assert not any("original" in image for image in own.data["images"])
    drawn, pictured = (one.get("files") for one in own.results("plain.jpg"))
    assert drawn is None
    assert pictured["overlay"].startswith("data:image/webp;base64,")
    assert without_links(own.data) == without_links(read_page(folder).data)


def test_a_report_makes_the_requests_that_scaling_md_states(
    run: Run, folder: Path, s3: S3, tmp_path: Path
) -> None:
    for beside in ("a", "b"):
        make_photo(tmp_path / beside / "plain.jpg", quality=20)
    upload(tmp_path, s3.folder)
    s3.requests.clear()
    found = run("report", url(s3.folder / "out"), "--quiet")
    assert (found.exit_code, found.output_bytes) == (0, b"")
    records, maps, originals = 2, 6, 3
    tries, same_name = 4, 2  # of the first image: above, `a`, `b`, `out`
    assert s3.count() == {
        "LIST": 4,  # shards, journals, the folder, and the folders beside it
        "HEAD": records + maps + originals + tries,
        "GET": records + maps + originals + same_name,
        "PUT": 1,
    }
    system, place = (s3.folder / "out" / "report.html")._location
    with system.open_input_stream(place) as stream:
        assert stream.metadata()["Content-Type"] == b"text/html", "else browsers save the page"
    page = (s3.folder / "out" / "report.html").read_bytes()
    assert run("report", folder).exit_code == 0
    assert page == (folder / "report.html").read_bytes()


def test_images_are_looked_for_where_they_are_named(
    run: Run, folder: Path, store: RemotePath, tmp_path: Path
) -> None:
    """On a store for a folder here: a browser opens no link from one to the other."""
    upload(tmp_path / "photos", store / "elsewhere")
    expected = without_links(read_after(run, folder, folder))
    (tmp_path / "photos").rename(tmp_path / ".hidden")
    found = read_after(run, folder, folder, "--images", store / "elsewhere")
    assert not any("original" in image for image in found["images"])
    assert without_links(found) == expected


def test_members_of_tars_on_stores_are_not_readable(
    run: Run, folder: Path, store: RemotePath, tmp_path: Path
) -> None:
    text = (folder / "manifest.jsonl").read_text()
    for kind in ("map", "overlay"):
        text = text.replace(f'"{kind}": "plain.', f'"{kind}": "results-000000.tar/plain.')
    (folder / "manifest.jsonl").write_text(text)
    with tarfile.open(folder / "results-000000.tar", "w") as tar:
        for file in folder.glob("plain.*.*"):
            tar.add(file, file.name)
    upload(folder, store / "out")
    found = run("report", store / "out")
    line = "not readable in tars on a store: 4 files (copy the tars to this machine)"
    assert f"Warning: {line}\n" in stderr(found)
    assert "missing" not in stderr(found)
    notes = [result["note"] for result in read(store / "out" / "report.html").results("plain.jpg")]
    why = "in a tar on a store: copy the tar to this machine"
    assert notes == [f"map not readable ({why}); overlay not readable ({why})"] * 2


def test_nearby_folders_of_a_store_are_tried_with_a_few_images(store: RemotePath) -> None:
    for number in range(NEARBY + 9):
        (store / f"{number:03}" / "x.txt").write_bytes(b"")
    record = {"versions": {}, "device": "cpu"}
    names = [f"{number}.jpg" for number in range(50)]
    digests = {}
    for name in names:
        (store / "007" / name).write_bytes(name.encode())
        digests[name] = input_digest((store / "007" / name), environment_digest(record))
    search = Search.of(store / "heat", record)
    assert len(search.nearby) == NEARBY
    found = search.narrowed([*digests.items()])
    assert found.nearby == [store / "007"]
    assert len(found.fetched) <= PROBES
    for name, digest in digests.items():
        file, note = found.find(name, digest)
        assert (file, note) == (store / "007" / name, None)
        assert isinstance(file, RemotePath)
        assert file.content == name.encode()
    assert not found.fetched
    assert search.narrowed([("0.jpg", "another")]).nearby == []


@pytest.mark.parametrize(
    ("file", "page", "address"),
    [
        ("s3://key:a@b/heat/a b.png", "s3://b/heat/report.html?region=x", "a%20b.png"),
        ("s3://b/photos/é.jpg", "s3://b/heat/deep/page.html", "../../photos/%C3%A9.jpg"),
        ("s3://b/x%20.jpg", "s3://b/report.html", "x%2520.jpg"),
        ("s3://b/heat//x.jpg", "s3://b/heat/report.html", ".//x.jpg"),
        ("s3://b/heat/results-000001.tar/x.png", "s3://b/heat/report.html", None),
        ("s3://b/heat/x.png", "s3://c/heat/report.html", None),
        ("s3://b/heat/x.png", "report.html", None),
        ("x.png", "s3://b/report.html", None),
    ],
)
def test_links_on_stores(file: str, page: str, address: str | None) -> None:
    assert link(parse_path(file), parse_path(page)) == address


def test_what_cannot_be_read_is_one_line_without_secrets(
    run: Run, folder: Path, s3: S3, tmp_path: Path
) -> None:
    upload(tmp_path, s3.folder)
    out, here = url(s3.folder / "out"), tmp_path / "page.html"
    place = f"s3://{s3.bucket}"
    s3.requests.clear()
    assert refused(run("report", url(s3.folder / "nowhere"))).startswith(
        f"'{place}/nowhere' has no manifest.jsonl with a row in it"
    )
    assert s3.count("") == {"LIST": 2, "HEAD": 1}, "the bucket is not listed"
    assert refused(run("report", out, "--images", url(s3.folder / "nowhere"))).endswith(
        f"Directory '{place}/nowhere' does not exist."
    )
    assert refused(run("report", out, "--open")) == (
        f"--open: a browser does not open '{place}/out/report.html': name a page on this machine "
        f"with --output"
    )
    s3.fail(Fault("denied", "LIST", times=9))
    assert "ACCESS_DENIED" in refused(run("report", out))
    s3.proxy.faults.clear()
    s3.fail(Fault("denied", "LIST"))
    with pytest.raises(CamcliError, match=f"^cannot list '{place}/out': .*ACCESS_DENIED"):
        files_in(s3.folder / "out")
    s3.fail(Fault("denied", "PUT", "report.html"))
    found = run("report", out)
    assert found.exit_code == 1
    assert stderr(found).startswith(
        f"Error: cannot write '{place}/out/report.html': When uploading"
    )
    s3.fail(
        Fault("denied", "GET", "out/plain.gradcam.npy"),
        Fault("gone", "HEAD", "out/plain.occlusion.npy"),
        Fault("denied", "GET", "photos/sub", times=9),
    )
    found = run("report", out, "--output", here)
    assert found.exit_code == 0
    assert stderr(found) == (
        "Warning: originals not found in --images or near the folder: 1 of 3\n"
    )
    page = PageParser(here.read_text())
    denied, gone = (result["note"] for result in page.results("plain.jpg"))
    assert "ACCESS_DENIED" in denied
    assert gone == "map not readable (No such file or directory)"
    assert "ACCESS_DENIED" in page.image(ODD_NAME)["note"]
    for text in (here.read_text(), stdout(found), stderr(found)):
        assert "secret" not in text
        assert "endpoint_override" not in text


def test_a_store_that_has_stopped_is_not_asked_for_ever(
    run: Run, folder: Path, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked for no more originals, which are noted, and the page ends at the maps."""
    upload(tmp_path, s3.folder)
    monkeypatch.setattr(ahead, "MOST_FAILURES", 2)
    s3.fail(Fault("denied", "HEAD", ".jpg", times=99), Fault("denied", "GET", ".npy", times=9))
    s3.requests.clear()
    line = refused(run("report", url(s3.folder / "out")))
    assert line.startswith("the store gives no more files, none of ")
    assert s3.count(".jpg") == {"HEAD": 2}
    s3.proxy.faults.clear()
    s3.fail(Fault("denied", "HEAD", ".jpg", times=99))
    found = run("report", url(s3.folder / "out"))
    assert "originals not found in --images or near the folder: 3 of 3" in stderr(found)
