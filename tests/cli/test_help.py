"""The help of commands, and what the first argument of `camcli` stands for."""

from __future__ import annotations

import shlex
from pathlib import Path

import click
import pytest

from camcli.cli import COMMANDS, camcli
from camcli.cli.group import COMMAND_GROUPS
from camcli.cli.help import GROUPS, WIDEST
from tests.support.command import TINY, Run, refused, stdout
from tests.support.files import make_photo, manifest


def command_of(name: str) -> click.Command:
    command = camcli.get_command(click.Context(camcli), name)
    assert command
    return command


def headings(text: str) -> list[str]:
    return [line[:-1] for line in text.splitlines() if line.endswith(":") and line[0] != " "]


def test_commands_are_grouped_by_what_people_do(run: Run) -> None:
    text = stdout(run("--help"))
    assert headings(text) == ["Examples", *COMMAND_GROUPS, "Options"]
    for name, line in COMMANDS.items():
        assert f"  {name:11} {line}\n" in text, "one line at 80 columns"
    assert run("-h").stdout_bytes == run("--help").stdout_bytes


def test_explain_begins_with_examples_and_groups_its_options(run: Run) -> None:
    text = stdout(run("explain", "--help"))
    lines = text.splitlines()
    assert lines[0] == "Examples:"
    assert [line.split()[0] for line in lines[1:5]] == ["camcli"] * 4
    groups = ["Input", "Network", "What to explain", "Output", "Speed", "Help"]
    assert headings(text) == ["Examples", *groups]
    assert "--shard" not in text
    assert "guided-backprop" in text, "names are not broken at their hyphens"
    every = stdout(run("explain", "--help-all"))
    assert headings(every) == ["Examples", *groups]
    names = [option.opts[0] for option in command_of("explain").params]
    options = [name for name in names if name.startswith("--")]
    assert not [name for name in options if f"{name} " not in every]
    hidden = [name for name in options if f"  {name} " not in text and f", {name} " not in text]
    assert f"--help-all shows {len(hidden)} more options." in text
    assert run("explain", "-h").stdout_bytes == text.encode()


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_for_the_width_of_the_terminal(
    name: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for columns, width in ((60, 60), (80, 80), (100, 100), (300, WIDEST)):
        monkeypatch.setenv("COLUMNS", str(columns))
        lines = stdout(run(name, "--help-all" if name == "explain" else "--help")).splitlines()
        longest = max(map(len, lines))
        assert width - 12 < longest <= width or name == "merge"
    monkeypatch.setenv("COLUMNS", "80")
    shown = stdout(run(name, "--help")).partition("\n\nUsage")[0].splitlines()[1:]
    assert all(line.startswith("  camcli ") for line in shown), "an example is one line"
    assert len(shown) == 4 if name == "explain" else 1 <= len(shown) <= 3


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_are_valid_command_lines(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photo.jpg").touch()
    Path("photos").mkdir()
    for group in (camcli, command_of(name)):
        for line in group.examples:  # type: ignore[attr-defined]
            words = shlex.split(line)[1:]
            with camcli.make_context("camcli", words) as context:
                used, command, rest = camcli.resolve_command(
                    context, [*context._protected_args, *context.args]
                )
                assert command
                command.make_context(used, rest, parent=context).close()


@pytest.mark.parametrize("name", COMMANDS)
def test_options_are_alike_in_all_commands(name: str) -> None:
    short = {"--output": "-o", "--model": "-m"}
    for option in command_of(name).params:
        if isinstance(option, click.Option):
            assert option.opts[1:] == [short[o] for o in option.opts[:1] if o in short]
            assert getattr(option, "group", "Help") in GROUPS


def test_a_path_or_an_option_without_a_command_is_explained(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    photo = make_photo(Path("photo.jpg"))
    for number, words in enumerate(((photo, *TINY), ("*.jpg", *TINY), (*TINY, photo))):
        assert run(*words, "-o", f"out{number}").exit_code == 0
        assert len(manifest(tmp_path / f"out{number}")) == 1
    assert refused(run("-m", "resnet18")).startswith("no PATHS")
    assert refused(run("s3:/")).startswith("'s3:/'")
    assert "--nonsense" in refused(run("--nonsense"))
    assert stdout(run("--help-all")) == stdout(run("explain", "--help-all"))


def test_commands_are_understood_where_they_are_clear(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for given, name in (("Models", "models"), ("eval", "evaluate"), ("MODEL", "models")):
        assert f"Usage: camcli {name} " in stdout(run(given, "--help"))
    for given, near in (("reprot", "report"), ("evalute", "evaluate"), ("c", "compare")):
        message = refused(run(given, "folder"))
        assert message.startswith(f"unknown command or file '{given}': did you mean '")
        assert f"'{near}'" in message
    assert refused(run("photo.jpg")) == "'photo.jpg': no such file, and no command"
    Path("eval").mkdir()
    Path("models").mkdir()
    assert refused(run("eval")) == (
        "'eval' is a file here, and another spelling of evaluate: expected camcli explain eval, or "
        "camcli evaluate"
    )
    assert stdout(run("models", "squeezenet1_1")), "the command wins"
