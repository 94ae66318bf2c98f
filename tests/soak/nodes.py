"""Ray on nodes that are unlike each other, and commands on it that SIGKILL stops."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import click

from tests.soak.command import check, environment, measured
from tests.support.files import files, make_photo
from tests.support.nodes import ACTOR, nodes, processes, words_of
from tests.support.waiting import wait_until

IMAGES = 96
THREADS = {"num_cpus": 2, "env_vars": {"OMP_NUM_THREADS": "2"}}
PROCESSORS = (
    {"env_vars": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}},
    {"env_vars": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"}},
)
"""Nodes that compute like older processors."""


def measure(folder: Path, count: int, seed: int) -> None:
    """Run a command on unlike nodes, and kill `count` others. Raises AssertionError."""
    for i in range(IMAGES):
        make_photo(folder / "in" / f"{i:02}.jpg", 60 + 7 * (i % 3), 50 + i)
    check(measured(*_arguments(folder, "local")), "local", (0,))
    with nodes({}, *PROCESSORS) as cluster:
        _run(cluster, folder, "processors")
    _compare(folder)
    with nodes({}, {}, THREADS) as cluster:
        seconds = [_kill(cluster, folder, random.Random(f"{seed}-{n}")) for n in range(count)]
    work = f"explain --executor ray: {count} commands of {IMAGES} images killed on 4 nodes"
    click.echo(f"{work}, after {min(seconds):.1f} to {max(seconds):.1f} s, and continued")


def _compare(folder: Path) -> None:
    """Print how many files of the unlike processors have other bytes; no map is another."""
    here, there = files(folder / "local"), files(folder / "processors")
    assert here.keys() == there.keys()
    maps = [name for name in here if name.endswith(".npy")]
    other = sum(here[name] != there[name] for name in maps)
    record = folder / "check.jsonl"
    with record.open("wb") as stream:
        found = measured("check", folder / "processors", folder / "local", "--json", stdout=stream)
    check(found, "processors", (0,))
    most = max(json.loads(row)["relative"] or 0 for row in record.read_text().splitlines())
    words = f"{other} have other bytes, by {most:.1g} of the largest value at most"
    click.echo(f"explain --executor ray: {len(maps)} maps of nodes of 3 processors, {words}")


def _kill(cluster: Any, folder: Path, chance: random.Random) -> float:
    """Kill a command at a random moment after its first picture, and run it again.

    Return the seconds until it was killed. No actor of the killed command stays.
    """
    output, after = folder / "killed", chance.uniform(0, 1)
    words = words_of(cluster, *_arguments(folder, output.name))
    quiet = subprocess.DEVNULL
    with subprocess.Popen(words, env=environment(), stdout=quiet, stderr=quiet) as driver:
        wait_until(lambda: any(output.glob("*.npy")), 300)
        try:
            driver.wait(after)
        except subprocess.TimeoutExpired:
            driver.kill()
    assert driver.returncode in (0, -signal.SIGKILL), driver.returncode
    wait_until(lambda: not processes(ACTOR))
    _run(cluster, folder, output.name, "--skip-existing")
    assert files(output) == files(folder / "local")
    shutil.rmtree(output)
    return after


def _run(cluster: Any, folder: Path, output: str, *more: str) -> None:
    words = words_of(cluster, *_arguments(folder, output, *more))
    found = subprocess.run(words, env=environment(), capture_output=True)
    assert found.returncode == 0, found.stderr[-2000:]


def _arguments(folder: Path, output: str, *more: str) -> tuple[object, ...]:
    fixed = ("--model", "mini", "--device", "cpu", "--batch-size", 4, "--quiet")
    return ("explain", folder / "in", *fixed, *more, "--output", folder / output)
