"""Time contenders that take turns."""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

Contender = Callable[[], object]


@dataclass(frozen=True)
class Measurement:
    """The median of a contender in `unit`, and the median of its ratios to the baseline.

    `goal` is the required ratio, for example `<= 1.05`, or empty.
    """

    section: str
    case: str
    what: str
    median: float
    ratio: float
    goal: str = ""
    unit: str = "s"


def in_turns(contenders: Mapping[str, Contender], repeats: int) -> dict[str, list[float]]:
    """Return the seconds of each contender, which runs once per round.

    If there are several rounds, each contender runs once before without being timed. Each round
    begins with another contender, so that none always follows the same one.
    """
    names = list(contenders)
    for name in names if repeats > 1 else []:
        contenders[name]()
    found: dict[str, list[float]] = {name: [] for name in names}
    for number in range(repeats):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            _settle()
            began = time.perf_counter()
            contenders[name]()
            _settle()
            found[name].append(time.perf_counter() - began)
    return found


def against(
    base: str,
    contenders: Mapping[str, Contender],
    repeats: int,
    place: tuple[str, str],
    goals: Mapping[str, str] | None = None,
) -> list[Measurement]:
    """Return a measurement of each contender. The ratios are to the contender `base`."""
    seconds = in_turns(contenders, repeats)
    return [
        Measurement(*place, name, statistics.median(taken), ratio(taken, seconds[base]), goal)
        for name, taken in seconds.items()
        for goal in [(goals or {}).get(name, "")]
    ]


def ratio(taken: Sequence[float], base: Sequence[float]) -> float:
    """Return the median of the ratios in each round."""
    return statistics.median(a / b for a, b in zip(taken, base, strict=True))


def command(*arguments: str | Path) -> Contender:
    """Return a contender that runs a process and discards its output."""

    def run() -> None:
        subprocess.run(arguments, check=True, capture_output=True)

    return run


def camcli(*arguments: str | Path) -> list[str]:
    """Return the command line of the installed camcli with arguments."""
    return [str(Path(sys.executable).with_name("camcli")), *map(str, arguments)]


def peak_memory(arguments: Sequence[str]) -> int:
    """Run a process and return its peak resident memory in bytes."""
    child = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, arguments)
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@contextlib.contextmanager
def watched(name: str) -> Iterator[list[int]]:
    """Record the peak memory in bytes of a process by name; 0 where there is no /proc."""
    peak, done = [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            for process in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError, IndexError):
                    if (process / "cmdline").read_text().startswith(name):
                        pages = int((process / "statm").read_text().split()[1])
                        peak[0] = max(peak[0], pages * os.sysconf("SC_PAGE_SIZE"))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


def _settle() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
