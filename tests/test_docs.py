"""The documents are complete, and they agree with the code.

`python -m tests.test_docs` rewrites their generated tables, and the schemas.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from camcli.cli import COMMANDS, camcli
from camcli.evaluation.registry import METRICS, Metric
from camcli.methods.registry import EVIDENCE, METHODS
from camcli.models.sources import SOURCES
from camcli.runs.outputs import OUTPUTS
from tests import gallery
from tests.handbook import schemas
from tests.support.files import ROOT, SAMPLES

README = ROOT / "README.md"
DOCS = ROOT / "docs"
INDEX = DOCS / "README.md"
PAGES = [README, *sorted(DOCS.glob("*.md"))]
SHARED_PAGES = {
    "ask": "language",
    "caption": "language",
    "layers": "models",
    "completion": "commands",
}
"""Commands that are described together with another one."""


def page_of(command: str) -> Path:
    """Return the page of a command, or of another name."""
    return README if command == "README" else DOCS / f"{SHARED_PAGES.get(command, command)}.md"


def commands() -> list[click.Command]:
    context = click.Context(camcli)
    found = [camcli.get_command(context, name) for name in COMMANDS]
    return [command for command in found if command]


def every_page(pages: list[Path]) -> pytest.MarkDecorator:
    names = [str(page.relative_to(ROOT)) for page in pages]
    return pytest.mark.parametrize("page", pages, ids=names)


def every_command() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("command", commands(), ids=lambda command: command.name)


def links(page: Path) -> list[str]:
    """The links of a page to other files and to headings."""
    return re.findall(r"\]\((?!https?:)([^)\s]+)(?: \"[^\"]*\")?\)", page.read_text())


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    prose = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    headings = re.findall(r"^#+ (.*)$", prose, flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) <= 160


def test_the_index_lists_every_page() -> None:
    assert {DOCS / link for link in links(INDEX) if link.endswith(".md")} == {
        *DOCS.glob("*.md")
    } - {INDEX}


@every_page(PAGES)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@every_command()
def test_the_readme_links_every_command(command: click.Command) -> None:
    page = page_of(str(command.name))
    assert f"[`camcli {command.name}`](docs/{page.name})" in README.read_text()
    assert f"camcli {command.name}" in page.read_text()


@every_command()
def test_the_page_of_a_command_lists_its_options(command: click.Command) -> None:
    page = page_of(str(command.name)).read_text()
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{parameter.name} has no help"
            for name in (*parameter.opts, *parameter.secondary_opts):
                assert re.search(rf"[` ]{name}[` ]", page), f"{name} is not described"


@every_command()
def test_every_option_can_be_set_by_the_environment(
    command: click.Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            name = parameter.opts[0].removeprefix("--").replace("-", "_").upper()
            context = click.Context(command, auto_envvar_prefix=f"CAMCLI_{command.name}".upper())
            assert (parameter.name or "").upper() == name
            monkeypatch.setenv(f"CAMCLI_{command.name}_{name}".upper(), "1")
            assert parameter.resolve_envvar_value(context) == "1"


def methods_table() -> str:
    lines = ["| method | what it shows | output | source |", "|---|---|---|---|"]
    for method in METHODS.values():
        output = ("signed " if method.signed else "") + ("image" if method.image else "map")
        lines.append(f"| `{method.name}` | {method.summary} | {output} | {method.source} |")
    return "\n".join([*lines, ""])


def short_methods_table() -> str:
    rows = (f"| `{name}` | {method.summary} |" for name, method in METHODS.items())
    return "\n".join(["| method | what it shows |", "|---|---|", *rows, ""])


def metrics_table(*, on_truth: bool) -> str:
    def cells(metric: Metric) -> str:
        return f"`{metric.name}` | {metric.summary} | {metric.better} | {metric.source}"

    found = [metric for metric in METRICS.values() if (metric.place == "annotation") == on_truth]
    lines = ["| metric | what it measures | better | source |", "|---|---|---|---|"]
    return "\n".join([*lines, *(f"| {cells(metric)} |" for metric in found), ""])


def families_table() -> str:
    return CliRunner().invoke(camcli, ["models", "--markdown"], catch_exceptions=False).stdout


def evidence_table() -> str:
    lines = [
        "| parameter | shape | what it is | where | cost | needs |",
        "|---|---|---|---|---|---|",
    ]
    for name, kind in EVIDENCE.items():
        facts = [f"`{name}`", kind.shape, kind.meaning, kind.where, kind.cost]
        lines.append(f"| {' | '.join([*facts, ', '.join(kind.requires)])} |")
    return "\n".join([*lines, ""])


def sources_table() -> str:
    lines = ["| source | names | `--model-arg` | `camcli train` |", "|---|---|---|---|"]
    for source in SOURCES:
        arguments, train = source.takes_arguments, source.initialise is not None
        marks = ("yes" if fact else "" for fact in (arguments, train))
        lines.append(f"| {' | '.join([source.name, source.summary, *marks])} |")
    return "\n".join([*lines, ""])


def outputs_table() -> str:
    lines = ["| `--save` | ending | field of the manifest row |", "|---|---|---|"]
    for name, kind in OUTPUTS.items():
        lines.append(f"| `{name}` | `{kind.ending}` | `{kind.field}` |")
    return "\n".join([*lines, ""])


TABLES = {
    "methods in one line": ("README", short_methods_table),
    "schemas": ("formats", schemas.table),
    "outputs": ("formats", outputs_table),
    "evidence": ("methods", evidence_table),
    "sources": ("own-networks", sources_table),
    "methods": ("methods", methods_table),
    "metrics": ("evaluate", lambda: metrics_table(on_truth=False)),
    "metrics with --boxes": ("evaluate", lambda: metrics_table(on_truth=True)),
    "families": ("models", families_table),
}
"""The generated tables: the name in the marks around it, the page, and the function."""


@pytest.mark.parametrize("name", TABLES)
def test_tables_agree_with_the_registries(name: str) -> None:
    page, table = TABLES[name]
    expected = f"<!-- {name} -->\n{table()}<!-- /{name} -->\n"
    assert expected in page_of(page).read_text(), "run python -m tests.test_docs"


def test_the_gallery_has_every_method() -> None:
    assert gallery.PAGE.read_text() == gallery.page(), "run python -m tests.gallery"
    pictures = {file.name for file in gallery.PICTURES.iterdir()}
    assert pictures == {
        gallery.name_of(photo, one) for photo in gallery.PHOTOS for one in gallery.SHOWN
    }
    assert sum(file.stat().st_size for file in gallery.PICTURES.iterdir()) < 600_000


@every_page([page for page in PAGES if "```python\n" in page.read_text()])
def test_python_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The examples of a page run one after the other; random weights replace downloads."""
    import camcli
    from camcli.methods import registry

    monkeypatch.chdir(tmp_path)
    for name in ("cat", "a", "b"):
        (tmp_path / f"{name}.jpg").symlink_to(SAMPLES / "chelsea.jpg")
    load = camcli.load

    def load_random(name: str, weights: object = "DEFAULT", **options: Any) -> camcli.Model:
        random = weights == "DEFAULT" and name != "mini"
        return load(name, "none" if random else weights, **options)

    monkeypatch.setattr(camcli, "load", load_random, raising=False)
    before, names = dict(registry._methods), dict[str, object]()
    try:
        for example in re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.S):
            exec(compile(example, page.name, "exec"), names)  # noqa: S102 - our own documents
            for code, shape in re.findall(r"^(\S.*)  # (\(\d[\d,]*\))$", example, flags=re.M):
                assert eval(f"tuple({code}.shape) == {shape}", names), code  # noqa: S307
    finally:
        registry._methods.clear()
        registry._methods.update(before)


