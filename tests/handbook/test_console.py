"""The commands of the pages run, and print what the pages show.

A page's blocks run one after the other in one folder. `camcli-out` is empty before each command, so
that the examples of a page do not depend on each other. A block after the comment
`<!-- not run: reason -->` is not run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.handbook.console import Block, Command, blocks, without_numbers
from tests.handbook.sandbox import make_sandbox
from tests.support.files import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
pytestmark = [
    pytest.mark.xdist_group("console"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of the commands, with a server that starts camcli, and less work."""
    folder = tmp_path_factory.mktemp("server")
    variables = {
        **os.environ,
        "CAMCLI_SERVER": str(folder / "socket"),
        "CAMCLI_TRAIN_EPOCHS": "1",
        "BROWSER": "true",
        "OMP_NUM_THREADS": "1",
        "CAMCLI_TRAIN_VAL": "0.5",
        **{f"CAMCLI_EVALUATE_{name}_STEPS": "4" for name in ("CURVE", "SANITY")},
        **{f"CAMCLI_FIGURE_{name}": "64" for name in ("WINDOW", "STRIDE")},
    }
    command = [sys.executable, "-m", "tests.handbook.server", variables["CAMCLI_SERVER"]]
    with subprocess.Popen(command, cwd=ROOT, env=variables, stdout=subprocess.PIPE) as server:
        assert server.stdout
        assert server.stdout.readline() == b"ready\n"
        yield variables
        server.terminate()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sandbox(tmp_path_factory.mktemp("template") / "sandbox")


def run(command: Command, folder: Path, environment: dict[str, str]) -> None:
    """Run a command, and check its exit code, its files, and the lines that the page shows."""
    shutil.rmtree(folder / "camcli-out", ignore_errors=True)
    variables = {**environment, "HOME": str(folder), "PATH": f"{folder}/bin:{os.environ['PATH']}"}
    found = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command.text],  # noqa: S607 - of the system
        cwd=folder, env=variables, capture_output=True, text=True, errors="replace",
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    printed = found.stdout + found.stderr
    assert found.returncode in (0, 3 if command.may_differ else 0), f"{command.text}\n{printed}"
    if command.on_samples:
        missing = [file for file in command.files() if not (folder / file).exists()]
        assert not missing, command.text
        lines = {without_numbers(line) for line in printed.splitlines()}
        shown = [line for line in command.shown if line[:2].strip(" .!~")]
        assert not [line for line in shown if without_numbers(line) not in lines], printed


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p)], ids=lambda page: page.name)
def test_commands_run(
    page: Path, template: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    folder = shutil.copytree(template, tmp_path / "sandbox", symlinks=True)
    for block in blocks(page):
        for command in () if block.reason else block.commands:
            run(command, folder, environment)


def test_every_block_has_commands() -> None:
    found: list[tuple[Path, Block]] = [(page, block) for page in PAGES for block in blocks(page)]
    assert len(found) > 40
    assert not [(page.name, block.line) for page, block in found if not block.commands]
