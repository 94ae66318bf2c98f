"""Run the notebooks of the handbook: `python -m tests.handbook.notebooks` keeps their outputs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from tests.support.files import ROOT

NOTEBOOKS = sorted((ROOT / "docs/notebooks").glob("*.ipynb"))


def execute(file: Path, programs: Path) -> Any:
    """Return a notebook with the outputs of a run, in which `camcli` is this checkout's.

    `programs` is a folder for the command. Raises CellExecutionError.
    """
    import nbformat
    from nbclient import NotebookClient

    command = programs / "camcli"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m camcli "$@"\n')
    command.chmod(0o700)
    paths = {"PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    found = nbformat.read(file, as_version=4)
    place = {"metadata": {"path": file.parent}}
    client = NotebookClient(found, timeout=300, resources=place, coalesce_streams=True)
    client.execute(env={**os.environ, **paths})
    for cell in found.cells:
        cell.metadata.pop("execution", None)  # times
    return found


def main() -> None:
    """Run all notebooks and write them with their outputs."""
    from tempfile import TemporaryDirectory

    import nbformat

    for file in NOTEBOOKS:
        with TemporaryDirectory() as folder:
            nbformat.write(execute(file, Path(folder)), file)


if __name__ == "__main__":
    main()
