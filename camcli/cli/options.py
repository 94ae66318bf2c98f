"""Options, option types and records of options that commands share."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast

import click

from camcli.errors import unknown
from camcli.images.decode import MAX_PIXELS
from camcli.images.preprocess import FITS
from camcli.images.store import AnyPath, parse_path
from camcli.methods.registry import METHODS
from camcli.models.options import ModelOptions
from camcli.models.sources import SOURCES, describe, trainable_sources
from camcli.render.boxes import BOXES
from camcli.runs.options import DrawingOptions, InputOptions, RunOptions
from camcli.runs.outputs import OUTPUTS

Command = TypeVar("Command", bound=Callable[..., Any])


class Name(click.Choice[str]):
    """One of the names in a registry, read when it is used; other names get the nearest ones."""

    envvar_list_splitter = ","

    def __init__(self, what: str, choices: Iterable[str], *more: str) -> None:
        self.what = what
        self.registry = choices
        self.more = more
        self.case_sensitive = True

    @property
    def choices(self) -> tuple[str, ...]:  # type: ignore[override] # click stores a copy
        """The names in the registry now, and the names beside it."""
        return (*self.registry, *self.more)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value not in self.choices:
            self.fail(unknown(self.what, value, self.choices), param, ctx)
        return value


class Text(click.types.StringParamType):
    """Any text; in an environment variable, commas separate several."""

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
    """A rectangle as x0,y0,x1,y1 with an area above zero."""

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
    """A finite number in a range. FloatRange alone accepts `nan`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        found = super().convert(value, param, ctx)
        if not math.isfinite(found):
            self.fail(f"{value} is not a finite number", param, ctx)
        return found


class Location(click.ParamType[AnyPath]):
    """A path, or the URL of a store."""

    name = "location"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return parse_path(value) if isinstance(value, str) else value


def stack(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Return several options as one decorator, in the order in which --help shows them."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def record(
    kind: type, name: str, /, *options: Callable[[Command], Command], **parameters: str
) -> Callable[[Command], Command]:
    """Return options as one decorator that passes their values as a frozen record, under `name`.

    `parameters` name the options of the fields that have another name. A field without an option
    keeps its default, and so does one whose option is None.
    """
    fields = {option: field for field, option in parameters.items()}

    def decorate(command: Command) -> Command:
        own = _parameters(options)

        @functools.wraps(command)
        def call(*arguments: Any, **values: Any) -> Any:
            given = {fields.get(option, option): values.pop(option) for option in own}
            values[name] = kind(**{f: value for f, value in given.items() if value is not None})
            return command(*arguments, **values)

        return stack(*options)(cast("Command", call))

    return decorate


def _parameters(options: Iterable[Callable[[Any], Any]]) -> list[str]:
    """Return the names of the parameters that options pass to a command."""

    def nothing() -> None:
        pass

    stack(*options)(nothing)
    return [str(option.name) for option in vars(nothing)["__click_params__"]]


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
    help="Number format of the network; bf16 and fp16 are faster where the hardware has them.",
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


_WEIGHTS = "A torchvision weights name, a .pth or .safetensors file, or none (random)"
_LABELS = "Class names for a custom head: text with one a line, or a JSON list"

model_options = record(
    ModelOptions,
    "model",
    click.option(
        "--model",
        cls=ModelOption,
        default="mini",
        show_default=True,
        metavar="NAME",
        help="{sources}.",
    ),
    click.option(
        "--weights", default="DEFAULT", show_default=True, metavar="W", help=f"{_WEIGHTS}."
    ),
    click.option("--labels", metavar="FILE", help=f"{_LABELS}."),
    device_option,
    precision_option,
    name="model",
)
"""The network, as `model`."""

