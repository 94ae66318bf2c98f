"""`camcli compare` from the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from camcli.models.load import load
from tests.support.command import Run, line_of, refused, stderr, stdout
from tests.support.files import SAMPLES, manifest
from tests.support.snapshots import PEAK, write_output, write_rows

WHOLE = [0, 0, 90, 60]


@pytest.fixture
def networks(tmp_path: Path) -> tuple[Path, Path]:
    """Two folders: both right, another class in B that is wrong, and an image on each side alone.

    B's layer and map have another name and another size.
    """
    a = write_output(tmp_path / "a", dict.fromkeys(("1.jpg", "2.jpg", "3.jpg"), PEAK), crop=WHOLE)
    fine = np.kron(PEAK, np.ones((2, 2)))
    maps = {"1.jpg": fine, "2.jpg": np.roll(fine, 6, 0), "4.jpg": fine}
    b = write_output(tmp_path / "b", maps, crop=WHOLE, layer="trunk")
    for folder, index, wrong in ((a, 3, ()), (b, 7, ("2.jpg",))):
        rows = manifest(folder)
        for row in rows:
            is_wrong = row["image"] in wrong
            name = "dog" if is_wrong else "cat"
            best = {"predicted_index": index, "predicted_name": name, "confidence": 0.625}
            row |= best | {"class_name": name, "true_name": "cat", "correct": not is_wrong}
        write_rows(folder, rows)
    return a, b


def test_tables(run: Run, networks: tuple[Path, Path]) -> None:
    found = run("compare", *networks)
    assert (found.exit_code, found.stderr_bytes) == (0, b"")
    a, b, *lines = stdout(found).splitlines()
    assert a == f"A: unknown network ({networks[0]})"
    assert b == f"B: unknown network ({networks[1]})"
    assert lines[:7] == [
        "in both: 2 results of 2 images",
        "only in A: 1 result, 1 image",
        "only in B: 1 result, 1 image",
        "same class predicted: 50.0%, 1 of 2 images",
        "A right: 100.0%, 2 of 2 images",
        "B right: 50.0%, 1 of 2 images",
        "both right: 1, only A: 1, only B: 0 (sign test p = 1), neither: 0",
    ]
    methods = [line.split() for line in lines[7:] if line.startswith("gradcam")]
    assert [cells[:4] for cells in methods] == [
        ["gradcam", "same", "class", "1"],
        ["gradcam", "other", "class", "1"],
    ]
    first, second = (line.split() for line in lines[-2:])
    assert first[:9] == [
        *("2.jpg", "gradcam", "pred", "cat", "62%", "dog", "62%", "only", "A"),
    ]
    assert first[-3:] == ["other", "class", "explained"]
    assert second[:8] == ["1.jpg", "gradcam", "pred", "cat", "62%", "cat", "62%", "both"]
    assert float(second[8]) > 0.98 > float(first[9])


@pytest.mark.parametrize(("limit", "lines"), [(0, 0), (1, 2), (2, 3), (50, 3)])
def test_the_limit_is_that_of_the_list(
    limit: int, lines: int, run: Run, networks: tuple[Path, Path]
) -> None:
    *_, last = stdout(run("compare", *networks, "--limit", limit)).split("\n\n")
    listed = last.splitlines() if last.startswith("image ") else []
    assert len(listed) == lines


def test_json_has_a_row_for_every_result(run: Run, networks: tuple[Path, Path]) -> None:
    found = run("compare", *networks, "--json")
    assert (found.exit_code, found.stderr_bytes) == (0, b"")
    rows = [json.loads(line) for line in found.stdout_bytes.splitlines()]
    assert [row["image"] for row in rows] == ["1.jpg", "2.jpg", "3.jpg", "4.jpg"]
    assert [row["right"] for row in rows] == ["both", "a", None, None]
    assert [bool(row["a"]) for row in rows] == [True, True, True, False]
    assert [bool(row["b"]) for row in rows] == [True, True, False, True]
    same, other, *_ = rows
    assert {row["true_name"] for row in rows} == {"cat"}
    assert len({tuple(row) for row in rows}) == 1
    assert (same["same_class"], other["same_class"]) == (True, False)
    assert other["b"] == {
        **{"predicted_index": 7, "predicted_name": "dog", "confidence": 0.625, "correct": False},
        **{"class_index": 3, "class_name": "dog", "layer": "trunk", "map": "2.gradcam.npy"},
        "status": "ok",
    }
    assert same["correlation"] > 0.98 > other["correlation"]
    assert (same["shift"], same["note"]) == (0, None)


def test_files(run: Run, networks: tuple[Path, Path], tmp_path: Path) -> None:
    output = tmp_path / "deep" / "cmp"
    printed = run("compare", *networks, "--json").stdout_bytes
    found = run("compare", *networks, "--output", output)
    assert found.exit_code == 0
    *notes, last = stderr(found).splitlines()
    assert last == f"-> {output / 'compare.html'}"
    assert [note.partition(" for 2 of 2 results")[0] for note in notes] == [
        "Warning: photos not found in --images or near the folders"
    ]
    names = ["compare.html", "compare.json", "compare.jsonl"]
    assert sorted(file.name for file in output.iterdir()) == names
    assert (output / "compare.jsonl").read_bytes() == printed
    record = json.loads((output / "compare.json").read_text())
    assert record["images"] == {"both": 2, "a": 1, "b": 1}
    assert record["right"] == {"both": 1, "a": 1, "b": 0, "neither": 0, "p": 1}
    assert record["warnings"] == []
    quiet = run("compare", *networks, "--output", output, "--quiet")
    assert (quiet.exit_code, quiet.stdout_bytes) == (0, b"")
    assert stderr(quiet).splitlines() == notes


def test_the_same_run_twice_is_said(run: Run, networks: tuple[Path, Path]) -> None:
    for folder in networks:
        (folder / "run.json").write_text(json.dumps({"weights_hash": "sha256:1", "model": "m"}))
    found = run("compare", *networks)
    (line,) = stderr(found).splitlines()
    assert line.startswith("Warning: both folders have the same weights and settings")
    (networks[0] / "run.json").write_text("{")
    (line,) = stderr(run("compare", *networks)).splitlines()
    assert line.startswith(f"Warning: '{networks[0]}': unreadable run.json: not JSON")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none"], "'none' has no readable manifest.jsonl (No such file or directory)"),
        (["other"], "no result of 'a' is in 'other': expected two output folders of the same"),
        (["bad"], "'bad/manifest.jsonl' line 2: "),
        (["outside"], "would lie outside of its folder 'outside'"),
        (["b", "--open"], "--open shows the page that --output DIR writes"),
        (["b", "--images", "none"], "'none' does not exist"),
    ],
)
def test_wrong_usage_is_one_line(
    arguments: list[str],
    message: str,
    run: Run,
    networks: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(networks[0].parent)
    write_output(Path("other"), {"5.jpg": PEAK})
    write_output(Path("outside"), {"1.jpg": PEAK}, map="../a/1.gradcam.npy")
    bad = write_output(Path("bad"), {"1.jpg": PEAK}) / "manifest.jsonl"
    bad.write_text(bad.read_text() + '{"image": 3}\n')
    output = [] if "--open" in arguments else ["--output", "out"]
    assert message in refused(run("compare", "a", *arguments, *output))
    assert not Path("out").exists()


def test_compare_does_not_import_torch(networks: tuple[Path, Path], tmp_path: Path) -> None:
    code = (
        "import sys\nfrom camcli.cli import _exit_code\n"
        "assert _exit_code(['compare', *sys.argv[1:3]]) == 0\n"
        "assert not {'torch', 'cv2'} & set(sys.modules)\n"
        "assert _exit_code(['compare', *sys.argv[1:]]) == 0\n"
        "assert 'torch' not in sys.modules"
    )
    words = [*map(str, networks), "--output", str(tmp_path / "out")]
    subprocess.run([sys.executable, "-c", code, *words], check=True, capture_output=True)


def explained(run: Run, output: Path, *options: Any) -> Path:
    found = run(
        "explain", SAMPLES, "--save", "map", "--output", output, *options, "--device", "cpu"
    )
    assert found.exit_code == 0, stderr(found)
    return output


@pytest.fixture(scope="module")
def slightly_other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of mini with noise of a thousandth."""
    module = load("mini", device="cpu").module
    torch.manual_seed(0)
    state = module.state_dict()
    noisy = {name: w * (1 + 1e-3 * torch.randn_like(w)) for name, w in state.items()}
    file = tmp_path_factory.mktemp("weights") / "noisy.pth"
    torch.save(noisy, file)
    return file


