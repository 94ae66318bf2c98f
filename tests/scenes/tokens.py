"""`python -m tests.scenes.tokens`: which method is best for the tokens of a transformer?

It trains networks on scenes, and runs `camcli evaluate` on other scenes, with every method that the
network allows and with the controls.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import torch
from PIL import Image

from camcli.evaluation.marks import MARKS
from camcli.methods.registry import METHODS
from tests.bench.__main__ import machine
from tests.scenes import answers, clips, vits
from tests.scenes.drawing import SIDE, Scene, scenes

METRICS = ("pointing", "energy", "insertion", "deletion", "sanity")
LEFT_OUT = ("cam", "guided", "guided-backprop")
"""Methods that need global average pooling or ReLUs, which transformers do not have."""
HELD_OUT = 99
ENLARGED = 224
"""The side at which scenes are saved: the pointing game tolerates 15 pixels of a photo."""


@click.command()
@click.option("--count", default=200, show_default=True, help="Number of test scenes.")
@click.option("--steps", default=1200, show_default=True, help="Training steps of each network.")
@click.option("--method", multiple=True, help="Method to measure; all that fit by default.")
@click.option("--keep", type=click.Path(path_type=Path), help="Folder for networks and results.")
@click.option("--network", multiple=True, type=click.Choice(["vit", "clip", "blip"]))
def main(
    count: int, steps: int, method: tuple[str, ...], keep: Path | None, network: tuple[str, ...]
) -> None:
    """Train transformers on scenes, and measure the maps of every method on other scenes."""
    torch.set_num_threads(1)
    click.echo(" · ".join(map(str, machine("cpu").values())) + f" · {count} scenes\n")
    methods = method or tuple(name for name in METHODS if name not in LEFT_OUT)
    with TemporaryDirectory() as temporary:
        folder = keep or Path(temporary)
        seen = scenes(count, HELD_OUT, clear=True)
        save_scenes(seen, folder / "photos")
        for name in network or NETWORKS:
            click.echo(f"{name}\n")
            for line in table(NETWORKS[name](folder, steps, seen, methods)):
                click.echo(line)
            click.echo()


def save_scenes(seen: Sequence[Scene], folder: Path) -> None:
    """Write scenes as enlarged photos, with `boxes.csv`, the places and classes of their things."""
    folder.mkdir(parents=True, exist_ok=True)
    scale = ENLARGED / SIDE
    with (folder / "boxes.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "class", "x0", "y0", "x1", "y1"])
        for number, one in enumerate(seen):
            name = f"{number:03}.png"
            photo = Image.fromarray(one.pixels)
            photo.resize((ENLARGED, ENLARGED), Image.Resampling.BICUBIC).save(folder / name)
            for thing in one.things:
                rows.writerow([name, thing.words, *(scale * side for side in thing.box)])


def evaluated(network: Sequence[str], folder: Path, methods: Sequence[str]) -> dict[str, Any]:
    """Return the content of `metrics.json` of `camcli evaluate` on the scenes beside `folder`."""
    output = folder.with_name(f"{folder.name}-quality")
    photos, chosen = folder.with_name("photos"), [f"--method={name}" for name in methods]
    arguments = [
        *(sys.executable, "-m", "camcli", "evaluate", photos, *network),
        *("--boxes", f"csv:{photos / 'boxes.csv'}", "--target", "annotated", *chosen),
        *(f"--metric={name}" for name in METRICS),
        *("--output", output, "--quiet"),
    ]
    subprocess.run([str(one) for one in arguments], check=True, stdout=subprocess.DEVNULL)
    found: dict[str, Any] = json.loads((output / "metrics.json").read_text())
    return found


def table(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of a table: a row for each method, sorted by pointing, and the controls."""
    yield "| method | " + " | ".join(f"`{name}`" for name in METRICS) + " |"
    yield "|---|" + "---|" * len(METRICS)
    rows = {name: found["metrics"][name]["rows"] for name in METRICS}
    order = sorted(rows["pointing"], key=lambda name: -rows["pointing"][name]["mean"])
    for method in order:
        cells = (_cell(rows[name].get(method)) for name in METRICS)
        yield f"| `{method}` | " + " | ".join(cells) + " |"


def _cell(value: Mapping[str, Any] | None) -> str:
    if value is None or value["mean"] is None:
        return "-"
    return f"{value['mean']:.3f}{MARKS.get(value['verdict'], '')}"


def of_classifier(
    folder: Path, steps: int, _seen: Sequence[Scene], methods: Sequence[str]
) -> dict[str, Any]:
    """Train and measure a Vision Transformer."""
    place = vits.save(vits.trained(steps), folder / "vit")
    return evaluated(("--model", f"hf:{place}"), place, methods)


def of_texts(
    folder: Path, steps: int, _seen: Sequence[Scene], methods: Sequence[str]
) -> dict[str, Any]:
    """Train and measure a CLIP, whose classes are texts."""
    place = clips.save(clips.trained(steps), folder / "clip")
    return evaluated(
        ("--model", f"clip:{place}", "--labels", str(place / "kinds.txt")), place, methods
    )


def of_answers(
    folder: Path, steps: int, seen: Sequence[Scene], methods: Sequence[str]
) -> dict[str, Any]:
    """Train and measure a BLIP that answers questions, and say which methods it refuses."""
    language = answers.network(folder / "blip", steps)
    asked = answers.answered(language, seen)
    if not asked:
        raise click.ClickException("no question is answered right: expected more --steps")
    refused = dict(answers.refused(language, asked[0], methods))
    for name, reason in refused.items():
        click.echo(f"- `{name}`: {reason}")
    click.echo(f"\n{len(asked)} of {len(seen)} questions are answered right\n")
    fitting = [name for name in methods if name not in refused]
    return answers.evaluated(language, asked, fitting, METRICS, ENLARGED)


NETWORKS: Mapping[str, Callable[[Path, int, Sequence[Scene], Sequence[str]], dict[str, Any]]] = {
    "vit": of_classifier,
    "clip": of_texts,
    "blip": of_answers,
}
"""Trains a network in a number of steps, saves it in a folder, and measures its maps."""

if __name__ == "__main__":
    main()
