"""The README says everything, and what it says is true."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import Result

from camcli.cli import COMMANDS, camcli
from camcli.evaluation.registry import METRICS, Metric
from camcli.methods.registry import METHODS, Method
from tests.support.files import ROOT, SAMPLES

README = (ROOT / "README.md").read_text()


def commands() -> list[click.Command]:
    context = click.Context(camcli)
    found = [camcli.get_command(context, name) for name in COMMANDS]
    return [command for command in found if command]


@pytest.mark.parametrize("command", commands(), ids=lambda command: command.name)
def test_every_command_and_option(command: click.Command) -> None:
    assert f"camcli {command.name}" in README
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{parameter.name} has no help"
            for name in (*parameter.opts, *parameter.secondary_opts):
                assert f"`{name}" in README or f" {name} " in README, f"{name} is not in the README"


@pytest.mark.parametrize("command", commands(), ids=lambda command: command.name)
def test_every_option_has_its_name_in_the_environment(
    command: click.Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            name = parameter.opts[0].removeprefix("--").replace("-", "_").upper()
            context = click.Context(command, auto_envvar_prefix=f"CAMCLI_{command.name}".upper())
            assert (parameter.name or "").upper() == name
            monkeypatch.setenv(f"CAMCLI_{command.name}_{name}".upper(), "1")
            assert parameter.resolve_envvar_value(context) == "1"


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda method: method.name)
def test_every_method(method: Method) -> None:
    gives = ("signed " if method.signed else "") + ("image" if method.image else "map")
    assert f"| `{method.name}` | {method.summary} | {gives} | {method.source} |" in README


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)
def test_every_metric(metric: Metric) -> None:
    assert f"| `{metric.name}` | {metric.summary} | {metric.better} | {metric.source} |" in README


def test_python_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They run as they stand, one after the other, on a network that needs no download."""
    import camcli
    from camcli.methods import registry

    monkeypatch.chdir(tmp_path)
    for name in ("cat", "a", "b"):
        (tmp_path / f"{name}.jpg").symlink_to(SAMPLES / "chelsea.jpg")
    load = camcli.load
    monkeypatch.setattr(camcli, "load", lambda name: load("resnet18", "none"), raising=False)
    names: dict[str, object] = {}
    try:
        for example in re.findall(r"```python\n(.*?)```", README, flags=re.S):
            exec(compile(example, "README.md", "exec"), names)  # noqa: S102 - our own README
    finally:
        registry._methods.pop("gradient-norm", None)
    assert names["shown"].maps.shape == (2, 30, 30)  # type: ignore[attr-defined]


def test_links_and_pictures_are_there() -> None:
    for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / link).exists(), link


def test_make_targets() -> None:
    targets = re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(), flags=re.M)
    assert {"help", "demo", "test", "lint"} <= set(targets)
    for target in targets:
        assert f"make {target}" in README


def test_the_table_of_families_is_what_the_command_prints(
    run: Callable[..., Result],
) -> None:
    found = run("models", "--markdown")
    assert found.exit_code == 0
    table = README.partition("<!-- families -->\n")[2].partition("<!-- /families -->")[0]
    assert table == found.stdout_bytes.decode()
