"""`camcli explain --save boxes`: what it prints, writes and refuses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from click.testing import Result

from tests.support.files import SAMPLES, manifest

TINY = ("--model", "squeezenet1_1", "--weights", "none", "--device", "cpu")


def test_boxes_are_printed_and_recorded(run: Callable[..., Result], tmp_path: Path) -> None:
    boxes = ("--save", "boxes", "--boxes", "all", "--box-threshold", 0.5)
    found = run("explain", SAMPLES / "dog.jpg", *TINY, *boxes, "--output", tmp_path)
    assert found.exit_code == 0
    (row,) = manifest(tmp_path)
    assert row["boxes"]
    printed = "".join(f"  box {x0},{y0},{x1},{y1}" for x0, y0, x1, y1 in row["boxes"])
    assert found.stdout_bytes.decode().rstrip().endswith(printed)
    assert (tmp_path / "dog.gradcam.boxes.png").exists()


def test_a_dry_run_names_the_picture_of_the_boxes(run: Callable[..., Result]) -> None:
    found = run("explain", SAMPLES / "dog.jpg", "--save", "boxes", "--dry-run", "--output", "o")
    assert found.stdout_bytes.decode().endswith("dog.jpg -> o/dog.gradcam.boxes.png\n")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--boxes", "larg"), b"unknown choice of boxes 'larg': did you mean 'largest'"),
        (("--box-threshold", 1), b"box threshold 1.0: expected a fraction of the map's maximum"),
        (("--method", "guided", "--save", "boxes"), b"'guided' gives images, and only maps have"),
    ],
)
def test_wrong_usage_is_refused_before_anything_is_written(
    arguments: Sequence[object], reason: bytes, run: Callable[..., Result], tmp_path: Path
) -> None:
    found = run("explain", SAMPLES / "dog.jpg", *TINY, *arguments, "--output", tmp_path / "out")
    assert found.exit_code == 2
    assert reason in found.stderr_bytes
    assert not (tmp_path / "out").exists()
