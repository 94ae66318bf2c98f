"""Where the files of results are: in the folders of images, in hashed ones, or in tars."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import pytest

from camcli.audit.read import read_samples
from camcli.errors import CamcliError, OutputError, WriteError
from camcli.images.source import Source
from camcli.images.store import RemotePath
from camcli.images.tars import open_file
from camcli.report.contents import ReportOptions, collect
from camcli.report.page import page_data
from camcli.runs import packing, pipeline, resume, save
from camcli.runs.job import Job
from camcli.runs.manifest import Row
from camcli.runs.merge import merge
from camcli.runs.names import NAMINGS, stem_of
from camcli.runs.outputs import named_files, tars_of
from camcli.runs.shards import shard_of
from camcli.snapshots.accept import accept
from camcli.snapshots.compare import compare
from camcli.snapshots.measures import Tolerance
from camcli.snapshots.networks import contrasts
from tests.support.command import TINY, Run, stderr
from tests.support.files import files, make_photo, manifest
from tests.support.jobs import changed, make_job
from tests.support.stores import stored

NAMES = ("__x__/a.jpg", "__x__/b%.v2.jpg", "__x__/b%.v3.jpg", "c.jpg", "d.png", "d.jpg", "é\n.jpg")
PLACES = {"flat": {}, "hashed": {"layout": "hashed"}, "tar": {"save_to": "tar"}}


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """Seven photos with awkward names and a damaged one, two methods, in batches of two."""
    photos = {name: (60 + n, 50) for n, name in enumerate(NAMES)} | {"bad.jpg": None}
    options = {"methods": ("gradcam", "guided"), "batch_size": 2, "workers": 2}
    return make_job(tmp_path, photos, **options)


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def small_tars(monkeypatch: pytest.MonkeyPatch) -> None:
    """End a tar after two images with two methods."""
    monkeypatch.setattr(packing, "MEMBERS", 8)


def at(job: Job, output: Path, place: str = "tar") -> Job:
    return replace(job, output=output, **PLACES[place])


def explained(job: Job, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Run a job, and return the images whose results it wrote."""
    written = set[str]()

    def counting(job: Job, loaded: pipeline.Loaded, *more: object) -> Row:
        written.add(loaded.source.image)
        return write(job, loaded, *more)

    write = save._write_result
    with monkeypatch.context() as patch:
        patch.setattr(save, "_write_result", counting)
        list(pipeline.run(job))
    return written


def contents(folder: Path) -> dict[tuple[str, str, str], bytes]:
    """Return the bytes of each file that the rows of a folder name, by result and kind."""
    found = {}
    for row in manifest(folder):
        for kind, name in named_files(row).items():
            with open_file(folder / name) as stream:
                found[row["image"], row["method"], kind] = stream.read()
    return found


def test_names_differ_and_hashed_folders_stay_small(job: Job) -> None:
    sources = [Source(name, name) for name in (*NAMES, "c_d.jpg", "__x__/b%25.v2.jpg", "x/c.jpg")]
    sources += [sources[4].with_suffix(), sources[5].with_suffix()]
    for naming in NAMINGS:
        stems = {stem_of(source, naming) for source in sources}
        alike = naming != "hashed"  # d.png and d.jpg without the suffix
        assert len(stems) == len(sources) - alike
    assert stem_of(sources[0], "hashed").endswith("/__x__%2Fa")
    many = (stem_of(Source(f"{n}.jpg", f"{n}.jpg"), "hashed") for n in range(100_000))
    assert max(Counter(name.rpartition("/")[0] for name in many).values()) < 15


def test_readers_read_every_place(job: Job, place: str, tmp_path: Path) -> None:
    """The report, the check, the audit and the comparison give what they give of plain files."""
    flat, other = at(job, tmp_path / "flat", "flat"), at(job, tmp_path / place, place)
    for one in (flat, other):
        list(pipeline.run(one))
    assert contents(tmp_path / place) == contents(tmp_path / "flat")
    assert len(contents(tmp_path / place)) == 4 * len(NAMES)
    assert {one.verdict for one in compare(other.output, flat.output, Tolerance())} == {"alike"}
    found = [one for one in contrasts(flat.output, other.output) if one.rows]
    assert {one.correlation for one in found if one.correlation is not None} == {1.0}
    for folder in (flat.output, other.output):
        rows = [row | {"true_name": "x", "correct": True} for row in manifest(folder)]
        lines = [json.dumps(row) for row in rows if row["method"] == "gradcam"]
        (folder / "manifest.jsonl").write_text("\n".join(lines) + "\n")
    samples = [read_samples(folder) for folder in (flat.output, other.output)]
    assert (samples[0].heat == samples[1].heat).all()
    assert len(samples[0].heat) == len(NAMES)


