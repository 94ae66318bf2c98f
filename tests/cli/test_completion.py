"""Completion: in real shells, of the values of options, and without torch."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import click
import pytest

from camcli.cli import COMMANDS, camcli
from camcli.cli.complete import SHELLS, VARIABLE
from camcli.evaluation.registry import METRICS
from camcli.methods.registry import METHODS
from camcli.models.known import layer_paths, torchvision_names
from camcli.render.names import COLORMAPS
from tests.support.command import Run, refused, stdout
from tests.support.files import ROOT
from tests.support.networks import GapNet

SHOW = {
    "bash": ["""bind -x '"\\C-g": printf "<%s>" "$READLINE_LINE"'"""],
    "zsh": [
        "autoload -Uz compinit; compinit -u -D",
        'show() { print -n "<$BUFFER>" }; zle -N show; bindkey "^G" show',
    ],
    "fish": ['bind \\cg \'echo "<"(commandline)">"\''],
}
"""Lines after which Ctrl-G prints the line that is being typed, in angle brackets."""
START = {
    "bash": ["--norc", "--noprofile", "-i"],
    "zsh": ["-f", "-i"],
    "fish": ["--no-config", "-i"],
}
LOAD = {
    "bash": 'eval "$(camcli completion bash)"',
    "zsh": 'eval "$(camcli completion zsh)"',
    "fish": "camcli completion fish | source",
}
TYPED = {
    "camcli expl": "camcli explain ",
    "camcli pho": "camcli photo\\ 1.jpg ",
    "camcli explain pho": "camcli explain photo\\ 1.jpg ",
    "camcli explain photo\\ ": "camcli explain photo\\ 1.jpg ",
    "camcli explain --weights=own": "camcli explain --weights=own.pth ",
    "camcli explain --model=alexn": "camcli explain --model=alexnet ",
    "camcli explain --model own": "camcli explain --model own.pth ",
    "camcli explain --model hf": "camcli explain --model hf:",
    "camcli explain --model timm:test_vit2": "camcli explain --model timm:test_vit2 ",
    "camcli explain --save overlay,he": "camcli explain --save overlay,heatmap ",
    "camcli explain --method cam,layerc": "camcli explain --method cam,layercam ",
    "camcli explain --model resnet18 --layer layer4.1.conv2": None,
}
"""Lines, and what a tab makes of them; None for no change but a space."""
OTHERWISE = {("zsh", "camcli explain --weights=own")}
"""A shell, and a line that it does not complete without a script either."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with files, and the command in `bin`."""
    for name in ("photo 1.jpg", "own.pth"):
        (tmp_path / name).touch()
    command = tmp_path / "bin/camcli"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m camcli "$@"\n')
    command.chmod(0o755)
    return tmp_path


@pytest.fixture
def environment(folder: Path) -> dict[str, str]:
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    variables = {"PATH": path, "HOME": str(folder), "PYTHONPATH": str(ROOT), "TERM": "dumb"}
    return {**os.environ, **variables}


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_completes(shell: str, folder: Path, environment: dict[str, str]) -> None:
    pexpect = pytest.importorskip("pexpect", reason="types into a terminal by pexpect")
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    terminal = pexpect.spawn(
        shell, START[shell], env=environment, cwd=folder, encoding="utf-8", dimensions=(50, 200)
    )
    for line in (*SHOW[shell], LOAD[shell], "echo rea''dy"):
        terminal.sendline(line)
    terminal.expect("ready\r")
    for typed, expected in TYPED.items():
        if (shell, typed) in OTHERWISE or ("timm:" in typed and not find_spec("timm")):
            continue
        terminal.send(f"{typed}\t\x07")
        terminal.expect("<(camcli[^>]*)>")
        shown = terminal.match[1].replace("photo 1", "photo\\ 1")  # zsh shows it without quotes
        assert shown == (expected or f"{typed} ")
        terminal.send("\x15")
    terminal.close(force=True)


def test_scripts_are_printed(run: Run) -> None:
    for shell, own in {
        "bash": "complete -o bashdefault -o default -o nosort -F _camcli_completion camcli\n",
        "zsh": 'end=(-S "")',
        "fish": 'string split --max 1 ","',
    }.items():
        printed = stdout(run("completion", shell))
        assert f"{VARIABLE}={shell}_complete" in printed
        assert own in printed
    assert "'tcsh' is not one of 'bash', 'zsh', 'fish'" in refused(run("completion", "tcsh"))


