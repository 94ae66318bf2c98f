"""The options on preprocessing, and what a command says about the network that it loads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from camcli.cli.options import grouped, rare, record
from camcli.cli.printing import echo
from camcli.cli.types import FILE_PATH, POSITIVE, Name, Reals, SidesType
from camcli.images.preprocess import INTERPOLATIONS
from camcli.models.options import ModelOptions, PreprocessOptions

if TYPE_CHECKING:
    from camcli.models.model import Model

LIBRARIES = ("torchvision", "camcli train")
"""The origins of preprocessing that a command does not mention."""

_changes = rare(
    click.option(
        "--preprocess",
        type=FILE_PATH,
        metavar="FILE",
        help="A JSON file with the network's preprocessing. The options below change it.",
    ),
    click.option(
        "--resize",
        type=SidesType(),
        metavar="PX|HxW",
        help="Resize the shorter side to PX, or the image to HxW; none keeps its size.",
    ),
    click.option(
        "--crop",
        type=SidesType(),
        metavar="PX|HxW",
        help="Keep the centre; none keeps the whole image, as --resize HxW does by default.",
    ),
    click.option(
        "--mean",
        type=Reals(),
        metavar="M,M,M",
        help="Subtract this from values between 0 and 1: one number for each channel, or for all.",
    ),
    click.option("--std", type=Reals(), metavar="S,S,S", help="Divide by this afterwards."),
    click.option(
        "--interpolation",
        type=Name("interpolation", INTERPOLATIONS),
        help="The filter that resizes images.",
    ),
    click.option(
        "--channels",
        type=POSITIVE,
        metavar="N",
        help="Channels of the network's input: 1 takes the luminance of colours, other numbers "
        "take the bands of the files.",
    ),
)
preprocess_options = record(
    PreprocessOptions, "preprocessing", grouped("Input", _changes), file="preprocess"
)
"""Changes of the network's preprocessing, as `preprocessing`."""


def load_network(options: ModelOptions, preprocessing: PreprocessOptions, *, quiet: bool) -> Model:
    """Load a network, and print what a user has to know about it unless `quiet`."""
    from camcli.models.load import load_model

    model = load_model(options, preprocessing)
    for note in () if quiet else _notes(model):
        echo(f"Note: {note}", err=True)
    return model


def _notes(model: Model) -> Iterator[str]:
    from camcli.models.precision import is_emulated
    from camcli.models.preprocessing import describe_preset

    if is_emulated(model.dtype, model.device):
        name = str(model.dtype).removeprefix("torch.")
        yield f"this processor has no instructions for {name}: slower than --precision fp32"
    if model.weights.startswith("none"):
        yield f"{model.name} with weights {model.weights} is untrained."
    if model.preset_from not in LIBRARIES:
        line = f"preprocessing of {model.name}, {model.preset_from}"
        advice = (
            "; --resize, --preprocess and others change it"
            if model.preset_from == "assumed"
            else ""
        )
        yield f"{line}: {describe_preset(model.preset)}{advice}"
    if model.preset.channels == 1:
        yield f"{model.name} takes one channel: the luminance of colour images."
