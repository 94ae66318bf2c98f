"""Run the command in a process of its own, and measure its time and its memory."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from typing import IO

import click


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


def start(
    *arguments: object, stdout: IO[bytes] | int, stderr: IO[bytes]
) -> subprocess.Popen[bytes]:
    """Start `camcli ARGUMENTS`, with one thread in torch."""
    words = [sys.executable, "-m", "camcli", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(words, stdout=stdout, stderr=stderr, env=environment)


def measured(
    *arguments: object, stdout: IO[bytes] | int = subprocess.DEVNULL, seconds: float = 3600
) -> Finished:
    """Run `camcli ARGUMENTS`. It is killed, with exit code -9, after `seconds`."""
    with tempfile.TemporaryFile() as errors:
        began = time.monotonic()
        process = start(*arguments, stdout=stdout, stderr=errors)
        deadline = threading.Timer(seconds, process.kill)
        deadline.start()
        _, status, usage = os.wait4(process.pid, 0)
        deadline.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        took = time.monotonic() - began
        errors.seek(0)
        text = errors.read().decode(errors="replace")
    cpu_seconds = usage.ru_utime + usage.ru_stime
    return Finished(process.returncode, took, cpu_seconds, usage.ru_maxrss * 1024 / 1e6, text)


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
