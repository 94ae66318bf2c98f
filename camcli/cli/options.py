"""Options and option types that commands share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from camcli.errors import unknown
from camcli.images.decode import MAX_PIXELS
from camcli.images.preprocess import FITS
from camcli.images.store import AnyPath, parse_path
from camcli.methods.registry import METHODS
from camcli.runs.names import SAVES

Command = TypeVar("Command", bound=Callable[..., Any])


class Name(click.Choice[str]):
    """One of some names; anything else is answered with the nearest ones."""

    envvar_list_splitter = ","

    def __init__(self, what: str, choices: Sequence[str]) -> None:
        super().__init__(choices)
        self.what = what

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value not in self.choices:
            self.fail(unknown(self.what, value, self.choices), param, ctx)
        return value


class Text(click.types.StringParamType):
    """Any text; in the environment, commas stand between several."""

    envvar_list_splitter = ","


class Names(Name):
    """Several names in one value, separated by commas, as a tuple."""

    name = "names"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        parts = value.split(",") if isinstance(value, str) else value
        return tuple(
            dict.fromkeys(super(Names, self).convert(p.strip(), param, ctx) for p in parts)
        )


class Corners(click.types.StringParamType):
    """A rectangle as x0,y0,x1,y1, not empty."""

    name = "corners"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            x0, y0, x1, y1 = map(float, value.split(","))
        except ValueError:
            x0, y0, x1, y1 = 0.0, 0.0, 0.0, 0.0
        if not (0 <= x0 < x1 and 0 <= y0 < y1):
            self.fail(f"'{value}': expected x0,y0,x1,y1 with x0 < x1 and y0 < y1", param, ctx)
        return x0, y0, x1, y1


class Real(click.FloatRange):
    """A number in a range, and neither infinite nor not a number, which no range refuses."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        found = super().convert(value, param, ctx)
        if not math.isfinite(found):
            self.fail(f"{value} is not a finite number", param, ctx)
        return found


class Location(click.ParamType[AnyPath]):
    """A path, or a URL of a store."""

    name = "location"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return parse_path(value) if isinstance(value, str) else value


