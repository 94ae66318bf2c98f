"""Options on the network, and its record."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

from camcli.cli.complete import model_completions
from camcli.cli.model_arguments import model_argument_option
from camcli.cli.options import field_option, grouped, list_option, rare, record, stack, texts_option
from camcli.cli.types import Name
from camcli.models.options import ACTIVATIONS, ModelOptions
from camcli.models.sources import SOURCES, describe, trainable_sources

device_option = grouped(
    "Speed",
    click.option("--device", default="auto", metavar="D", help="auto, cpu, cuda, cuda:N or mps."),
)

precision_option = grouped(
    "Speed",
    click.option(
        "--precision",
        default="fp32",
        type=Name("precision", ("fp32", "bf16", "fp16")),
        help="Number format of the network; bf16 and fp16 are faster where the hardware has them.",
    ),
)

activation_option = field_option(
    ModelOptions,
    "activation",
    Name("activation", ACTIVATIONS),
    "What the network gives: scores of classes (softmax), a logit of two classes or of each of "
    "several independent labels (sigmoid), or values without probabilities (none). auto is softmax "
    "for several values.",
)


class ModelOption(click.Option):
    """An option whose help lists the sources of networks that are registered when it is shown.

    `{sources}` in its help stands for all of them, `{trainable}` for those that can be trained.
    """

    @property
    def help(self) -> str:
        """The help text with the sources filled in."""
        return self._help.format(sources=describe(SOURCES), trainable=describe(trainable_sources()))

    @help.setter  # noqa: A003
    def help(self, text: str) -> None:
        self._help = text

    def shell_complete(self, _: click.Context, incomplete: str) -> list[CompletionItem[str]]:
        """Complete the names of these sources, and files."""
        sources = trainable_sources() if "{trainable}" in self._help else SOURCES
        return model_completions(sources, incomplete)


_WEIGHTS = "A torchvision weights name, a file such as .pth or .safetensors, or none (random)"
_LABELS = "Class names: text with one a line, a JSON list or class_to_idx, or imagenet"

texts_options = stack(
    texts_option(
        "--text", "TEXT", "A class of clip:NAME, as 'a dog'; repeatable. Or --labels gives them."
    ),
    click.option(
        "--template",
        metavar="T",
        help="Put each text in the place of {} in this one.  [default: {}, for names of --labels "
        "a photo of a {}]",
    ),
)

_details = rare(texts_options, model_argument_option, precision_option, activation_option)

model_options = record(
    ModelOptions,
    "model",
    grouped(
        "Network",
        click.option(
            "--model", "-m", cls=ModelOption, default="mini", metavar="NAME", help="{sources}."
        ),
        click.option("--weights", default="DEFAULT", metavar="W", help=f"{_WEIGHTS}."),
        click.option("--labels", metavar="FILE", help=f"{_LABELS}."),
        device_option,
        _details,
    ),
    name="model",
    arguments="model_arg",
    texts="text",
)
"""The network, as `model`."""

models_options = grouped(
    "Network",
    list_option("--model -m", "NAME", "{sources}.", "mini", cls=ModelOption),
    list_option(
        "--weights", "W", f"{_WEIGHTS}; of several models, one for all or one for each.", "DEFAULT"
    ),
    list_option("--labels", "FILE", f"{_LABELS}; likewise."),
    device_option,
    _details,
)
"""The same for several models."""
