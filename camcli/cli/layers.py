"""`camcli layers`: list the layers of a network that have maps."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import click

from camcli.cli import DONE
from camcli.cli.complete import complete_model
from camcli.cli.help import command
from camcli.cli.model_arguments import model_argument_option
from camcli.cli.options import flag, grouped, rare
from camcli.cli.preprocessing import preprocess_options
from camcli.cli.printing import echo, echo_json
from camcli.models.known import remember_layers
from camcli.models.options import PreprocessOptions
from camcli.runs.files import to_json


@command(
    {
        "camcli layers resnet50": "with the shapes of their maps",
        "camcli layers resnet50 --resize 448x448": "for another size of the input",
    }
)
@click.argument("model", shell_complete=complete_model)
@preprocess_options
@grouped("Network", rare(model_argument_option))
@grouped("Output", flag("--json", "Print one line of JSON for each layer."))
def layers(
    model: str, json: bool, preprocessing: PreprocessOptions, model_arg: Mapping[str, Any]
) -> int:
    """List the layers of MODEL that --layer takes, with the shape of their map.

    MODEL is a name as for camcli explain. No weights are needed. The shape is channels x height x
    width for the model's own input size, or for the one that the options on preprocessing give.
    Naming a layer on which the score does not depend is an error of camcli explain.
    """
    from camcli.engine.catalogue import list_layers

    found = list_layers(model, model_arg, preprocessing)
    with suppress(OSError):  # it helps a shell only
        remember_layers(model, [layer.path for layer in found])
    for layer in found:
        if json:
            echo_json(to_json(asdict(layer)))
        else:
            shape, mark = "x".join(map(str, layer.map)), "  auto" if layer.auto else ""
            echo(f"{layer.path:48} {layer.type:24} {shape}{mark}")
    return DONE