@pytest.fixture
def completed(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
    """Return what bash is told for the end of a line."""

    def call(line: str) -> list[str]:
        monkeypatch.setenv("COMP_LINE", line)
        monkeypatch.setenv("COMP_WORD", line.rpartition(" ")[2])
        return SHELLS["bash"](camcli, {}, "camcli", VARIABLE).complete().splitlines()

    return call


Completed = Callable[[str], list[str]]


EXPECTED = {
    "model": {"mini", "resnet18", "hf:"},
    "method": {*METHODS},
    "metric": {*METRICS},
    "colormap": {*COLORMAPS},
    "layer": {"auto"},
    "save": {"overlay", "map"},
}


@pytest.mark.parametrize("name", COMMANDS)
def test_options_complete_names(name: str, completed: Completed) -> None:
    command = camcli.get_command(click.Context(camcli), name)
    assert command
    for option in command.params:
        if option.name not in EXPECTED or isinstance(option, click.Argument):
            continue
        if option.name == "model" and name in ("ask", "caption"):
            continue  # a BLIP has no listed names
        found = {
            line.removeprefix("plain,") for line in completed(f"camcli {name} {option.opts[0]} ")
        }
        assert found >= EXPECTED[option.name] - ({"hf:", "mini"} if name == "train" else set())


def test_networks_and_files_complete(completed: Completed) -> None:
    found = completed("camcli layers res")
    assert found == [f"plain,{n}" for n in torchvision_names() if n[:3] == "res"] + ["file,res"]
    assert completed("camcli train data --teacher resnet15") == [
        "plain,resnet152",
        "file,resnet15",
    ]
    assert completed("camcli explain --target ta") == ["file,ta"]


def test_timms_names_are_read_from_its_source(completed: Completed) -> None:
    timm = pytest.importorskip("timm")
    names = {f"plain,timm:{name}" for name in timm.list_models()}
    assert {*completed("camcli explain --model timm:")} == {*names, "file,timm:"}


def test_layers_of_the_model_named_complete(completed: Completed) -> None:
    assert "plain,classifier.1" in completed("camcli explain --layer classifier")
    assert "plain,auto,layer4.1" in completed("camcli explain -m ResNet-18 --layer auto,layer4")
    found = completed("camcli figure --model resnet18 --model alexnet --layer ")
    paths = dict.fromkeys([*layer_paths("resnet18"), *layer_paths("alexnet")])
    assert found == ["plain,auto", *(f"plain,{path}" for path in paths)]
    assert completed("camcli explain --model none --layer layer") == ["file,layer"]


def test_layers_of_other_networks_complete_once_they_are_listed(
    run: Run, completed: Completed
) -> None:
    line = f"camcli explain --model {GapNet.__module__}:GapNet --layer trunk"
    assert completed(line) == ["file,trunk"]
    run("layers", f"{GapNet.__module__}:GapNet")
    assert "plain,trunk.0" in completed(line)


def test_neither_torch_nor_errors_appear(tmp_path: Path) -> None:
    code = (
        "import os, sys\n"
        "from camcli.cli import main\n"
        "for line in sys.argv[1:]:\n"
        "    os.environ.update(COMP_LINE=line, COMP_WORD='')\n"
        "    try: main([])\n"
        "    except SystemExit: pass\n"
        "if {'torch', 'torchvision', 'timm', 'cv2'} & sys.modules.keys(): sys.exit(7)\n"
        "del os.environ['COMP_LINE']\n"
        "main([])\n"
    )
    lines = (
        *("camcli ", "camcli explain --model ", "camcli explain --model timm:res", "camcli none "),
        *("camcli figure --layer ", "camcli evaluate --metric ", "camcli explain --alpha x --sa"),
        "camcli explain --model-arg x --batch-size y --save no --layer ",
    )
    variables = {**os.environ, VARIABLE: "bash_complete", "CAMCLI_EXPLAIN_SAVE": "nothing"}
    found = subprocess.run(
        [sys.executable, "-c", code, *lines], capture_output=True, env=variables, cwd=tmp_path
    )
    assert found.stderr == b""
    assert found.stdout.endswith(b"plain,classifier.2\n")
    assert found.returncode == 1  # by the KeyError of COMP_LINE, which is printed nowhere
