"""`camcli train`: train a small classifier, alone or with a teacher."""

from __future__ import annotations

import re
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from camcli.cli import DONE
from camcli.cli.complete import complete_model
from camcli.cli.help import command
from camcli.cli.network_options import ModelOption, device_option
from camcli.cli.options import field_option, grouped, rare
from camcli.cli.printing import echo, echo_json, show_name
from camcli.cli.types import ANY_PATH, POSITIVE, Name
from camcli.errors import TrainingError
from camcli.methods.registry import METHODS
from camcli.runs.files import to_json
from camcli.training.recipe import Phase, Recipe

if TYPE_CHECKING:
    from camcli.training.data import Splits


_recipe_option = partial(field_option, Recipe)


_details = rare(
    _recipe_option(
        "explain_method",
        Name("method", [name for name, method in METHODS.items() if method.trainable]),
        "The method whose maps are compared between student and teacher.",
    ),
    _recipe_option(
        "alpha",
        click.FloatRange(0),
        "Weight of the explanation loss, the distance of the two maps.",
    ),
    _recipe_option(
        "kd_weight",
        click.FloatRange(0),
        "Weight of the loss on the teacher's scores; 0 turns it off.",
    ),
    _recipe_option(
        "kd_temperature",
        click.FloatRange(0, min_open=True),
        "Temperature of the softmax of that loss.",
    ),
    _recipe_option("seed", click.IntRange(0), "Seed of all random numbers."),
)


@command(
    {
        "camcli train photos/ -o birds": "photos/<class>/<image>",
        "camcli train photos/ -m vgg11 --weights DEFAULT": "fine-tune",
        "camcli explain robin.jpg -m birds": "use the network",
    }
)
@click.argument("data", nargs=-1, required=True, type=ANY_PATH)
@grouped(
    "Input",
    click.option(
        "--val",
        multiple=True,
        default=["0.1"],
        metavar="SHARE|PATH",
        help="Validation images: a share of each DATA, at most about 1000 images of it, or another "
        "folder or zip; repeatable.",
    ),
    click.option(
        "--test",
        multiple=True,
        type=ANY_PATH,
        metavar="PATH",
        help="A folder or zip to evaluate the finished model on; repeatable.",
    ),
)
@grouped(
    "Network",
    click.option(
        "--model",
        "-m",
        cls=ModelOption,
        default="squeezenet1_1",
        metavar="NAME",
        help="The classification network to train: {trainable}.",
    ),
    _recipe_option(
        "weights",
        None,
        "The initial weights: DEFAULT or another torchvision name, a file, the folder of an "
        "earlier run, or none (random).",
        metavar="W",
    ),
)
@grouped(
    "Training",
    click.option(
        "--epochs",
        default=10,
        type=POSITIVE,
        help="Epochs at each size that --image-size gives without a number of epochs.",
    ),
    _recipe_option("batch_size", click.IntRange(2), "Images per step."),
    _recipe_option(
        "lr",
        click.FloatRange(0, min_open=True),
        "The maximum learning rate of the one-cycle schedule.",
    ),
    click.option(
        "--image-size",
        default="128",
        metavar="PX[:EPOCHS],...",
        help="The input size, or several to train at in turn, such as 64:10,128:4.",
    ),
    click.option(
        "--teacher",
        metavar="NAME",
        shell_complete=complete_model,
        help="The teacher to distil: a torchvision model or a folder of camcli train.",
    ),
    click.option(
        "--teacher-weights",
        default="DEFAULT",
        metavar="FILE",
        help="The teacher's weights; its classes must be those of DATA.",
    ),
    _details,
)
@grouped(
    "Output",
    click.option(
        "--output",
        "-o",
        type=ANY_PATH,
        default="camcli-model",
        metavar="DIR",
        help="The output folder; a run with the same options resumes from its checkpoint.",
    ),
)
@device_option
@grouped(
    "Speed",
    rare(
        _recipe_option(
            "precision",
            Name("precision", ("fp32", "bf16")),
            "The precision of the forward pass; bf16 is faster on hardware that supports it.",
        ),
    ),
)
def train(
    data: tuple[Path, ...],
    output: Path,
    device: str,
    val: tuple[str, ...],
    test: tuple[Path, ...],
    teacher: str | None,
    teacher_weights: str,
    image_size: str,
    epochs: int,
    **options: Any,
) -> int:
    """Train a classifier on DATA: folders or zips of <class>/<image> files.

    Prints one line of JSON per epoch. The output folder is a model for camcli explain --model DIR.
    """
    recipe = Recipe(phases=_phases(image_size, epochs), **options)
    from tqdm import tqdm  # not at the top, so that --help stays fast

    from camcli.models.load import load, pick_device
    from camcli.training.train import train as run

    picked = pick_device(device)
    splits = _splits(data, val, test, max(phase.size for phase in recipe.phases))
    model = load(teacher, teacher_weights, device=picked) if teacher else None
    with tqdm(unit="batch", leave=False, disable=not sys.stderr.isatty()) as bar:

        def progress(epoch: int, done: int, batches: int) -> None:
            bar.total, bar.n = batches, done
            bar.set_description(f"epoch {epoch + 1}/{recipe.epochs}", refresh=False)
            bar.refresh()

        for record in run(recipe, splits, output, device=picked, teacher=model, progress=progress):
            bar.clear()
            echo_json(to_json(record))
    echo(f"model -> {show_name(output, err=True)}", err=True)
    return DONE


def _phases(sizes: str, epochs: int) -> tuple[Phase, ...]:
    phases = []
    for part in sizes.split(","):
        match = re.fullmatch(r"\s*(\d+)(?::(\d+))?\s*", part)
        if not match or not int(match[1]) or (match[2] and not int(match[2])):
            raise TrainingError(f"--image-size '{sizes}': expected PX or PX:EPOCHS,PX:EPOCHS,...")
        phases.append(Phase(int(match[1]), int(match[2] or epochs)))
    return tuple(phases)


def _splits(
    paths: tuple[Path, ...], vals: tuple[str, ...], tests: tuple[Path, ...], size: int
) -> Splits:
    from camcli.training.data import Dataset, Splits, read_dataset, relabel, split

    def read(path: Path) -> Dataset:
        # Twice the input size is enough for training views and for evaluation.
        return read_dataset(path, max_side=2 * size)

    sources = [read(path) for path in paths]
    classes = tuple(sorted(set().union(*(source.classes for source in sources))))
    held_out = [relabel(read(Path(val)), classes) for val in vals if not _is_share(val)]
    share = max((float(val) for val in vals if _is_share(val)), default=0.0)
    parts = [split(relabel(source, classes), share) for source in sources]
    return Splits(
        classes=classes,
        train=tuple(train for train, _ in parts),
        val=(*(val for _, val in parts), *held_out),
        test=tuple(relabel(read(path), classes) for path in tests),
    )


def _is_share(val: str) -> bool:
    try:
        return 0 <= float(val) < 1
    except ValueError:
        return False
