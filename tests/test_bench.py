"""That the benchmarks run; what they measure here means nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from click.testing import CliRunner

from tests.bench.__main__ import bench
from tests.bench.clock import in_turns, ratio
from tests.bench.sections import SECTIONS


def test_every_section_runs(tmp_path: Path) -> None:
    measure(tmp_path, [name for name in SECTIONS if name != "cluster"])  # see test_cluster.py


def measure(folder: Path, sections: Sequence[str]) -> None:
    file = folder / "bench.json"
    arguments = [*sections, "--quick", "--json", str(file)]
    found = CliRunner().invoke(bench, arguments, catch_exceptions=False)
    assert found.exit_code == 0, found.output
    rows = json.loads(file.read_text())["rows"]
    assert {row["section"] for row in rows} == set(sections)
    assert all(row["median"] > 0 and row["ratio"] > 0 for row in rows)
    table = [line for line in found.output.splitlines() if line.startswith("| ")]
    assert len(table) == len(rows) + 1


def test_taking_turns() -> None:
    calls: list[str] = []
    names = "abc"
    seconds = in_turns({name: lambda name=name: calls.append(name) for name in names}, 3)
    assert "".join(calls) == "abc" + "abc" + "bca" + "cab"
    assert {name: len(taken) for name, taken in seconds.items()} == dict.fromkeys(names, 3)


def test_ratios_are_taken_round_by_round() -> None:
    assert ratio([2.0, 20.0, 6.0], [1.0, 10.0, 2.0]) == 2.0
