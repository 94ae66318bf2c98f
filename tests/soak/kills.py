"""Runs that SIGKILL stops at a random moment, and that `--skip-existing` finishes."""

from __future__ import annotations

import itertools
import random
import shutil
import signal
import subprocess
from collections import Counter
from pathlib import Path

import click

from tests.soak.command import check, environment, measured, words_of
from tests.support.command import TINY
from tests.support.files import files, make_photo

IMAGES = 24
MODES = ("plain", "--skip-existing", "--overwrite", "shards")


def measure(folder: Path, count: int, seed: int) -> None:
    """Kill `count` runs in all modes in turn, and finish each. Raises AssertionError.

    The files and the manifest must then be those of a run that nothing disturbed. A run that ends
    before it is killed is finished too, and does not count.
    """
    for i in range(IMAGES):
        make_photo(folder / "in" / f"{i:02}.jpg", 60 + 7 * (i % 3), 50)
    undisturbed = measured(*_arguments(folder, "whole"))
    check(undisturbed, "whole", (0,))
    check(measured(*_arguments(folder, "other", "--colormap", "jet")), "other", (0,))
    expected, chance, killed = files(folder / "whole"), random.Random(seed), Counter[str]()
    for number in itertools.takewhile(lambda _: killed.total() < count, itertools.count()):
        mode, output = MODES[number % len(MODES)], folder / f"killed{number}"
        where = f"seed {seed}, run {number}, {mode}"
        if mode == "--overwrite":
            shutil.copytree(folder / "other", output)
        moment = chance.uniform(0.3, 1) * undisturbed.seconds
        killed[mode] += _kill(folder, output.name, mode, moment)
        found = _finish(folder, output.name, mode)
        assert not found.count("Traceback"), f"{where}: {found}"
        made = {name: data for name, data in files(output).items() if "shards/" not in name}
        assert made.keys() == expected.keys(), f"{where}: {made.keys() ^ expected.keys()}"
        other = [name for name, data in expected.items() if made[name] != data]
        assert not other, f"{where}: {other}"
        shutil.rmtree(output)
    modes = ", ".join(f"{mode} {killed[mode]}" for mode in MODES)
    click.echo(f"explain: {count} runs of {IMAGES} images killed: {modes}")


def _arguments(folder: Path, output: str, *more: str) -> tuple[object, ...]:
    batches = ("--batch-size", 4, "--quiet")
    return ("explain", folder / "in", *TINY, *batches, *more, "--output", folder / output)


def _kill(folder: Path, output: str, mode: str, seconds: float) -> bool:
    """Start a run, and kill it after a while. Return whether it was still running."""
    more = ["--shard", "1/2"] if mode == "shards" else [mode] if mode != "plain" else []
    words, quiet = words_of(*_arguments(folder, output, *more)), subprocess.DEVNULL
    with subprocess.Popen(words, stdout=quiet, stderr=quiet, env=environment()) as process:
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.returncode == -signal.SIGKILL


def _finish(folder: Path, output: str, mode: str) -> str:
    """Finish a run, and return what it prints on standard error."""
    parts = {"shards": [["--shard", "1/2"], ["--shard", "2/2"]], "--overwrite": [["--overwrite"]]}
    each = parts.get(mode, [[]])
    found = [measured(*_arguments(folder, output, "--skip-existing", *more)) for more in each]
    if mode == "shards":
        found.append(measured("merge", folder / output))
    for one in found:
        check(one, output, (0,))
    return "".join(one.stderr for one in found)
