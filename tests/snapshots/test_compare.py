"""Snapshots: what passes, what fails, what is told about it, and how new ones are accepted."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from click.testing import Result
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from camcli import Model, load
from camcli.errors import CamcliError, OutputError
from camcli.images.find import find
from camcli.images.preprocess import Preset
from camcli.runs import pipeline
from camcli.runs.job import Job
from camcli.snapshots import tables
from camcli.snapshots.accept import accept
from camcli.snapshots.compare import Tolerance, compare, measure
from tests.support.files import make_photo, manifest
from tests.support.jobs import changed
from tests.support.networks import GapNet

Run = Callable[..., Result]
MAP: NDArray[np.float64] = np.exp(-(((np.mgrid[:9, :9] - 4) ** 2).sum(0)) / 6)


def output(folder: Path, maps: dict[str, Any], **facts: Any) -> Path:
    """An output folder with these maps, written by hand."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for image, values in maps.items():
        row = {"image": image, "method": "gradcam", "target": "pred", "class_index": 3}
        row |= {"class_name": "cat", "layer": "last", "map": None, "overlay": None, "status": "ok"}
        if values is None:
            row |= {"status": "error", "error": "damaged"}
        else:
            row["map"] = image.rpartition(".")[0] + ".gradcam.npy"
            (folder / row["map"]).parent.mkdir(parents=True, exist_ok=True)
            np.save(folder / row["map"], np.asarray(values, np.float32))
        rows.append(row | facts)
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def told(new: Path, baseline: Path, **tolerance: float) -> dict[str, tuple[str, ...]]:
    """By image: its verdict and reasons."""
    found = compare(new, baseline, Tolerance(**tolerance))
    return {one.image: (one.verdict, *one.reasons) for one in found}


@pytest.mark.parametrize(
    ("new", "reasons"),
    [
        (MAP, ()),
        (MAP * 1.009, ()),
        (MAP * 1.02, ("values",)),
        (MAP + 0.02 * (np.arange(81).reshape(9, 9) == 40), ("values",)),
        (np.roll(MAP, 2, axis=1), ("values", "correlation", "hottest point")),
        (1 - MAP, ("values", "correlation", "hottest point")),
        (MAP[:7], ("shape 9x9 -> 7x9",)),
        (MAP * 0, ("values", "correlation")),
        (np.where(MAP > 0.9, np.nan, MAP), ("NaN or infinity 0 cells -> 1 cells",)),
        (None, ("status ok -> error",)),
    ],
)
def test_what_differs(new: Any, reasons: tuple[str, ...], tmp_path: Path) -> None:
    found = told(output(tmp_path / "new", {"a.jpg": new}), output(tmp_path / "old", {"a.jpg": MAP}))
    assert found == {"a.jpg": ("differs" if reasons else "alike", *reasons)}


@pytest.mark.parametrize(
    "values",
    [
        *(np.zeros((5, 5)), np.full((5, 5), 3.0), np.ones((1, 1)), np.zeros((0, 3))),
        *(np.where(MAP > 0.9, np.nan, MAP), np.where(MAP > 0.9, -np.inf, MAP), MAP * 1e-30, None),
        *(np.full((3, 3), np.nan), np.stack([MAP, -MAP, MAP * 0])),
    ],
    ids=str,
)
def test_any_map_equals_itself(values: Any, tmp_path: Path) -> None:
    """Without a warning: the division by a flat map's length is never made."""
    new, old = output(tmp_path / "new", {"a.b": values}), output(tmp_path / "old", {"a.b": values})
    assert told(new, old, atol=0, rtol=0, min_correlation=1 - 1e-9, max_shift=0) == {
        "a.b": ("alike",)
    }


def test_zero_or_flat_against_something(tmp_path: Path) -> None:
    maps = {"zero.jpg": MAP * 0, "flat.jpg": MAP * 0 + 2, "noise.jpg": MAP * 0}
    other = {"zero.jpg": MAP, "flat.jpg": MAP, "noise.jpg": MAP * 1e-8}
    found = told(output(tmp_path / "new", other), output(tmp_path / "old", maps))
    assert found == {
        "zero.jpg": ("differs", "values", "correlation"),
        "flat.jpg": ("differs", "values", "correlation"),
        "noise.jpg": ("alike",),
    }
    assert measure(MAP, MAP * 0).relative is None