models_options = stack(
    click.option(
        "--model",
        cls=ModelOption,
        multiple=True,
        default=["mini"],
        type=Text(),
        metavar="NAME",
        help="{sources}; repeatable.  [default: mini]",
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
    help="How an image becomes the network's input: resized and cropped as the weights' own "
    "preprocessing does, the whole image squashed, or the whole image in its own shape.",
)
max_pixels_option = click.option(
    "--max-pixels",
    type=click.IntRange(1, MAX_PIXELS),
    default=MAX_PIXELS,
    show_default=True,
    metavar="N",
    help="Refuse larger images before they are decoded.",
)
recursive_option = click.option(
    "--recursive/--no-recursive", default=True, show_default=True, help="Search subfolders too."
)

input_options = record(
    InputOptions,
    "inputs",
    fit_option,
    click.option(
        "--batch-size",
        type=click.IntRange(1),
        default=16,
        show_default=True,
        help="Images per batch.",
    ),
    click.option(
        "--workers",
        type=click.IntRange(1),
        metavar="N",
        help="Threads that read, and threads that write.  [default: one per core]",
    ),
    max_pixels_option,
)
"""How images are read, as `inputs`."""

target_option = click.option(
    "--target",
    multiple=True,
    default=["pred"],
    type=Text(),
    metavar="T",
    help="What to explain; repeatable: pred (the best class), topK (the K-th best class), a class "
    "index or a class name. Before a class, finer: contrasts it with similar classes, and not: "
    "shows the evidence against it.  [default: pred]",
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
        "--alpha", default=0.5, show_default=True, metavar="A", help="Opacity of the heat, 0 to 1."
    ),
)

window_options = stack(
    click.option(
        "--window",
        type=int,
        metavar="PX",
        help="Side of occlusion's window.  [default: a seventh of the input]",
    ),
    click.option(
        "--stride",
        type=int,
        metavar="PX",
        help="Step of occlusion's window.  [default: half of its side]",
    ),
)


def method_option(default: str = "gradcam") -> Callable[[Command], Command]:
    """Return --method with a default."""
    return click.option(
        "--method",
        multiple=True,
        default=[default],
        type=Name("method", METHODS),
        help=f"How to explain; repeatable.  [default: {default}]",
    )


layer_option = click.option(
    "--layer",
    multiple=True,
    default=["auto"],
    type=Text(),
    metavar="L",
    help="The target layer; repeatable: auto, or a dotted path such as layer3.2.conv1."
    "  [default: auto]",
)

output_option = click.option(
    "--output",
    type=Location(),
    default="camcli-out",
    show_default=True,
    metavar="DIR",
    help="The output folder, or a URL on a store (s3://...).",
)

save_option = click.option(
    "--save",
    default="overlay,map",
    show_default=True,
    metavar="KINDS",
    type=Names("output", OUTPUTS),
    help=f"Files to write, separated by commas: {', '.join(OUTPUTS)}.",
)

box_options = stack(
    click.option(
        "--boxes",
        default=BOXES[0],
        show_default=True,
        type=Name("choice of boxes", BOXES),
        help="Boxes that --save boxes draws: around the map's largest region, or around all.",
    ),
    click.option(
        "--box-threshold",
        type=float,
        metavar="S",
        help="Share of the map's maximum above which pixels are in a box.  [default: 0.15; for cam "
        "0.2]",
    ),
)


def drawing_options(*more: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Return the options on what to write and how, as `drawing`."""
    return record(DrawingOptions, "drawing", save_option, style_options, *more, saves="save")


run_options = record(
    RunOptions,
    "options",
    click.option(
        "--skip-existing",
        is_flag=True,
        help="Keep results that an earlier run made in the same way.",
    ),
    click.option(
        "--overwrite", is_flag=True, help="Replace results in DIR that have other settings."
    ),
)
"""How results of earlier runs are treated, as `options`."""


@dataclasses.dataclass(frozen=True)
class ShowOptions:
    """What a run prints."""

    fail_fast: bool = False
    json: bool = False
    preview: bool = False
    quiet: bool = False


show_options = record(
    ShowOptions,
    "show",
    click.option("--fail-fast", is_flag=True, help="Stop at the first image that fails."),
    click.option("--json", is_flag=True, help="Print each manifest row when it is done."),
    click.option(
        "--preview", is_flag=True, help="Draw the overlays in the terminal, on standard error."
    ),
    click.option("--quiet", is_flag=True, help="Print errors only."),
)
"""What a run prints, as `show`."""