def test_two_checkpoints_and_another_network(
    run: Run, slightly_other: Path, tmp_path: Path
) -> None:
    """Photos that one checkpoint explains like the other, and a random network otherwise.

    Other sizes, crops and layers make no difference between the checkpoints.
    """
    mini = explained(run, tmp_path / "mini")
    noisy = ("--model", "squeezenet1_0", "--weights", slightly_other)
    medians = {}
    for name, options in {
        "noisy": noisy,
        "at another size": (*noisy, "--fit", "full"),
        "random": ("--model", "resnet18", "--weights", "none"),
    }.items():
        other = explained(run, tmp_path / name, *options)
        output = tmp_path / f"{name} compared"
        found = run("compare", mini, other, "--output", output, "--images", SAMPLES)
        assert found.exit_code == 0
        record = json.loads((output / "compare.json").read_text())
        count = len(manifest(mini))
        assert record["results"] == {"both": count, "a": 0, "b": 0}
        medians[name] = [one["correlation"]["median"] for one in record["methods"]]
        if name == "noisy":
            line = line_of(stdout(found), "same class predicted")
            assert line.startswith("same class predicted: 100.0%")
            assert record["methods"][0]["shift"] == 0
    assert medians["noisy"][0] > 0.99
    assert medians["at another size"][0] > 0.6
    assert medians["random"][0] < 0.5
