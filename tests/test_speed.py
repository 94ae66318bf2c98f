"""Speedups: each has its effect, can be disabled, and changes no result."""

from __future__ import annotations

import ctypes
import gc
import platform
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from camcli import speed
from tests.support.files import ROOT, files, make_photo

DISABLED = "CAMCLI_NO_SPEEDUPS"


@pytest.fixture(params=[True, False], ids=["enabled", "disabled"])
def enabled(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Run a test with speedups enabled and with speedups disabled."""
    monkeypatch.setenv(DISABLED, "" if request.param else "1")
    return request.param


def python(*arguments: str) -> str:
    """Run a new interpreter and return what it writes to standard output."""
    command = [sys.executable, *arguments]
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout


def test_threads_compute_the_properties_of_their_own_objects_in_parallel() -> None:
    together = threading.Barrier(2)

    class Slow:
        @speed.cached_property
        def value(self) -> int:
            return together.wait(20)

    objects = [Slow(), Slow()]
    with ThreadPoolExecutor(2) as threads:
        found = [*threads.map(lambda one: one.value, objects)]
    assert sorted(found) == [0, 1]
    assert [one.value for one in objects] == found, "computed once"


def test_no_property_takes_a_lock_that_all_objects_share() -> None:
    sources = [file for file in (ROOT / "camcli").rglob("*.py") if file.name != "speed.py"]
    assert not [file for file in sources if "from functools import cached_p" in file.read_text()]


def test_results_are_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(3):
        make_photo(tmp_path / "in" / f"{i}.jpg", 60 + 30 * i, 70)
    for name in ("", "1"):
        monkeypatch.setenv(DISABLED, name)
        command = ("-m", "camcli", "explain", tmp_path / "in", "--model", "mini", "--output")
        python(*map(str, (*command, tmp_path / f"out{name}")))
    found = files(tmp_path / "out")
    assert len(found) == 7
    assert files(tmp_path / "out1") == found


@pytest.mark.parametrize(("value", "expected"), [("", True), ("0", True), ("1", False)])
def test_the_switch(value: str, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DISABLED, value)
    assert speed.enabled() is expected
    monkeypatch.delenv(DISABLED)
    assert speed.enabled()


def test_the_module_is_cheap_to_import() -> None:
    code = "import sys, camcli.speed; print(*{'torch', 'ctypes', 'click'} & {*sys.modules})"
    assert python("-c", code) == "\n"


MEMORY = """
import ctypes
import numpy as np
from camcli.speed import keep_freed_memory

class State(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    ).split()]

keep_freed_memory()
np.ones(8_000_000)
mallinfo2 = ctypes.CDLL(None).mallinfo2
mallinfo2.restype = State
print(mallinfo2().fordblks)
"""


def has_mallinfo2() -> bool:
    return platform.libc_ver()[0] == "glibc" and hasattr(ctypes.CDLL(None), "mallinfo2")


@pytest.mark.skipif(not has_mallinfo2(), reason="needs glibc 2.33 or newer")
def test_freed_memory_is_kept(enabled: bool) -> None:
    kept = int(python("-c", MEMORY))
    assert (kept >= 64_000_000) is enabled


def test_keeping_memory_does_nothing_without_glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    speed.keep_freed_memory()
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.delattr(ctypes, "CDLL")
    speed.keep_freed_memory()


def test_explaining_does_not_import_the_compiler(enabled: bool) -> None:
    found = python(
        "-c",
        """
import sys, torch
with_torch = "torch._dynamo" in sys.modules  # some versions of torch import it themselves
import camcli, camcli.runs.pipeline, camcli.training.train
from camcli.models.fold_batchnorm import fold_batchnorm
camcli.explain(fold_batchnorm(camcli.load("mini")), torch.randn(1, 3, 160, 160))
print(with_torch, "torch._dynamo" in sys.modules)
""",
    )
    with_torch, explained = found.split()
    assert explained == "True" if not enabled else explained == with_torch


@pytest.mark.parametrize(
    "first", ["import camcli.models.torchvision", "import torchvision, camcli.models.torchvision"]
)
def test_the_deferred_function_is_the_compilers(first: str, enabled: bool) -> None:
    python(
        "-c",
        f"""
import sys, torch
{first}
deferred = sys.modules["torchvision.ops.roi_align"].is_compile_supported
found = [deferred(kind) for kind in ("cpu", "cuda", "meta")]
from torch._dynamo.utils import is_compile_supported, counters
assert found == [is_compile_supported(kind) for kind in ("cpu", "cuda", "meta")]
assert torch.compile(lambda x: x + 1, backend="eager")(torch.ones(2)).tolist() == [2, 2]
assert counters["frames"]["ok"] == 1
""",
    )


def test_other_attributes_of_a_deferred_module_load_it(enabled: bool) -> None:
    sys.modules.pop("colorsys", None)
    with speed.deferred_import("colorsys", "rgb_to_hsv"):
        from colorsys import ONE_THIRD, rgb_to_hsv
    assert ONE_THIRD == 1 / 3
    assert rgb_to_hsv(1, 0, 0) == (0, 1, 1)
    assert sys.modules["colorsys"].ONE_SIXTH == 1 / 6


def test_an_interrupted_thread_stops(enabled: bool) -> None:
    started, proceed, finished = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        try:
            started.set()
            for _ in range(6000):
                if proceed.wait(0.01):
                    break
            finished.set()
        except speed.Interrupted:
            pass

    thread = threading.Thread(target=work)
    thread.start()
    assert started.wait(20)
    speed.interrupt(thread)
    if not enabled:
        proceed.set()
    thread.join()
    assert finished.is_set() is not enabled


CYCLE = """
from camcli.speed import skip_last_collection

class Reporting:
    def __del__(self):
        print("collected")

skip_last_collection()
one = Reporting()
one.itself = one
del one
"""


def test_an_interrupt_that_is_lost_is_not_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fragile:
        def __init__(self, error: type[BaseException]) -> None:
            self.error = error

        def __del__(self) -> None:
            raise self.error

    reported: list[type[BaseException]] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda given: reported.append(given.exc_type))
    with speed.quiet_interrupts():
        Fragile(speed.Interrupted)
        Fragile(ValueError)
    Fragile(speed.Interrupted)
    assert reported == [ValueError, speed.Interrupted]


def test_there_is_no_garbage_collection_at_exit(enabled: bool) -> None:
    assert python("-c", CYCLE) == ("" if enabled else "collected\n")


@pytest.mark.parametrize("own", [True, False])
def test_no_collection_while_a_network_is_built(
    own: bool, enabled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed._own_process, "is_set", lambda: own)
    frozen = gc.get_freeze_count()
    try:
        with speed.without_collections():
            assert gc.isenabled() is not enabled
            with speed.without_collections():
                pass
            assert gc.isenabled() is not enabled, "the outer one goes on"
        assert gc.isenabled()
        assert (gc.get_freeze_count() > frozen) is (enabled and own)
    finally:
        gc.unfreeze()
