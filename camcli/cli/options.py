"""Options and records of options that commands share. The command line shows every default."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar, cast

import click

from camcli.cli.complete import complete_layer
from camcli.cli.types import Listed, Location, Name, Names, Texts, WholeTexts, distinct_names, each
from camcli.render.boxes import BOXES
from camcli.render.names import BLENDS, COLORMAPS, FORMATS, SCALES
from camcli.runs.options import LAYOUTS, PLACES, DrawingOptions, RunOptions
from camcli.runs.outputs import OUTPUTS

Command = TypeVar("Command", bound=Callable[..., Any])


def stack(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Return several options as one decorator, in the order in which --help shows them."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def grouped(heading: str, *options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Return options as one decorator, which --help shows below a heading of `help.GROUPS`."""
    return _marked("group", heading, options)


def rare(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Return options as one decorator, which --help-all shows, and --help does not."""
    return _marked("rare", True, options)


def _marked(
    name: str, value: object, options: Sequence[Callable[[Command], Command]]
) -> Callable[[Command], Command]:
    """Return options that know a mark. The innermost mark of a name holds."""

    def decorate(command: Command) -> Command:
        before = len(vars(command).get("__click_params__", ()))
        command = stack(*options)(command)
        for option in vars(command)["__click_params__"][before:]:
            vars(option).setdefault(name, value)
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
    def nothing() -> None:
        pass

    stack(*options)(nothing)
    return [str(option.name) for option in vars(nothing)["__click_params__"]]


def field_option(
    options: type, field: str, kind: click.ParamType[Any] | None, text: str, **more: Any
) -> Callable[[Command], Command]:
    """Return the option of a record's field, with the field's name and default."""
    name, default = f"--{field.replace('_', '-')}", getattr(options, field)
    return click.option(name, type=kind, default=default, help=text, **more)


def texts_option(
    name: str, metavar: str, text: str, *default: str, cls: type[click.Option] = click.Option
) -> Callable[[Command], Command]:
    """Return an option that takes any text and may be given several times."""
    more: dict[str, Any] = {"cls": cls, "default": default or None, "metavar": metavar}
    return click.option(name, multiple=True, type=Texts(), help=text, **more)


def list_option(
    name: str,
    metavar: str,
    text: str,
    *default: str,
    cls: type[click.Option] = click.Option,
    **more: Any,
) -> Callable[[Command], Command]:
    """Return an option of texts, separated by commas or given several times."""
    more |= {"cls": cls, "default": default or None, "metavar": f"{metavar},..."}
    return click.option(
        *name.split(), multiple=True, type=Listed(), callback=each, help=text, **more
    )


def names_option(name: str, kind: Names, text: str, **more: Any) -> Callable[[Command], Command]:
    """Return an option of names, separated by commas or given several times, each once."""
    return click.option(name, multiple=True, type=kind, callback=distinct_names, help=text, **more)


def flag(name: str, text: str) -> Callable[[Command], Command]:
    """Return an option that takes no value."""
    return click.option(name, is_flag=True, help=text)


target_option = grouped(
    "What to explain",
    click.option(
        "--target",
        multiple=True,
        type=WholeTexts(),
        default=["pred"],
        metavar="T,...",
        help="pred (the best class), topK (the K-th best class), a class index or a class name, or "
        "true (the true class, with explain --truth). Before a class, finer: contrasts it with "
        "similar classes, and not: shows the evidence against it. p>0.5 is each class above this "
        "probability. like:REF.jpg is the similarity to an image. Of a regression, score or "
        "-score.",
    ),
)

style_options = grouped(
    "Output",
    field_option(
        DrawingOptions,
        "colormap",
        Name("colormap", COLORMAPS),
        "Colours; auto is blue and red (diverging) for signed maps, and otherwise the upper part "
        "of inferno, or turbo for --blend even.",
    ),
    rare(
        field_option(
            DrawingOptions,
            "blend",
            Name("blend", BLENDS),
            "heat: the hotter, the more opaque, over the photo half desaturated. even: as opaque "
            "everywhere, over the photo as it is.",
        ),
        field_option(
            DrawingOptions,
            "alpha",
            click.FLOAT,
            "Opacity of the heat, 0 to 1; of --blend heat the largest one.  [default: 0.75; of "
            "even 0.5]",
            metavar="A",
        ),
    ),
)

window_options = rare(
    grouped(
        "What to explain",
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
)


layer_option = grouped(
    "What to explain",
    list_option(
        "--layer",
        "L",
        "The target layer: auto, or a dotted path such as layer3.2.conv1.",
        "auto",
        shell_complete=complete_layer,
    ),
)

output_option = grouped(
    "Output",
    click.option(
        "--output",
        "-o",
        type=Location(),
        default="camcli-out",
        metavar="DIR",
        help="The output folder, or a URL on a store (s3://...).",
    ),
)

save_option = names_option(
    "--save",
    Names("output", OUTPUTS),
    f"Files to write.  [default: {','.join(DrawingOptions.saves)}]",
    default=DrawingOptions.saves,
    show_default=False,
)

format_option = rare(
    field_option(
        DrawingOptions,
        "format",
        Name("format", FORMATS),
        "Format of pictures: png; jpg, of quality 95, with a quarter of the bytes in half the "
        "time; or webp, without loss as png, with two thirds of the bytes in five times the time.",
    )
)

box_options = rare(
    field_option(
        DrawingOptions,
        "boxes",
        Name("choice of boxes", BOXES),
        "Boxes that --save boxes draws: around the map's largest region, or around all.",
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
    options = grouped("Output", save_option, format_option, style_options, *more)
    return record(DrawingOptions, "drawing", options, saves="save")


scale_option = field_option(
    DrawingOptions,
    "scale",
    Name("scale", SCALES),
    "What is drawn in full colour: the map's own maximum (image), that of all maps in DIR of the "
    "same method and target (run), or the map's own divided by the probability of its class "
    "(probability), so that an unsure image is pale.",
)

place_options = rare(
    field_option(
        DrawingOptions,
        "layout",
        Name("layout", LAYOUTS),
        "Folders below DIR: those of the images (flat), or two levels by a hash of the image's "
        "name, so that none has more than 10 000 files (hashed).",
    ),
    field_option(
        DrawingOptions,
        "save_to",
        Name("place", PLACES),
        "Write each result as files, or pack the files of thousands of images into one tar (tar), "
        "as WebDataset reads it.",
    ),
)

run_options = record(
    RunOptions,
    "options",
    grouped(
        "Output",
        flag("--skip-existing", "Keep results that an earlier run made in the same way."),
        flag("--overwrite", "Replace results in DIR that have other settings."),
    ),
)
"""How results of earlier runs are treated, as `options`."""


quiet_option = grouped("Output", flag("--quiet", "Print errors only."))
