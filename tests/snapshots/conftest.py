"""Two output folders to compare."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.snapshots import PEAK, write_output


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """A new folder and its baseline: one map alike, one changed, one missing."""
    new = write_output(tmp_path / "new", {"a.jpg": PEAK, "sub/b.jpg": np.roll(PEAK, 3, 0)})
    maps = {"a.jpg": PEAK, "sub/b.jpg": PEAK, "c.jpg": PEAK}
    return new, write_output(tmp_path / "old", maps)
