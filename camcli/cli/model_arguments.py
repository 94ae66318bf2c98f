"""The option --model-arg."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

import click

from camcli.cli.types import Texts


def _parse_arguments(
    context: click.Context, parameter: click.Parameter, values: Sequence[str]
) -> dict[str, Any]:
    """Return KEY=VALUE texts as a mapping. A value that is no Python literal is text."""
    found: dict[str, Any] = {}
    for text in values:
        key, equals, value = text.partition("=")
        if not equals or not key.isidentifier() or key in found:
            raise click.BadParameter(f"'{text}': expected KEY=VALUE, each KEY once")
        try:
            found[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            found[key] = value
    return found


model_argument_option = click.option(
    "--model-arg",
    multiple=True,
    type=Texts(),
    callback=_parse_arguments,
    metavar="KEY=VALUE",
    help="An argument for the function that builds the network, of timm or your own; repeatable.",
)
