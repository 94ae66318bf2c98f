"""A heap that keeps what it is given back has it ready without the system's help."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from camcli.runs import allocator

FAULTS = """
import resource
import numpy as np
from camcli.runs.allocator import keep_freed_memory
if {keep}:
    keep_freed_memory()
np.ones(8_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    np.ones(8_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(*, keep: bool) -> int:
    """Page faults of taking 64 megabytes three times, which were taken and given back before."""
    script = FAULTS.format(keep=keep)
    return int(subprocess.run([sys.executable, "-c", script], capture_output=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_what_was_freed_is_ready() -> None:
    assert faults(keep=True) < 100 < faults(keep=False)


def test_where_there_is_no_such_heap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: object())
    allocator.keep_freed_memory()
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.delattr(allocator.ctypes, "CDLL")
    allocator.keep_freed_memory()
