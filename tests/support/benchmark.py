"""Run sections of the benchmark with as little work as possible."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from click.testing import CliRunner

from tests.bench.__main__ import bench


def run_benchmark(folder: Path, sections: Sequence[str]) -> None:
    """Run sections of the benchmark, and check the table and the file that they write."""
    file = folder / "bench.json"
    arguments = [*sections, "--quick", "--json", str(file)]
    found = CliRunner().invoke(bench, arguments, catch_exceptions=False)
    assert found.exit_code == 0, found.output
    rows = json.loads(file.read_text())["rows"]
    assert {row["section"] for row in rows} == set(sections)
    assert all(row["median"] > 0 and row["ratio"] > 0 for row in rows)
    table = [line for line in found.output.splitlines() if line.startswith("| ")]
    assert len(table) == len(rows) + 1
