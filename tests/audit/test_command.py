"""`camcli audit` as a command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

from camcli.images.store import RemotePath
from tests.support.audit import fixed, scattered, tagged_photo, write_heat
from tests.support.command import Run, refused, stderr, stdout
from tests.support.files import manifest
from tests.support.networks import GapNet
from tests.support.s3 import S3, Fault, url
from tests.support.stores import upload


@pytest.fixture
def heat(tmp_path: Path) -> Path:
    """Three classes with heat anywhere, and `z` with heat in a corner. Every tenth is wrong."""
    rows = [row for label in range(3) for row in scattered(f"class{label}", label, 40, label)] + [
        *fixed("z", 3, 40, (0.9, 0.1))
    ]
    for row, _ in rows[::10]:
        row |= {"correct": False, "predicted_name": "another", "predicted_index": 9}
    return write_heat(tmp_path / "heat", rows)


def test_the_text_has_suspects_first(run: Run, heat: Path) -> None:
    text = stdout(run("audit", heat))
    assert (
        text.splitlines()[0]
        == "gradcam, pred, last: 160 images of 4 classes, accuracy 90.0% (85-94)"
    )
    assert text.index("z, top right corner: fixed place") < text.index("true class  taken for")
    assert "suspects: 1 (found in the maps, not tested: --model tests them)" in text
    assert f"-> {heat / 'audit.html'}" in text


def test_the_record_is_json(run: Run, heat: Path) -> None:
    found = json.loads(stdout(run("audit", heat, "--json")))
    assert found["images"] == 160
    assert found["overall"]["accuracy"]["mean"] == 0.9
    assert [one["class"] for one in found["suspects"]] == ["z"]
    assert found["suspects"][0]["confirmed"] is None
    region = np.array(found["suspects"][0]["region"])
    assert region[:4, -4:].mean() > 0.8
    assert region.mean() < 0.2
    assert [one["accuracy"]["mean"] for one in found["classes"]] == [0.9] * 4
    assert {one["predicted"] for one in found["confusions"]} == {"another"}


def test_the_same_folder_gives_the_same_bytes(run: Run, heat: Path) -> None:
    pages, records = set(), set()
    for _ in range(2):
        records.add(stdout(run("audit", heat, "--json")))
        pages.add((heat / "audit.html").read_bytes())
    assert len(pages) == len(records) == 1


@pytest.mark.parametrize(
    ("conditions", "code", "failures"),
    [
        (["accuracy<0.5"], 0, []),
        (["accuracy<0.95"], 3, ["Failed: accuracy is 0.9: fails accuracy<0.95"]),
        (["suspects>0", "centre>0.9"], 3, ["Failed: suspects is 1: fails suspects>0"]),
    ],
)
def test_conditions_decide_the_exit_code(
    run: Run, heat: Path, conditions: list[str], code: int, failures: list[str]
) -> None:
    found = run(
        "audit", heat, "--quiet", *(part for one in conditions for part in ("--fail-if", one))
    )
    assert found.exit_code == code
    assert stderr(found).splitlines() == failures
    assert stdout(found) == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fail-if", "inside<0.5"], "--fail-if inside without --boxes: expected both"),
        (["--fail-if", "colour<0.5"], "unknown measure 'colour'"),
        (["--class-map", "none.txt"], "none.txt"),
        (["--method", "cam"], "has no result with a true class"),
        (["--boxes", "csv:none.csv"], "none.csv"),
    ],
)
def test_wrong_usage_is_one_line(run: Run, heat: Path, arguments: list[str], message: str) -> None:
    assert message in refused(run("audit", heat, *arguments))


def test_a_class_map_names_what_classes_were_taken_for(
    run: Run, heat: Path, tmp_path: Path
) -> None:
    (tmp_path / "map.txt").write_text("animal: 8-9\n")
    found = json.loads(stdout(run("audit", heat, "--json", "--class-map", tmp_path / "map.txt")))
    assert {one["predicted"] for one in found["confusions"]} == {"animal"}


def test_annotations_say_how_much_heat_is_inside(run: Run, heat: Path, tmp_path: Path) -> None:
    names = [row["image"] for row in manifest(heat)]
    lines = [f"{name},{name.split('/')[0]},0,50,50,100" for name in names]
    (tmp_path / "boxes.csv").write_text("\n".join(["image,class,x0,y0,x1,y1", *lines]))
    arguments = ("--boxes", f"csv:{tmp_path / 'boxes.csv'}", "--json")
    found = json.loads(stdout(run("audit", heat, *arguments)))
    inside = {one["class"]: one["shares"]["inside"]["mean"] for one in found["classes"]}
    assert inside["z"] < 0.12, "its heat is in the opposite corner"
    assert 0.1 < inside["class0"] < 0.5
    reasons = {(one["class"], *one["reasons"]) for one in found["suspects"]}
    assert ("z", "fixed place") in reasons
    assert ("z", "outside the object") in reasons


@pytest.fixture
def explained(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Photos of two classes that a small network has explained, with truth."""
    monkeypatch.chdir(tmp_path)
    save_file(GapNet(2).state_dict(), tmp_path / "net.safetensors")
    Path("labels.txt").write_text("dark\nlight\n")
    draw = np.random.default_rng(0)
    for number in range(24):
        name = ("dark", "light")[number % 2]
        Path("photos", name).mkdir(parents=True, exist_ok=True)
        pixels = draw.integers(0, 120, (40, 40, 3)) + 120 * (number % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(f"photos/{name}/{number}.png")
    return tmp_path


NETWORK = (
    *("--model", "tests.support.networks:GapNet", "--model-arg", "classes=2"),
    *("--weights", "net.safetensors", "--labels", "labels.txt"),
    *("--resize", "none", "--crop", "none"),
)


def test_the_classes_of_a_run_are_audited(run: Run, explained: Path) -> None:
    run("explain", "photos", *NETWORK, "--truth", "folder", "--save", "map", "--output", "out")
    record: dict[str, Any] = json.loads(stdout(run("audit", "out", *NETWORK, "--json")))
    rows = manifest(explained / "out")
    assert record["images"] == len(rows) == 24
    assert record["overall"]["correct"] == sum(row["correct"] for row in rows)
    assert record["model"].startswith("tests.support.networks:GapNet")


@pytest.fixture
def planted(run: Run, tmp_path: Path) -> tuple[object, ...]:
    """Photos that a network has explained into `heat`: it reads a tag in a corner."""
    draw, heat = np.random.default_rng(0), tmp_path / "heat"
    for number in range(40):
        name = ("plain", "tagged")[number % 2]
        (tmp_path / "photos" / name).mkdir(parents=True, exist_ok=True)
        tagged_photo(draw, tagged=bool(number % 2)).save(tmp_path / f"photos/{name}/{number}.png")
    (tmp_path / "labels.txt").write_text("plain\ntagged\n")
    network = (
        *("--model", "tests.support.networks:RedCorner", "--weights", "none"),
        *("--labels", tmp_path / "labels.txt", "--resize", "none", "--crop", "none"),
        *("--mean", "0", "--std", "1"),
    )
    method = ("--method", "occlusion", "--window", "8", "--stride", "4", "--target", "tagged")
    saved = ("--truth", "folder", "--save", "map", "--output", heat)
    assert run("explain", tmp_path / "photos", *network, *method, *saved).exit_code == 0
    return network


def test_a_planted_shortcut_is_confirmed_by_the_network(
    run: Run, planted: tuple[object, ...], tmp_path: Path
) -> None:
    """A network that reads a tag in a corner is found out, from photos to the exit code."""
    found = run("audit", tmp_path / "heat", *planted, "--fail-if", "suspects>0")
    assert found.exit_code == 3
    assert stderr(found).splitlines()[-1] == "Failed: suspects is 1: fails suspects>0"
    assert "tagged, top right corner: fixed place, occlusion, transplant" in stdout(found)


def test_another_network_is_refused(run: Run, explained: Path) -> None:
    run("explain", "photos", *NETWORK, "--truth", "folder", "--save", "map", "--output", "out")
    save_file(GapNet(2).state_dict(), explained / "net.safetensors")
    assert "the maps were made with other weights" in refused(run("audit", "out", *NETWORK))
    other = [*NETWORK[:-1], "30"]
    assert "the maps were made with other" in refused(run("audit", "out", *other))


def test_a_folder_on_a_store_is_audited_as_one_on_this_machine(
    run: Run,
    planted: tuple[object, ...],
    store: RemotePath,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The network runs again on photos of the store, which are beside the maps."""
    upload(tmp_path, store)
    tried, fetch = list[str](), RemotePath.fetch
    monkeypatch.setattr(RemotePath, "fetch", lambda one: tried.append(one.key) or fetch(one))
    here, there = (run("audit", top / "heat", *planted, "--json") for top in (tmp_path, store))
    assert stdout(there) == stdout(here)
    assert json.loads(stdout(there))["suspects"][0]["confirmed"]
    assert sum("/photos/" not in key for key in tried) == 4, "two folders, of the first images"
    page = (tmp_path / "heat" / "audit.html").read_bytes()
    assert b'href="../photos/tagged/1.png"' in page
    assert (store / "heat" / "audit.html").read_bytes() == page
    assert run("audit", store / "heat", "--output", tmp_path / "page.html").exit_code == 0
    page = (tmp_path / "page.html").read_bytes()
    assert b"/photos/" not in page
    assert b"heat alone" not in page


def test_an_audit_makes_the_requests_that_scaling_md_states(
    run: Run, s3: S3, tmp_path: Path
) -> None:
    rows = [row for label in range(2) for row in scattered(f"class{label}", label, 6, label)]
    rows[0][0].update(correct=False, predicted_name="another")  # an example in the page
    upload(write_heat(tmp_path / "heat", rows), s3.folder / "heat")
    s3.requests.clear()
    found = run("audit", url(s3.folder / "heat"), "--quiet")
    assert (found.exit_code, found.output_bytes) == (0, b"")
    maps, absent = len(rows) + 1, 2  # that of the example again; run.json, also for the page
    assert s3.count() == {"LIST": 1, "HEAD": maps + 1 + absent, "GET": maps + 1, "PUT": 1}
    assert b"secret" not in (s3.folder / "heat" / "audit.html").read_bytes()
    (s3.folder / "heat" / "class1" / "003.png.npy").unlink()
    place = f"s3://{s3.bucket}/heat"
    assert refused(run("audit", url(s3.folder / "heat"))) == (
        f"'{place}': map 'class1/003.png.npy' not readable (No such file or directory)"
    )
    s3.fail(Fault("denied", "GET", "manifest.jsonl"))
    assert "ACCESS_DENIED" in refused(run("audit", url(s3.folder / "heat")))
    assert refused(run("audit", url(s3.folder / "none"))).startswith(
        f"'s3://{s3.bucket}/none' has no readable manifest.jsonl (No such file or directory)"
    )
