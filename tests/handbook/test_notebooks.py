"""The notebooks run, are small, and keep their outputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.handbook.notebooks import NOTEBOOKS, execute

pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
every_notebook = pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


@every_notebook
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_notebooks_run(file: Path, tmp_path: Path) -> None:
    kept, found = json.loads(file.read_text()), execute(file, tmp_path)
    for old, new in zip(code_cells(kept), code_cells(found), strict=True):
        types = [{one["output_type"] for one in cell["outputs"]} for cell in (old, new)]
        assert types[0] == types[1], "python -m tests.handbook.notebooks"


@every_notebook
def test_notebooks_are_small(file: Path) -> None:
    assert file.stat().st_size < 400_000
    assert str(Path.home()) not in file.read_text()
