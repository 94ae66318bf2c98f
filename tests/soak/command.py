"""Run the command in a process of its own, and measure its time and its memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import click

LAUNCHER = Path(__file__).with_name("launcher.py")


@dataclass(frozen=True)
class Finished:
    """A command that has ended: its exit code, its times, and the peak of its memory in MB.

    `cpu_seconds` do not depend on how busy the machine is.
    """

    code: int
    seconds: float
    cpu_seconds: float
    peak_mb: float
    stderr: str


def words_of(*arguments: object) -> list[str]:
    """Return the words of `camcli ARGUMENTS`."""
    return [sys.executable, "-m", "camcli", *map(str, arguments)]


def environment() -> dict[str, str]:
    """Return the environment of a command, with one thread in torch."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def measured(
    *arguments: object, stdout: IO[bytes] | int = subprocess.DEVNULL, seconds: float = 3600
) -> Finished:
    """Run `camcli ARGUMENTS`. It is killed, with exit code -9, after `seconds`."""
    with tempfile.TemporaryDirectory() as folder:
        figures, errors = Path(folder, "figures"), Path(folder, "errors")
        words = [sys.executable, LAUNCHER, str(seconds), figures, *words_of(*arguments)]
        with errors.open("wb") as stderr:
            subprocess.run(words, stdout=stdout, stderr=stderr, env=environment(), check=True)
        code, took, cpu_seconds, peak = json.loads(figures.read_text())
        return Finished(code, took, cpu_seconds, peak / 1e6, errors.read_text(errors="replace"))


def print_figures(command: str, work: str, found: Finished) -> None:
    """Print the figures of a command in one line."""
    times = f"{found.seconds:.0f} s ({found.cpu_seconds:.0f} s of CPU)"
    figures = f"{times}, peak {found.peak_mb:.0f} MB"
    click.echo(f"{command}: {work}, exit code {found.code}, {figures}")


def check(found: Finished, where: object, codes: tuple[int, ...]) -> None:
    """Raise AssertionError for a traceback, or for another exit code."""
    end = found.stderr[-2000:]
    assert "Traceback" not in found.stderr, f"{where}: {end}"
    assert found.code in codes, f"{where}: exit code {found.code}: {end}"