def stack(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several options as one decorator, in the order in which --help shows them."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


device_option = click.option(
    "--device",
    default="auto",
    show_default=True,
    metavar="D",
    help="auto, cpu, cuda, cuda:N or mps.",
)

precision_option = click.option(
    "--precision",
    default="fp32",
    show_default=True,
    type=Name("precision", ("fp32", "bf16", "fp16")),
    help="What the network computes in; bf16 and fp16 are quicker where the hardware has them.",
)
_MODEL = (
    "mini, the bundled model of ten everyday classes; a torchvision model for "
    "classification, segmentation or detection; a folder of camcli train; or "
    "package.module:factory"
)
_WEIGHTS = "A torchvision weights name, a .pth or .safetensors file, or none (random)"
_LABELS = "Class names for a custom head: text with one a line, or a JSON list"

model_options = stack(
    click.option("--model", default="mini", show_default=True, metavar="NAME", help=f"{_MODEL}."),
    click.option(
        "--weights", default="DEFAULT", show_default=True, metavar="W", help=f"{_WEIGHTS}."
    ),
    click.option("--labels", metavar="FILE", help=f"{_LABELS}."),
    device_option,
    precision_option,
)

models_options = stack(
    click.option(
        "--model",
        multiple=True,
        default=["mini"],
        type=Text(),
        metavar="NAME",
        help=f"{_MODEL}; repeatable.  [default: mini]",
    ),
    click.option(
        "--weights",
        multiple=True,
        default=["DEFAULT"],
        type=Text(),
        metavar="W",
        help=f"{_WEIGHTS}; of several models, one for all or one for each.  [default: DEFAULT]",
    ),
    click.option(
        "--labels", multiple=True, type=Text(), metavar="FILE", help=f"{_LABELS}; likewise."
    ),
    device_option,
    precision_option,
)
"""The same for several models."""

fit_option = click.option(
    "--fit",
    default="preset",
    show_default=True,
    type=Name("fit", FITS),
    help="How the image meets the network: by the weights' own resize and centre crop, whole "
    "but squashed, or whole in its own shape.",
)
max_pixels_option = click.option(
    "--max-pixels",
    type=click.IntRange(1, MAX_PIXELS),
    default=MAX_PIXELS,
    show_default=True,
    metavar="N",
    help="Refuse larger images before they take memory.",
)

image_options = stack(
    fit_option,
    click.option(
        "--batch-size",
        type=click.IntRange(1),
        default=16,
        show_default=True,
        help="Images at once.",
    ),
    click.option(
        "--workers",
        type=click.IntRange(1),
        metavar="N",
        help="Threads for reading, and as many for what is written.  [default: one a core]",
    ),
    click.option(
        "--recursive/--no-recursive", default=True, show_default=True, help="Enter subfolders."
    ),
    max_pixels_option,
)

target_option = click.option(
    "--target",
    multiple=True,
    default=["pred"],
    type=Text(),
    metavar="T",
    help="What to explain; repeatable: pred, topK (the K-th best class), a class index or name; "
    "with finer: before it against the classes most like it, with not: against it."
    "  [default: pred]",
)

style_options = stack(
    click.option(
        "--colormap",
        default="auto",
        show_default=True,
        metavar="NAME",
        help="auto, diverging, or one of OpenCV's: turbo, jet, viridis, inferno, ...",
    ),
    click.option(
        "--alpha", default=0.5, show_default=True, metavar="A", help="Heat opacity, 0 to 1."
    ),
)

window_options = stack(
    click.option(
        "--window",
        type=int,
        metavar="PX",
        help="Side of occlusion's square.  [default: a 7th of the input]",
    ),
    click.option(
        "--stride",
        type=int,
        metavar="PX",
        help="Step of occlusion's square.  [default: half of it]",
    ),
)


def method_option(default: str = "gradcam") -> Callable[[Command], Command]:
    """--method, with what is taken without it."""
    return click.option(
        "--method",
        multiple=True,
        default=[default],
        type=Name("method", list(METHODS)),
        help=f"How to explain; repeatable.  [default: {default}]",
    )


layer_option = click.option(
    "--layer",
    multiple=True,
    default=["auto"],
    type=Text(),
    metavar="L",
    help="The layer to look at; repeatable: auto, or a dotted path such as layer3.2.conv1."
    "  [default: auto]",
)

drawing_options = stack(
    click.option(
        "--output",
        type=Location(),
        default="camcli-out",
        show_default=True,
        metavar="DIR",
        help="The folder to write to, also on a store (s3://...).",
    ),
    click.option(
        "--save",
        default="overlay,map",
        show_default=True,
        metavar="WHAT",
        type=Names("output", list(SAVES)),
        help=f"What to write, with commas between: {', '.join(SAVES)}.",
    ),
    style_options,
)

running_options = stack(
    click.option(
        "--skip-existing",
        is_flag=True,
        help="Keep results made before of the same in the same way.",
    ),
    click.option(
        "--overwrite", is_flag=True, help="Replace what a run with other settings left in DIR."
    ),
    click.option("--fail-fast", is_flag=True, help="Stop at the first image that fails."),
    click.option("--json", is_flag=True, help="Print the manifest's rows as they are done."),
    click.option(
        "--preview", is_flag=True, help="Draw the overlays in the terminal too, on standard error."
    ),
    click.option("--quiet", is_flag=True, help="Print errors only."),
)

engine_options = stack(
    click.option(
        "--engine",
        default="local",
        show_default=True,
        type=Name("engine", ("local", "ray")),
        help="Who explains: this process, or the actors of a Ray cluster.",
    ),
    click.option(
        "--ray-address",
        metavar="ADDR",
        help="The cluster, auto or HOST:PORT.  [default: RAY_ADDRESS, or one on this machine]",
    ),
    click.option(
        "--num-actors",
        type=click.IntRange(1),
        metavar="N",
        help="So many actors share the cluster.  [default: one a GPU, or one a core]",
    ),
)