def test_infinities_of_two_signs_differ(tmp_path: Path) -> None:
    up, down = (np.where(MAP > 0.9, sign * np.inf, MAP) for sign in (1, -1))
    new, old = output(tmp_path / "new", {"a.b": up}), output(tmp_path / "old", {"a.b": down})
    assert told(new, old) == {"a.b": ("differs", "NaN or infinity 1 cells -> 1 cells")}


def test_measures() -> None:
    """Against numpy's own correlation and a shift counted by hand."""
    new = np.roll(MAP, (1, 2), (0, 1)) * 2
    found = measure(new, MAP)
    assert found.difference == pytest.approx(np.abs(new - MAP).max())
    assert found.relative == pytest.approx(found.difference / MAP.max())
    assert found.correlation == pytest.approx(np.corrcoef(new.ravel(), MAP.ravel())[0, 1])
    assert found.shift == pytest.approx(np.hypot(1, 2) / 9)
    tiny = measure(new * 1e-200, MAP * 1e-200)
    assert tiny.correlation == pytest.approx(found.correlation)
    image = np.stack([MAP * 0, -MAP, MAP / 2])
    assert measure(np.roll(image, 3, axis=2), image).shift == pytest.approx(3 / 9)


def test_equal_peaks_may_swap() -> None:
    """Two peaks that rounding tells apart are both the hottest point; a lower one is not."""
    two = np.zeros((10, 10))
    two[1, 1], two[8, 8] = 1, 0.999
    swapped = np.zeros((10, 10))
    swapped[1, 1], swapped[8, 8] = 0.999, 1
    assert measure(swapped, two).shift == 0
    two[8, 8] = 0.9
    assert measure(swapped, two).shift == pytest.approx(np.hypot(7, 7) / 10)


def test_each_tolerance_decides(tmp_path: Path) -> None:
    new = output(tmp_path / "new", {"a.jpg": np.roll(MAP, 2, axis=0)})
    old = output(tmp_path / "old", {"a.jpg": MAP})
    loose = {"rtol": 1, "min_correlation": -1, "max_shift": 1}
    assert told(new, old, **loose) == {"a.jpg": ("alike",)}
    assert told(new, old, **loose | {"rtol": 0, "atol": 1}) == {"a.jpg": ("alike",)}
    assert told(new, old, **loose | {"rtol": 0.1}) == {"a.jpg": ("differs", "values")}
    assert told(new, old, **loose | {"min_correlation": 0.9})["a.jpg"][1:] == ("correlation",)
    assert told(new, old, **loose | {"max_shift": 0.2})["a.jpg"][1:] == ("hottest point",)
    assert told(new, old, **loose | {"max_shift": 0.23}) == {"a.jpg": ("alike",)}
    for wrong in ({"rtol": -1}, {"atol": float("nan")}, {"min_correlation": 2}, {"max_shift": -1}):
        with pytest.raises(CamcliError, match=next(iter(wrong))):
            Tolerance(**wrong)


def test_missing_extra_and_changed_rows(tmp_path: Path) -> None:
    new = output(tmp_path / "new", {"b.jpg": MAP, "c.jpg": MAP}, class_index=4, class_name="dog")
    old = output(tmp_path / "old", {"a.jpg": MAP, "b.jpg": MAP})
    assert told(new, old) == {
        "a.jpg": ("missing", "missing"),
        "b.jpg": ("differs", "class cat -> dog"),
        "c.jpg": ("extra", "extra"),
    }
    (new / "b.gradcam.npy").unlink()
    (old / "b.gradcam.npy").write_bytes(b"no map")
    assert "not readable (No such file or directory)" in told(new, old)["b.jpg"][2]
    output(tmp_path / "new", {"b.jpg": MAP})
    assert "b.gradcam.npy not readable" in told(new, old)["b.jpg"][1]


