"""The benchmarks run, and compare what took turns. What they measure here means nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.clock import in_turns, ratio
from tests.bench.sections import SECTIONS
from tests.support.benchmark import run_benchmark


@pytest.mark.bench
@pytest.mark.parametrize("section", [name for name in SECTIONS if name != "cluster"])
def test_sections_run(section: str, tmp_path: Path) -> None:
    """test_ray.py runs the section `cluster`, which needs Ray."""
    run_benchmark(tmp_path, [section])


def test_contenders_take_turns() -> None:
    calls: list[str] = []
    names = "abc"
    seconds = in_turns({name: lambda name=name: calls.append(name) for name in names}, 3)
    assert "".join(calls) == "abc" + "abc" + "bca" + "cab"
    assert {name: len(taken) for name, taken in seconds.items()} == dict.fromkeys(names, 3)


def test_ratios_are_taken_round_by_round() -> None:
    assert ratio([2.0, 20.0, 6.0], [1.0, 10.0, 2.0]) == 2.0
