"""The long runs of `make soak`, with little work."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from tests.soak.__main__ import soak

pytestmark = pytest.mark.bench


@pytest.mark.parametrize(
    ("part", "option", "count", "lines"),
    [
        ("records", "--rows", "1500", 8),
        ("files", "--count", "120", 1),
        ("kills", "--count", "4", 1),
    ],
)
def test_a_part_prints_its_seed_and_its_figures(
    part: str, option: str, count: str, lines: int
) -> None:
    found = CliRunner().invoke(soak, [part, option, count], catch_exceptions=False)
    seed, *figures = found.output.splitlines()
    assert (found.exit_code, seed) == (0, f"{part}: seed 0")
    assert len(figures) == lines
    assert all(f" {count} " in line for line in figures)


def test_lists_print_their_figures() -> None:
    found = CliRunner().invoke(soak, ["lists", "--count", "2000"], catch_exceptions=False)
    new, kept, command = found.output.splitlines()
    assert "new: 2000 of 2000 images" in new
    assert "kept: 2000 of 2000 images" in kept
    assert command.startswith("explain --skip-existing: first image after")
