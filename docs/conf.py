"""Settings of the handbook, which `make docs` builds from the Markdown pages of this folder.

README.md lists the pages below headings, as GitHub shows it. The navigation follows these lists.
"""

import inspect
import re

import click
from sphinx.application import Sphinx

import camcli
from camcli import cli

project, version = "camcli", camcli.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_click"]
root_doc = "README"
default_role = "code"  # docstrings write names in single backticks
myst_heading_anchors = 4
autodoc_typehints = "description"
nitpick_ignore_regex = [("py:.*", ".*")]  # types of torch, whose pages are not at hand offline

html_theme = "furo"
html_title = f"camcli {version}"
html_extra_path = ["llms.txt"]
html_show_copyright = html_show_sphinx = html_copy_source = False


def add_navigation(_: Sphinx, page: str, source: list[str]) -> None:
    """Add a hidden table of contents of the pages below each heading to the root page."""
    parts = re.split(r"^## (.*)\n", source[0], flags=re.M)[1:] if page == root_doc else []
    for heading, text in zip(parts[::2], parts[1::2], strict=True):
        links = re.findall(r"^- \[(.*?)\]\((.*?)\.md\)", text, flags=re.M)
        pages = "\n".join(f"{title} <{page}>" for title, page in links)
        source[0] += f"\n\n```{{toctree}}\n:hidden:\n:caption: {heading}\n\n{pages}\n```\n"


def link_files_elsewhere(_: Sphinx, page: str, source: list[str]) -> None:
    """Turn links to Markdown files outside of this folder, which are no pages, into downloads."""
    source[0] = re.sub(r"\[([^\]]+)\]\((\.\./[^)]+\.md)\)", r"{download}`\1 <\2>`", source[0])


def prepare_help() -> None:
    """Add the examples of commands, and mark texts as text: sphinx-click reads markup."""
    context = click.Context(cli.camcli)
    for name in cli.COMMANDS:
        command = cli.camcli.get_command(context, name)
        assert command is not None
        examples = "\n   ".join(f"{line}  # {what}" for line, what in command.examples.items())
        text = re.sub(r"([*`|\\])", r"\\\1", inspect.cleandoc(command.help or ""))
        command.help = f"{text}\n\n.. code-block:: sh\n\n   {examples}\n"
        for option in command.params:
            if isinstance(option, click.Option):
                option.help = re.sub(r"([*`|\\])", r"\\\1", option.help or "")


def setup(app: Sphinx) -> None:
    """Connect the functions above. Called by Sphinx."""
    prepare_help()
    app.connect("source-read", add_navigation)
    app.connect("source-read", link_files_elsewhere)