def test_layers_pair_where_a_run_has_several(tmp_path: Path) -> None:
    """One layer against another is compared; of several, each finds its own."""

    def layered(folder: Path, layers: list[str]) -> Path:
        rows = []
        for layer in layers:
            output(folder / layer, {f"{layer}.jpg": MAP * len(layer)})
            row = manifest(folder / layer)[0]
            rows.append(row | {"image": "a.jpg", "layer": layer, "map": f"{layer}/{row['map']}"})
        (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return folder

    old = layered(tmp_path / "old", ["one", "three"])
    assert {c.verdict for c in compare(layered(tmp_path / "1", ["three", "one"]), old, Tolerance())} == {"alike"}  # fmt: skip # noqa: E501
    found = compare(layered(tmp_path / "2", ["one"]), old, Tolerance())
    assert [(c.layer, c.verdict) for c in found] == [("one", "alike"), ("three", "missing")]
    assert "gradcam three" in tables.table(found)
    one = compare(layered(tmp_path / "3", ["three"]), layered(tmp_path / "4", ["one"]), Tolerance())
    assert one[0].reasons == ("layer one -> three", "values")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "has no readable manifest.jsonl"),
        ("", "is empty: nothing to compare"),
        ("{", "line 1: not JSON"),
        ("[1]", "line 1: expected a row with image, method"),
        ('{"image": 1, "method": "", "target": "", "status": ""}', "line 1: expected a row"),
        *(
            (json.dumps({"image": "a", "method": "b", "target": "c", "status": "ok", "map": name}),
             "would lie outside of its folder")
            for name in ("../x.npy", "/etc/passwd", "a/../../x.npy", "link/x.npy")
        ),
    ],
)  # fmt: skip
def test_manifests_that_cannot_be_used(text: str | None, message: str, tmp_path: Path) -> None:
    good, bad = output(tmp_path / "good", {"a.jpg": MAP}), tmp_path / "bad"
    bad.mkdir()
    (bad / "link").symlink_to(tmp_path)
    if text is not None:
        (bad / "manifest.jsonl").write_text(text)
    for folders in ((good, bad), (bad, good)):
        with pytest.raises(CamcliError, match=message):
            compare(*folders, Tolerance())


def test_folders_without_maps_are_no_snapshot(tmp_path: Path) -> None:
    empty = output(tmp_path / "old", {"a.jpg": MAP}, map=None)
    with pytest.raises(CamcliError, match="has no maps to compare: make it with --save map"):
        compare(output(tmp_path / "new", {"a.jpg": MAP}), empty, Tolerance())


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_accepting(tmp_path: Path) -> None:
    """The maps and records are the new ones, what the old manifest alone knew is gone."""
    new = output(tmp_path / "new", {"a.jpg": MAP * 2, "sub/c.jpg": MAP})
    old = output(tmp_path / "old", {"a.jpg": MAP, "gone/b.jpg": MAP})
    (old / "README").write_text("of the user")
    (old / ".camcli-update-killed").mkdir()
    accept(new, old)
    assert tree(old) == tree(new) | {"README": b"of the user"}
    assert sorted(p.name for p in old.iterdir()) == [
        *("README", "a.gradcam.npy", "manifest.jsonl", "sub")
    ]
    accept(new, tmp_path / "deep" / "made")
    assert tree(tmp_path / "deep" / "made") == tree(new)
    with pytest.raises(CamcliError, match="is the baseline itself"):
        accept(new, new)


def test_an_update_that_fails_changes_nothing(tmp_path: Path) -> None:
    new, old = output(tmp_path / "n", {"a.jpg": MAP * 2, "b.jpg": MAP}), tmp_path / "o"
    before = tree(output(old, {"a.jpg": MAP, "c.jpg": MAP}))
    (new / "b.gradcam.npy").unlink()
    with pytest.raises(OutputError, match=r"cannot update '.*o': No such file"):
        accept(new, old)
    assert tree(old) == before
    assert not [path for path in old.iterdir() if path.is_dir()]


def test_an_update_removes_nothing_outside(tmp_path: Path) -> None:
    new = output(tmp_path / "new", {"a.jpg": MAP})
    (tmp_path / "precious.npy").touch()
    old = output(tmp_path / "old", {"a.jpg": MAP}, map="../precious.npy")
    with pytest.raises(CamcliError, match="outside of its folder"):
        accept(new, old)
    assert (tmp_path / "precious.npy").exists()


def test_texts_hold_any_name(tmp_path: Path) -> None:
    name = "a\n\x1b[31m\udcff<&>\U0001f600.jpg"
    new = output(tmp_path / "n", {"b.jpg": MAP * 2}, image=name)
    found = compare(new, output(tmp_path / "o", {"b.jpg": MAP}, image=name), Tolerance())
    assert tables.table(found).count("\n") == 2
    assert "\x1b" not in tables.table(found)
    ElementTree.fromstring(tables.junit(found, {}))  # noqa: S314 - our own
    tables.table(found).encode()


# From the command line, and with real maps.


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """A new folder and its baseline: one map alike, one changed, one missing."""
    new = output(tmp_path / "new", {"a.jpg": MAP, "sub/b.jpg": np.roll(MAP, 3, 0)})
    return new, output(tmp_path / "old", {"a.jpg": MAP, "sub/b.jpg": MAP, "c.jpg": MAP})


