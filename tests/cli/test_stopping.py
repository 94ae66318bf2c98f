"""Runs that stop early: `--fail-fast`, SIGTERM and SIGINT."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from camcli.runs import worker
from tests.support.command import TINY, Run, stderr
from tests.support.files import SAMPLES, make_photo, manifest


def test_fail_fast_stops_at_the_first_error(run: Run, tmp_path: Path) -> None:
    for i in range(9):
        make_photo(tmp_path / "in" / f"{i}.jpg")
    (tmp_path / "in" / "2.jpg").write_text("not an image")
    arguments = ("explain", tmp_path / "in", *TINY, "--batch-size", 1, "--output", tmp_path / "out")
    found = run(*arguments, "--fail-fast")
    assert found.exit_code == 1
    rows = manifest(tmp_path / "out")
    assert [row["image"] for row in rows[:3]] == ["0.jpg", "1.jpg", "2.jpg"]
    assert len(rows) < 9
    assert rows[2]["status"] == "error"


@pytest.mark.parametrize(
    ("number", "code", "last"),
    [(signal.SIGTERM, 143, "Terminated."), (signal.SIGINT, 130, "Interrupted.")],
)
def test_a_signal_keeps_the_rows_and_sets_the_exit_code(
    number: signal.Signals, code: int, last: str, run: Run, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for i in range(9):
        make_photo(tmp_path / "in" / f"{i}.jpg")
    explain, calls = worker.explain, itertools.count()

    def signalled(*arguments: Any, **options: Any) -> Any:
        if next(calls) == 4:
            os.kill(os.getpid(), number)
        return explain(*arguments, **options)

    monkeypatch.setattr(worker, "explain", signalled)
    arguments = ("explain", tmp_path / "in", *TINY, "--batch-size", 1, "--output", tmp_path / "out")
    found = run(*arguments)
    assert found.exit_code == code
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, "the handler is restored"
    assert stderr(found).endswith(f"\n{last}\n")
    rows = manifest(tmp_path / "out")
    assert [row["image"] for row in rows] == [f"{i}.jpg" for i in range(4)]
    assert not list((tmp_path / "out").glob(".camcli*"))
    assert run(*arguments, "--skip-existing").exit_code == 0


@pytest.mark.parametrize("threads", ["1", "2"])
def test_an_interrupted_process_leaves_whole_files(
    threads: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    for i in range(400):
        shutil.copy(SAMPLES / "chelsea.jpg", make_photo(tmp_path / "in" / f"{i:03}.jpg"))
    out = tmp_path / "out"
    command = [sys.executable, "-m", "camcli", "explain", str(tmp_path / "in"), *TINY]
    process = subprocess.Popen(
        [*command, "--output", str(out)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout
    printed = itertools.islice(process.stdout, 4)
    assert len([*printed]) == 4, "a line per image, as it is written"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors.decode().endswith("\nInterrupted.\n")
    rows = manifest(out)
    assert 0 < len(rows) < 400
    for row in rows:
        assert np.load(out / row["map"]).shape == (13, 13)
    assert not list(out.glob(".camcli*"))
