"""The benchmarks run, and compare what took turns. What they measure here means nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.bench.clock import in_turns, ratio
from tests.bench.plan import plan
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


def test_the_plan_is_calculated_from_figures_and_prices(tmp_path: Path) -> None:
    figures = {"read": 3.0, "explain": 90.0, "write, png": 3.0, "list": 0.02, "manifest": 0.04}
    sizes = {"read": 60.0, "overlay, png": 199.0, "map": 1.0, "manifest": 0.8}
    cases = ("resnet50, 64 photos", figures), ("bytes", sizes)
    rows = [
        {"section": "stages", "case": case, "what": what, "median": value}
        for case, values in cases
        for what, value in values.items()
    ]
    file = tmp_path / "bench.json"
    file.write_text(json.dumps({"rows": rows}))
    prices = ("--put-price", "0.01", "--get-price", "0.001", "--storage-price", "10")
    shapes = ("--shape", "2", "1", "3.6", "--shape", "96", "0", "3.6")
    given = [str(file), "--photos", "9e6", *prices, *shapes, "--per-tar", "1000"]
    found = CliRunner().invoke(plan, given, catch_exceptions=False).output.splitlines()
    assert "| photos per second | 500 | 4000 | 32000 | 667 |" in found
    assert "| hours for 9e+06 photos, and for their list | 5.0 + 0.1 | 0.6 + 0.1 | 0.1 + 0.1 |" in (
        line.rpartition(" 3.8")[0] for line in found
    )
    assert "| 2 | 1 | 3.6 | 333 | cores for files | 3.00 |" in found
    assert "| 96 | 0 | 3.6 | 1000 | network on cores | 1.00 |" in found
    assert "| no tar, 2 files | 2 | 22.00 | 2.00 |" in found
    assert "| 1000 | 0.022 | 2.22 | 2.00 |" in found