def test_check(run: Run, pair: tuple[Path, Path]) -> None:
    new, old = pair
    found = run("check", new, old)
    assert (found.exit_code, found.stderr_bytes) == (3, b"")
    lines = found.stdout_bytes.decode().splitlines()
    assert " ".join(lines[0].split()) == (
        "image method target off by correlation shift what differs"
    )
    assert lines[1].startswith("sub/b.jpg  gradcam  pred    ")
    assert lines[1].endswith("values, correlation, hottest point")
    assert lines[2].split() == ["c.jpg", "gradcam", "pred", "-", "-", "-", "missing"]
    assert lines[3:] == ["3 results: 1 alike, 1 changed, 1 missing"]
    found = run("check", old, old)
    assert (found.exit_code, found.stdout_bytes) == (0, b"3 results: 3 alike\n")
    loose = ("--rtol", 1, "--atol", 0, "--min-correlation", -1, "--max-shift", 1)
    assert b"2 alike, 1 missing" in run("check", new, old, *loose).stdout_bytes


def test_check_json_junit_and_pictures(run: Run, pair: tuple[Path, Path], tmp_path: Path) -> None:
    report, pictures = tmp_path / "reports" / "junit.xml", tmp_path / "diff"
    found = run("check", *pair, "--json", "--junit", report, "--diff", pictures)
    assert found.exit_code == 3
    rows = [json.loads(line) for line in found.stdout_bytes.splitlines()]
    assert [row["verdict"] for row in rows] == ["alike", "differs", "missing"]
    assert rows[1]["relative"] == pytest.approx(rows[1]["difference"])
    assert rows[2]["relative"] is None
    assert found.stderr_bytes == b"3 results: 1 alike, 1 changed, 1 missing\n"
    picture = pictures / "sub" / "b.gradcam.diff.png"
    assert [row["picture"] for row in rows] == [None, str(picture), None]
    assert list(tree(pictures)) == ["sub/b.gradcam.diff.png"]
    suite = ElementTree.parse(report).getroot()[0]  # noqa: S314 - our own
    assert (suite.get("tests"), suite.get("failures")) == ("3", "2")
    assert [len(case) for case in suite] == [0, 1, 1]
    assert str(picture) in (suite[1][0].text or "")


def test_the_picture_shows_old_new_and_difference(run: Run, pair: tuple[Path, Path]) -> None:
    """Where each is hottest is read back from its colours; the difference is red there and blue
    where the old peak was."""
    folder = pair[0].parent / "diff"
    run("check", *pair, "--diff", folder)
    with Image.open(folder / "sub" / "b.gradcam.diff.png") as image:
        drawn = np.asarray(image).astype(int)
    cell, top, tile = 288 / 9, 44, 288 + 8
    centre = [tuple(drawn[int(top + cell * (y + 0.5)), int(tile * k + cell * 4.5)])
              for k, y in ((0, 4), (1, 7), (2, 7), (2, 4))]  # fmt: skip
    assert centre[0] == centre[1], "one scale: both peaks have turbo's last colour"
    assert centre[0][0] > centre[0][2] + 80
    assert centre[2][0] > centre[2][2] + 80, "red: hotter"
    assert centre[3][2] > centre[3][0] + 80, "blue: colder"


@pytest.mark.parametrize("other", [MAP[:5], np.stack([MAP] * 3), -MAP, MAP * 0, MAP[:1, :1]])
def test_pictures_of_any_two_maps(other: Any, tmp_path: Path, run: Run) -> None:
    new, old = output(tmp_path / "n", {"a.jpg": other}), output(tmp_path / "o", {"a.jpg": MAP})
    assert run("check", new, old, "--diff", tmp_path / "d").exit_code == 3
    assert list(tree(tmp_path / "d")) == ["a.gradcam.diff.png"]


