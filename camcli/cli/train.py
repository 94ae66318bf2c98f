"""`camcli train`: a small classifier of one's own, plain or distilled from a teacher."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from camcli.cli import DONE
from camcli.cli.options import ModelOption, Name, device_option
from camcli.errors import TrainingError
from camcli.methods.registry import METHODS
from camcli.runs.files import to_json

if TYPE_CHECKING:
    from camcli.training.data import Dataset
    from camcli.training.recipe import Data, Phase


@click.command(no_args_is_help=True)
@click.argument("data", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--val",
    multiple=True,
    default=["0.1"],
    metavar="SHARE|PATH",
    help="What to validate on: a share of each DATA, at most about 1000 of its images, or a folder "
    "or zip of its own; repeatable.  [default: 0.1]",
)
@click.option(
    "--test",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="A folder or zip to measure the finished model on; repeatable.",
)
@click.option(
    "--model",
    cls=ModelOption,
    default="squeezenet1_1",
    show_default=True,
    metavar="NAME",
    help="The classification network to train: {trainable}.",
)
@click.option(
    "--weights",
    default="none",
    show_default=True,
    metavar="W",
    help="What to start from: DEFAULT or another torchvision name, a file, an earlier run's "
    "folder, or none (random).",
)
@click.option(
    "--teacher",
    metavar="NAME",
    help="Distil from this model: a torchvision name or a folder of camcli train.",
)
@click.option(
    "--teacher-weights",
    default="DEFAULT",
    show_default=True,
    metavar="FILE",
    help="The teacher's weights, for the same classes.",
)
@click.option(
    "--explain-method",
    default="gradcam++",
    show_default=True,
    type=Name("method", [name for name, method in METHODS.items() if method.trainable]),
    help="Whose maps the student shares with its teacher.",
)
@click.option(
    "--alpha",
    default=0.01,
    show_default=True,
    type=click.FloatRange(0),
    help="Weight of the maps' difference.",
)
@click.option(
    "--kd-weight",
    default=0.0,
    show_default=True,
    type=click.FloatRange(0),
    help="Weight of the teacher's soft scores; 0 is off.",
)
@click.option(
    "--kd-temperature",
    default=4.0,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="Temperature of the soft scores.",
)
@click.option(
    "--epochs",
    default=10,
    show_default=True,
    type=click.IntRange(1),
    help="Epochs at a size that --image-size gives no number for.",
)
@click.option(
    "--batch-size", default=128, show_default=True, type=click.IntRange(2), help="Images a step."
)
@click.option(
    "--lr",
    default=4e-3,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="Highest learning rate of the cycle.",
)
@click.option(
    "--image-size",
    default="128",
    show_default=True,
    metavar="PX[:EPOCHS],...",
    help="Input size, or several to grow through: 64:10,128:4.",
)
@click.option(
    "--precision",
    default="fp32",
    show_default=True,
    type=Name("precision", ("fp32", "bf16")),
    help="bf16 is quicker where the hardware has it.",
)
@device_option
@click.option(
    "--seed",
    default=0,
    show_default=True,
    type=click.IntRange(0),
    help="Decides everything random.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default="camcli-model",
    show_default=True,
    metavar="DIR",
    help="The folder to write to; a run of the same settings in it goes on.",
)
def train(data: tuple[Path, ...], output: Path, device: str, **options: Any) -> int:
    """Train a classifier on DATA: folders or zips of <class>/<image> files.

    Prints a JSON line an epoch. The output folder is a model for camcli explain --model DIR.
    """
    return _train(data, output, device, **options)


def _train(
    data: tuple[Path, ...],
    output: Path,
    device: str,
    *,
    val: tuple[str, ...],
    test: tuple[Path, ...],
    model: str,
    teacher: str | None,
    teacher_weights: str,
    epochs: int,
    image_size: str,
    **settings: Any,
) -> int:
    phases = _phases(image_size, epochs)
    from tqdm import tqdm  # not before the run: --help stays quick

    from camcli.models.device import pick_device
    from camcli.models.load import load
    from camcli.training.recipe import Recipe
    from camcli.training.train import train as run

    recipe = Recipe(model=model, phases=phases, **settings)
    on = pick_device(device)
    images = _data(data, val, test, max(phase.size for phase in phases))
    taught = load(teacher, teacher_weights, device=on) if teacher else None
    with tqdm(unit="batch", leave=False, disable=not sys.stderr.isatty()) as bar:

        def progress(epoch: int, done: int, batches: int) -> None:
            bar.total, bar.n = batches, done
            bar.set_description(f"epoch {epoch + 1}/{recipe.epochs}", refresh=False)
            bar.refresh()

        for row in run(recipe, images, output, device=on, teacher=taught, progress=progress):
            bar.clear()
            click.echo(to_json(row), nl=False)
    return DONE


def _phases(sizes: str, epochs: int) -> tuple[Phase, ...]:
    from camcli.training.recipe import Phase

    phases = []
    for part in sizes.split(","):
        found = re.fullmatch(r"\s*(\d+)(?::(\d+))?\s*", part)
        if not found or not int(found[1]) or (found[2] and not int(found[2])):
            raise TrainingError(f"--image-size '{sizes}': expected PX or PX:EPOCHS,PX:EPOCHS,...")
        phases.append(Phase(int(found[1]), int(found[2] or epochs)))
    return tuple(phases)


def _data(
    paths: tuple[Path, ...], vals: tuple[str, ...], tests: tuple[Path, ...], size: int
) -> Data:
    from camcli.training.data import among, read, split
    from camcli.training.recipe import Data

    # Twice the input's size is enough for any view, and to measure by.
    shorter = 2 * size
    sources = [read(path, shorter) for path in paths]
    classes = tuple(sorted(set().union(*(source.classes for source in sources))))

    def fitting(source: Dataset) -> Dataset:
        return among(source, classes)

    held = [fitting(read(Path(val), shorter)) for val in vals if not _is_share(val)]
    share = max((float(val) for val in vals if _is_share(val)), default=0.0)
    parts = [split(fitting(source), share) for source in sources]
    return Data(
        classes=classes,
        train=tuple(train for train, _ in parts),
        val=(*(val for _, val in parts), *held),
        test=tuple(fitting(read(path, shorter)) for path in tests),
    )


def _is_share(val: str) -> bool:
    try:
        return 0 <= float(val) < 1
    except ValueError:
        return False
