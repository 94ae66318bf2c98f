"""An output folder for the tests of `camcli report`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.report import make_output_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_output_folder(tmp_path)