def test_the_documents_name_every_environment_variable() -> None:
    page = (DOCS / "formats.md").read_text()
    for file in (ROOT / "camcli").rglob("*.py"):
        for name in re.findall(r"environ\W[^\n]*?\"([A-Z_]+)\"", file.read_text()):
            assert f"`{name}`" in page, file


def test_every_command_has_a_manual_page(tmp_path: Path) -> None:
    pytest.importorskip("click_man")
    subprocess.run([sys.executable, DOCS / "man.py", tmp_path], check=True)
    pages = {"camcli": tmp_path / "camcli.1"}
    pages |= {command: tmp_path / f"camcli-{command}.1" for command in COMMANDS}
    assert {*tmp_path.iterdir()} == {*pages.values()}
    if shutil.which("groff"):
        checked = ["groff", "-man", "-ww", "-z", *pages.values()]
        assert not subprocess.run(checked, check=True, capture_output=True).stderr
    explain = pages["explain"].read_text()
    assert f"camcli\\-explain \\- {COMMANDS['explain']}\n" in explain
    assert all(f"\\-\\-{option}" in explain for option in ("model", "layer", "stride"))


def test_the_documents_name_every_make_target() -> None:
    targets = re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), flags=re.M)
    assert {"help", "demo", "test", "lint"} <= set(targets)
    for target in targets:
        assert f"$ make {target} " in (DOCS / "develop.md").read_text(), target


def write_tables() -> None:
    for name, (page, table) in TABLES.items():
        file = page_of(page)
        start, rest = file.read_text().split(f"<!-- {name} -->\n")
        end = rest.partition(f"<!-- /{name} -->")[2]
        file.write_text(f"{start}<!-- {name} -->\n{table()}<!-- /{name} -->{end}")


if __name__ == "__main__":
    write_tables()
    schemas.write()
