"""The long runs of `make soak`, with little work."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from tests.soak.__main__ import soak

pytestmark = pytest.mark.bench


@pytest.mark.parametrize(("part", "work"), [("records", ("--rows", "1500"))])
def test_a_part_prints_its_seed_and_its_figures(part: str, work: tuple[str, ...]) -> None:
    found = CliRunner().invoke(soak, [part, *work], catch_exceptions=False)
    seed, *figures = found.output.splitlines()
    assert (found.exit_code, seed) == (0, f"{part}: seed 0")
    assert figures
    assert all(" s, peak " in line for line in figures)
