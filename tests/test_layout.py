"""The structure of the code: rooms whose imports run one way, and rules that hold everywhere.

`docs/develop.md` describes the rooms. The tests read the imports of every file, those for type
checking included.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from camcli.cli import COMMANDS
from tests.support.files import ROOT

PACKAGE = ROOT / "camcli"
FLOORS = (
    {"errors", "schema", "signals", "speed"},
    {"images", "methods"},
    {"models", "render"},
    {"capture"},
    {"engine"},
    {"runs"},
    {"training", "snapshots", "evaluation"},
    {"audit"},
    {"report"},
    {"cli"},
    {"__init__", "__main__"},
)
"""The rooms from the bottom up. A room imports from floors below its own only."""
FLOOR_OF = {room: number for number, floor in enumerate(FLOORS) for room in floor}
FILES = sorted(PACKAGE.rglob("*.py"))
ONLY_IN = {
    "click": ("cli/",),
    "ray": ("runs/ray.py",),
    "tqdm": ("cli/",),
    "timm": ("models/timm_networks.py",),
    "transformers": ("models/hub.py",),
}
"""Packages, and where they are used."""
HOOKS = ("autograd", "backward", "requires_grad", "requires_grad_", "enable_grad")
"""Attributes that start or change gradients; so does every `register_*hook`."""
HOOKS_IN = ("capture/", "training/")
"""capture watches the forward pass. training trains, and measures activations to initialise."""
FRONTED = ("What ", "Of ", "For who", "Who ", "Whose ", "Which ", "Where ", "That ", "To ")
"""Beginnings of a docstring that has no verb first."""


def room_of(file: Path) -> str:
    """Return the room that a file belongs to; a file at the top is a room of its own."""
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


@cache
def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text())


def imports_of(file: Path) -> Iterator[tuple[int, str, list[str]]]:
    """Yield the line, the module and the names of each import in a file."""
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno} imports relatively"
            yield node.lineno, node.module or "", [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, []) for alias in node.names)


def imported_files(file: Path) -> set[Path]:
    """Return the files of the package that a file imports, or imports names from.

    The `__init__` files are left out: importing a file of a room always runs them.
    """
    found = set()
    for _, module, names in imports_of(file):
        if module.partition(".")[0] == "camcli":
            found |= {path for name in names if (path := file_of(f"{module}.{name}"))}
            found |= {path} if (path := file_of(module)) else set()
    return {path for path in found if path.name != "__init__.py"}


def file_of(module: str) -> Path | None:
    path = ROOT / module.replace(".", "/")
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.exists()), None)


def name_of(file: Path) -> str:
    return file.relative_to(PACKAGE).as_posix()


every_file = pytest.mark.parametrize("file", FILES, ids=name_of)


def test_every_room_has_its_floor() -> None:
    assert {room_of(file) for file in FILES} == FLOOR_OF.keys()


@every_file
def test_imports_run_downwards(file: Path) -> None:
    room = room_of(file)
    for line, module, names in imports_of(file):
        parts = module.split(".")
        if parts[0] != "camcli":
            continue
        others = [parts[1]] if len(parts) > 1 else [n for n in names if n in FLOOR_OF]
        for other in others:
            below = FLOOR_OF[other] < FLOOR_OF[room]
            assert other == room or below, f"{name_of(file)}:{line} imports {other} from above"


def test_no_two_files_import_each_other() -> None:
    graph = {name_of(file): {name_of(f) for f in imported_files(file)} for file in FILES}
    packages = {
        f: {g for g in needs if not g.endswith("__init__.py")} for f, needs in graph.items()
    }
    TopologicalSorter(packages).prepare()  # raises CycleError, which names the circle


@every_file
def test_packages_are_used_in_one_place(file: Path) -> None:
    for line, module, _ in imports_of(file):
        places = ONLY_IN.get(module.partition(".")[0])
        assert places is None or name_of(file).startswith(places), f"{module} in line {line}"


@every_file
def test_hooks_and_gradients_are_in_capture(file: Path) -> None:
    if name_of(file).startswith(HOOKS_IN):
        return
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Attribute):
            hook = node.attr.startswith("register_") and node.attr.endswith("hook")
            assert not hook, f"{node.attr} in line {node.lineno}"
            assert node.attr not in HOOKS, f"{node.attr} in line {node.lineno}"


@every_file
def test_docstrings_begin_with_a_verb_or_a_noun(file: Path) -> None:
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
            first = (ast.get_docstring(node) or "").split("\n")[0]
            assert not first.startswith(FRONTED), first


@every_file
def test_files_are_at_most_300_lines(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= 300


def test_help_does_not_import_torch() -> None:
    """In one new process, for the group and for every command."""
    code = (
        "import sys, click\n"
        "from camcli.cli import camcli\n"
        "for words in [['--help'], *([c, '--help'] for c in sys.argv[1:])]:\n"
        "    camcli.main(words, standalone_mode=False)\n"
        "    for package in ('torch', 'torchvision', 'cv2', 'tqdm', 'ray'):\n"
        "        if package in sys.modules: sys.exit(f'{words} imports {package}')\n"
    )
    found = subprocess.run([sys.executable, "-c", code, *COMMANDS], capture_output=True, text=True)
    assert (found.returncode, found.stderr) == (0, "")