def test_check_update(run: Run, pair: tuple[Path, Path]) -> None:
    new, old = pair
    found = run("check", new, old, "--update")
    assert found.exit_code == 0
    assert found.stdout_bytes.decode().endswith(f"{old} updated from {new}\n")
    assert tree(old) == tree(new)
    assert run("check", new, old).exit_code == 0
    found = run("check", new, old.parent / "made", "--update")
    assert (found.exit_code, found.stdout_bytes.decode()) == (
        *(0, f"{old.parent}/made made from {new}\n"),
    )
    assert tree(old.parent / "made") == tree(new)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none"], "'none' has no readable manifest.jsonl (No such file or directory)"),
        (["old", "--rtol", "-1"], "rtol -1.0: expected a number from 0 up"),
        (["old", "--junit", "old"], "is a directory"),
        (["new", "--update"], "is the baseline itself"),
    ],
)
def test_wrong_usage(
    arguments: list[str], message: str, run: Run, pair: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(pair[0].parent)
    found = run("check", "new", *arguments)
    assert found.exit_code == 2
    assert found.stderr_bytes.decode().count("\n") == 1
    assert message in found.stderr_bytes.decode()


def test_check_needs_no_torch(pair: tuple[Path, Path]) -> None:
    code = (
        "import sys\nfrom camcli.cli import _exit_code\n"
        "assert _exit_code(['check', *sys.argv[1:]]) == 3\n"
        "assert not {'torch', 'cv2'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, *map(str, pair)], check=True, capture_output=True)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    torch.manual_seed(0)
    for i in range(5):
        make_photo(tmp_path / "in" / f"{i}.jpg", 60 + 10 * i, 50)
    model = Model(GapNet(), preset=Preset(40, 32), num_classes=5)
    methods = ("gradcam", "gradcam++", "cam", "guided", "guided-backprop", "occlusion")
    return Job(
        find([str(tmp_path / "in")]), model, methods, ("4",), tmp_path / "base", saves=("map",)
    )


def differing(job: Job, folder: Path, **change: Any) -> int:
    """How many results of a changed job differ from the job's own."""
    list(pipeline.run(job))
    list(pipeline.run(changed(job, output=folder, **change)))
    return sum(bool(one.reasons) for one in compare(folder, job.output, Tolerance()))


@pytest.mark.parametrize("change", [{"batch_size": 1}, {"batch_size": 2}, {"workers": 3}])
def test_other_batches_pass(change: dict[str, int], job: Job, tmp_path: Path) -> None:
    assert differing(job, tmp_path / "new", **change) == 0


def test_weights_that_moved_by_a_hundredth_fail(job: Job, tmp_path: Path) -> None:
    module = GapNet()
    module.load_state_dict(job.model.module.state_dict())
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in module.parameters():
            weight.mul_(1 + 0.01 * torch.randn(weight.shape, generator=generator))
    model = replace(job.model, module=module)
    assert differing(job, tmp_path / "new", model=model) >= 15


def test_a_step_of_training_fails(job: Job, tmp_path: Path) -> None:
    module = GapNet()
    module.load_state_dict(job.model.module.state_dict())
    step = torch.optim.SGD(module.parameters(), lr=0.1)
    images = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    nn.functional.cross_entropy(module(images), torch.arange(8) % 5).backward()
    step.step()
    assert differing(job, tmp_path / "new", model=replace(job.model, module=module)) >= 20


def test_another_layer_or_method_fails(job: Job, tmp_path: Path) -> None:
    job = replace(job, methods=("gradcam", "guided"))
    assert differing(job, tmp_path / "layer", layers=("trunk",)) == 10
    list(pipeline.run(replace(job, output=tmp_path / "new", methods=("gradcam++", "cam"))))
    rows = manifest(tmp_path / "new")
    for row in rows:
        row["method"] = {"gradcam++": "gradcam", "cam": "guided"}[row["method"]]
    (tmp_path / "new" / "manifest.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert all(c.reasons for c in compare(tmp_path / "new", job.output, Tolerance()))


def test_thread_counts_and_batch_sizes_of_a_real_network_pass(tmp_path: Path) -> None:
    """One thread and two, batches of one and five: alike far below the tolerance, if not equal."""
    for i in range(5):
        make_photo(tmp_path / "in" / f"{i}.jpg", 300 + 20 * i, 250)
    sources, model = find([str(tmp_path / "in")]), load("squeezenet1_1", "none")
    job = Job(sources, model, ("gradcam++", "guided"), ("pred",), tmp_path / "1", saves=("map",))
    list(pipeline.run(job))
    try:
        torch.set_num_threads(2)
        list(pipeline.run(changed(job, output=tmp_path / "2", batch_size=1)))
    finally:
        torch.set_num_threads(1)
    found = compare(tmp_path / "2", tmp_path / "1", Tolerance(rtol=1e-4))
    assert [one.verdict for one in found] == ["alike"] * 10