@pytest.mark.parametrize("saves", [("overlay",), ("overlay", "map")])
def test_a_report_holds_the_pictures_of_tars_that_it_shows(
    job: Job, saves: tuple[str, ...], tmp_path: Path
) -> None:
    """Those of results whose maps it cannot draw. It links to files, but not to members."""
    list(pipeline.run(replace(at(job, tmp_path / "tar"), saves=saves)))
    file = tmp_path / "tar" / "report.html"
    report = collect(tmp_path / "tar", file, ReportOptions(), lambda found, _: found)
    assert not any("missing" in note for note in report.notes())
    shown = {"gradcam": saves == ("overlay",), "guided": True}
    for image in page_data(report)["images"]:
        for result in image["results"] if image["name"] != "bad.jpg" else ():
            found = result.get("files", {})
            assert list(found) == ["overlay"] * shown[result["method"]]
            assert all(url.startswith("data:image/webp;base64,") for url in found.values())


def test_the_same_run_writes_the_same_tars(job: Job, small_tars: None, tmp_path: Path) -> None:
    """An image is never split between tars, and the headers have no times."""
    for name in "ab":
        list(pipeline.run(at(changed(job, workers=1 + (name == "b")), tmp_path / name)))
    assert files(tmp_path / "a") == files(tmp_path / "b")
    tars = sorted((tmp_path / "a").glob("*.tar"))
    assert [tar.name for tar in tars] == [f"results-00000{n}.tar" for n in range(4)]
    for tar in tars:
        with tarfile.open(tar) as members:
            assert {(one.mtime, one.uid, one.uname, one.mode) for one in members} == {
                (0, 0, "", 0o644)
            }
    assert all(len(tars_of(row)) == (row["status"] == "ok") for row in manifest(tmp_path / "a"))


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # it leaves files open
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset_reads_the_tars(job: Job, small_tars: None, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset", reason="WebDataset is not installed")
    list(pipeline.run(at(job, tmp_path / "out")))
    tars = [str(tar) for tar in sorted((tmp_path / "out").glob("*.tar"))]
    found = [*webdataset.WebDataset(tars, shardshuffle=False)]
    parts = ["gradcam.png", "gradcam.npy", "guided.png", "guided.npy"]
    assert all([name for name in one if name[0] != "_"] == parts for one in found)
    keys = [unquote(one["__key__"]) for one in found]
    assert sorted(keys) == ["__x__/a", "__x__/b%.v2", "__x__/b%.v3", "c", "d.jpg", "d.png", "é\n"]


def test_a_killed_run_leaves_whole_tars_and_their_rows(
    job: Job, small_tars: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next run explains what was in the unfinished tar, and writes tars after the others."""
    run = pipeline.run(at(changed(job, batch_size=1, workers=1), tmp_path / "out"))
    rows = [next(run) for _ in range(4)]  # one of them failed
    shutil.copytree(tmp_path / "out", tmp_path / "killed")
    run.close()
    for file in (tmp_path / "killed").glob(".camcli-*"):
        file.rename(file.with_name(file.name.replace(str(os.getpid()), str(2**22 + 1))))
    left = sorted(file.name for file in (tmp_path / "killed").iterdir())
    assert sum(name.endswith(".tmp") for name in left) == 1
    journaled = {
        tar for row in resume.parsed(resume.lines(tmp_path / "killed")) for tar in tars_of(row)
    }
    assert journaled == {"results-000000.tar"}, "another run may use the number of the other one"
    whole = (tmp_path / "killed" / "results-000000.tar").read_bytes()
    again = at(changed(job, batch_size=1, skip_existing=True), tmp_path / "killed")
    kept = {one[0]["image"] for one in rows if tars_of(one[0]) == {"results-000000.tar"}}
    assert len(kept) == 2
    assert explained(again, monkeypatch) == {*NAMES} - kept
    assert (tmp_path / "killed" / "results-000000.tar").read_bytes() == whole
    assert len(contents(tmp_path / "killed")) == 4 * len(NAMES)
    assert not [*(tmp_path / "killed").glob(".camcli-*")]
    assert explained(again, monkeypatch) == set()


def test_a_stopped_run_keeps_the_images_that_are_whole(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(name: str, data: bytes) -> bytes:
        if "v2.guided" in unquote(name):
            raise KeyboardInterrupt
        return member(name, data)

    member = packing._member
    with monkeypatch.context() as patch:
        patch.setattr(packing, "_member", interrupted)
        with pytest.raises(KeyboardInterrupt):
            list(pipeline.run(at(job, tmp_path / "out")))
    (tar,) = (tmp_path / "out").glob("*.tar")
    with tarfile.open(tar) as members:
        names = members.getnames()
    assert len(names) % 4 == 0
    rows = [row for row in manifest(tmp_path / "out") if row["status"] == "ok"]
    assert {name.partition("/")[2] for row in rows for name in named_files(row).values()} == {
        *names
    }
    list(pipeline.run(at(changed(job, skip_existing=True), tmp_path / "out")))
    assert len(contents(tmp_path / "out")) == 4 * len(NAMES)


def test_results_of_a_tar_that_cannot_be_completed_are_not_recorded(
    job: Job, small_tars: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, target: Path) -> Path:
        if target.name == "results-000001.tar":
            raise OSError(28, "No space left on device")
        return replaced(self, target)

    replaced = Path.replace
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        with pytest.raises(WriteError, match=r"results-000001.tar': No space left on device"):
            list(pipeline.run(at(job, tmp_path / "out")))
    assert {tar for row in manifest(tmp_path / "out") for tar in tars_of(row)} == {
        "results-000000.tar"
    }
    list(pipeline.run(at(changed(job, skip_existing=True), tmp_path / "out")))
    assert len(contents(tmp_path / "out")) == 4 * len(NAMES)


def test_results_are_replaced_and_kept(
    job: Job, place: str, small_tars: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a changed image, of another place, and of other settings."""
    one = at(changed(job, skip_existing=True), tmp_path / "out", place)
    list(pipeline.run(one))
    assert explained(one, monkeypatch) == set()
    make_photo(tmp_path / "in" / "c.jpg", 70, 40)
    with pytest.warns(UserWarning, match="new results"):
        assert "c.jpg" in explained(one, monkeypatch)
    assert len(contents(tmp_path / "out")) == 4 * len(NAMES)
    for name in PLACES.keys() - {place}:
        with pytest.raises(OutputError, match="name another --output, or replace"):
            list(pipeline.run(at(job, tmp_path / "out", name)))
    other = replace(changed(one, overwrite=True), scale="probability")
    list(pipeline.run(other))
    named = {name for row in manifest(tmp_path / "out") for name in named_files(row).values()}
    kept = {file.name for file in (tmp_path / "out").rglob("*") if file.is_file()}
    kept -= {"run.json", "manifest.jsonl"}
    tars = {tar for row in manifest(tmp_path / "out") for tar in tars_of(row)}
    assert kept == (tars or {Path(name).name for name in named})
    assert explained(changed(other, overwrite=False), monkeypatch) == set()


def test_shards_have_their_own_tars_and_merge(job: Job, small_tars: None, tmp_path: Path) -> None:
    list(pipeline.run(at(job, tmp_path / "whole", "flat")))
    folders = [tmp_path / "1", tmp_path / "2"]
    for number, folder in enumerate(folders, 1):
        sources, shard = shard_of(job.sources, f"{number}/2", job.inputs.batch_size)
        list(pipeline.run(replace(at(job, folder), sources=sources, shard=shard)))
    merge(folders, tmp_path / "all")
    merge(folders, tmp_path / "all")
    assert contents(tmp_path / "all") == contents(tmp_path / "whole")
    tars = {tar for row in manifest(tmp_path / "all") for tar in tars_of(row)}
    assert {name[:14] for name in tars} == {"results-1-of-2", "results-2-of-2"}
    (folders[0] / "results-000000.tar").write_bytes(b"of another run")
    (folders[1] / "results-000000.tar").write_bytes(b"of a third run")
    with pytest.raises(CamcliError, match="differ: expected shards of one run"):
        merge(folders, tmp_path / "all")


def test_a_baseline_of_tars_is_replaced(job: Job, small_tars: None, tmp_path: Path) -> None:
    list(pipeline.run(at(job, tmp_path / "old")))
    list(pipeline.run(replace(at(job, tmp_path / "new"), sources=job.sources[:3])))
    accept(tmp_path / "new", tmp_path / "old")
    assert files(tmp_path / "old") == files(tmp_path / "new")


def test_tars_on_a_store(
    job: Job, store: RemotePath, small_tars: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    list(pipeline.run(at(job, tmp_path / "out")))
    remote = replace(at(job, tmp_path), output=store / "out")
    list(pipeline.run(remote))
    assert stored(store / "out") == files(tmp_path / "out")
    assert explained(changed(remote, skip_existing=True), monkeypatch) == set()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--layout", "hashed"), "--layout hashed is for files"),
        (("--scale", "run"), "--scale run draws pictures again"),
        (("--dry-run",), "--dry-run: the tars"),
        (("--preview",), "--preview reads files"),
        (("--executor", "ray", "--num-actors", "1"), "use --shard, not --executor ray"),
    ],
)
def test_what_tars_refuse(
    run: Run, photo: Path, options: tuple[str, ...], reason: str, tmp_path: Path
) -> None:
    if "ray" in options:
        pytest.importorskip("ray", reason="needs the extra camcli[ray]")
    command = ("explain", photo, *TINY, "--save-to", "tar", "--output", tmp_path / "out")
    found = run(*command, *options)
    assert (found.exit_code, reason in stderr(found)) == (2, True)
