"""Signals to a command's process: it ends soon, with one line and its exit code."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from camcli.signals import ENDINGS
from tests.support.command import TINY
from tests.support.files import SAMPLES, files, make_photo
from tests.support.waiting import wait_until

SOON = 5
"""The seconds that a process may take to end, on a machine that is busy with other tests."""
BOTH = pytest.mark.parametrize("number", ENDINGS)


@pytest.fixture
def start() -> Iterator[Any]:
    """Start a command in a process of its own."""
    started: list[subprocess.Popen[bytes]] = []

    def call(*arguments: object, code: str = "", **options: Any) -> subprocess.Popen[bytes]:
        python = ["-c", f"{code}\nfrom camcli.__main__ import main; main()"] if code else []
        command = [sys.executable, *(python or ["-m", "camcli"]), *map(str, arguments)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
        started.append(subprocess.Popen(command, **pipes))
        return started[-1]

    yield call
    for process in started:
        process.kill()
        process.communicate()


def ended(process: subprocess.Popen[bytes], number: signal.Signals, times: int = 1) -> None:
    """Send a signal, and check the end of a process."""
    began = time.monotonic()
    for _ in range(times):
        process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    code, line = ENDINGS[number]
    assert process.returncode == code, errors
    problems = [one for one in errors.decode().splitlines() if not one.startswith("Note: ")]
    assert problems == [line]
    assert time.monotonic() - began < SOON


def photos(folder: Path, count: int) -> Path:
    for i in range(count):
        shutil.copy(SAMPLES / "chelsea.jpg", make_photo(folder / f"{i:03}.jpg"))
    return folder


def listens(process: subprocess.Popen[bytes]) -> bool:
    """Return whether the thread that waits for signals runs."""
    return len(os.listdir(f"/proc/{process.pid}/task")) > 1


def imports(process: subprocess.Popen[bytes], part: str) -> bool:
    return part in Path(f"/proc/{process.pid}/maps").read_text()


in_proc = pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="there is no /proc here")


@BOTH
@in_proc
def test_during_the_import_of_torch(number: signal.Signals, start: Any, tmp_path: Path) -> None:
    process = start("explain", photos(tmp_path / "in", 1), *TINY, "--output", tmp_path / "out")
    wait_until(partial(imports, process, "libtorch"))
    ended(process, number)


@BOTH
def test_before_the_command_is_imported(number: signal.Signals, start: Any) -> None:
    code = (
        "import sys, camcli.__main__\n"
        "class Finder:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'camcli.cli':\n"
        "            print(flush=True)\n"
        "            try:\n"
        "                import time; time.sleep(60)\n"
        "            except BaseException: pass\n"
        "sys.meta_path.insert(0, Finder())\n"
    )
    process = start("models", code=code)
    process.stdout.readline()
    ended(process, number)


@BOTH
@pytest.mark.parametrize("times", [1, 20])
def test_during_long_passes(number: signal.Signals, times: int, start: Any, tmp_path: Path) -> None:
    """A batch of Score-CAM takes much longer than a second."""
    arguments = ["explain", photos(tmp_path / "in", 4), "--model", "resnet18", "--weights", "none"]
    arguments += [
        "--method",
        "gradcam",
        "--method",
        "scorecam",
        "--batch-size",
        2,
        "--save",
        "map",
        "--output",
    ]
    process = start(*arguments, tmp_path / "out")
    wait_until(lambda: [*(tmp_path / "out").glob(".camcli-*.manifest.jsonl")])
    ended(process, number, times)


@BOTH
def test_a_stopped_run_is_finished_to_the_same_bytes(
    number: signal.Signals, start: Any, tmp_path: Path
) -> None:
    arguments = ["explain", photos(tmp_path / "in", 30), *TINY, "--save", "map"]
    arguments += ["--batch-size", 2, "--skip-existing", "--output"]
    process = start(*arguments, tmp_path / "stopped")
    for _ in range(4):
        process.stdout.readline()
    ended(process, number)
    for out in ("stopped", "whole"):
        assert start(*arguments, tmp_path / out).wait(120) == 0
    found, expected = (files(tmp_path / out) for out in ("stopped", "whole"))
    assert found == expected


BLOCKED = {
    "a pipe without a writer": "open(sys.argv.pop(), 'rb')",
    "a lock": "import threading; lock = threading.Lock(); lock.acquire(); lock.acquire()",
    "code that hides exceptions": (
        "while True:\n        try: time.sleep(60)\n        except BaseException: pass"
    ),
    "a library with handlers of its own": (
        "import signal\n"
        "    for each in (2, 15): signal.signal(each, lambda number, _: sys.exit(number))\n"
        "    print('set', flush=True); time.sleep(60)"
    ),
    "a long operation in C": "import torch; x = torch.ones(2**27)\n    while True: x.sin_()",
}


@BOTH
@pytest.mark.parametrize("blocked", BLOCKED)
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_while_the_main_thread_waits(
    number: signal.Signals, blocked: str, start: Any, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe")
    code = (
        "import sys, time, camcli.engine.catalogue\n"
        "def list_names(_=''):\n"
        "    print('blocked', flush=True)\n"
        f"    {BLOCKED[blocked]}\n"
        "camcli.engine.catalogue.list_names = list_names\n"
    )
    process = start("models", tmp_path / "pipe", code=code)
    assert process.stdout.readline() == b"blocked\n"
    if "handlers" in blocked:
        process.stdout.readline()
    ended(process, number)


@BOTH
def test_while_nobody_reads(number: signal.Signals, start: Any, tmp_path: Path) -> None:
    """A full pipe holds the process back, at standard output and at standard error."""
    code = (
        "import sys, camcli.engine.catalogue\n"
        "def list_names(_=''):\n"
        "    sys.stdout.write('x' * 2**20); sys.stdout.flush()\n"
        "camcli.engine.catalogue.list_names = list_names\n"
    )
    process = start("models", code=code)
    assert process.stdout.read(1) == b"x"
    process.send_signal(number)
    assert process.wait(60) == ENDINGS[number][0]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no handlers to inherit")
def test_a_signal_that_the_parent_ignores_stays_ignored(start: Any) -> None:
    code = (
        "import os, signal\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "import camcli.engine.catalogue as c\n"
        "c.list_names = lambda _='': os.kill(os.getpid(), signal.SIGINT) or []\n"
    )
    process = start("models", code=code)
    assert process.wait(60) != 130


@pytest.mark.parametrize("command", ["check", "report", "evaluate"])
@BOTH
def test_other_commands(number: signal.Signals, command: str, start: Any, tmp_path: Path) -> None:
    """The commands end wherever the signal meets them."""
    source, out = photos(tmp_path / "in", 12), tmp_path / "out"
    if command == "evaluate":
        process = start(command, source, *TINY, "--method", "gradcam", "--output", out)
        wait_until(partial(listens, process))
    else:
        assert start("explain", source, *TINY, "--save", "map", "--output", out).wait(120) == 0
        other = [shutil.copytree(out, tmp_path / "other")] if command == "check" else []
        code = (  # which slows down the reading of each row
            "import time, camcli.runs.manifest as m\n"
            "parse = m.parse_row\n"
            "def slow(line):\n"
            "    print('row', flush=True); time.sleep(2); return parse(line)\n"
            "m.parse_row = slow\n"
        )
        process = start(command, out, *other, code=code)
        assert process.stdout.readline() == b"row\n"
    ended(process, number)
