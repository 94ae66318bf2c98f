"""`python -m tests.scenes`: train networks on scenes, and measure their maps on other scenes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import torch
from PIL import Image

from camcli import load
from camcli.engine.language.load import load_language_model
from tests.bench.__main__ import machine
from tests.examples import policy, questions
from tests.scenes import blips, clips, detectors
from tests.scenes.drawing import Scene, scenes
from tests.scenes.pointing import (
    Rates,
    of_example,
    of_policy,
    of_prompts,
    of_questions,
    of_words,
    rates,
)

METHODS = ("gradcam", "gradcam++", "xgradcam", "hirescam", "layercam")
STEPS, DETECTOR_STEPS = 800, 250
BEFORE_THE_NORM = "network.vision_model.encoder.layers.0"
HELD_OUT = 99
"""The seed of the test scenes, on which no network was trained."""

RatesByMethod = Mapping[str, Rates]
"""The rates of a network for each of METHODS."""


@click.command()
@click.option("--count", default=200, show_default=True, help="Number of test scenes.")
@click.option(
    "--keep", type=click.Path(path_type=Path), help="Folder for networks and some scenes."
)
@click.option(
    "--network", multiple=True, type=click.Choice(["blip", "clip", "detector", "examples"])
)
def main(count: int, keep: Path | None, network: tuple[str, ...]) -> None:
    """Train networks on scenes, and measure where their maps point in other scenes."""
    torch.set_num_threads(1)
    click.echo(" · ".join(map(str, machine("cpu").values())) + f" · {count} scenes\n")
    click.echo("| network | right | " + " | ".join(METHODS) + " | centre | chance |")
    click.echo("|---|---|" + "---|" * (len(METHODS) + 2))
    test_scenes = scenes(count, HELD_OUT, clear=True)
    with TemporaryDirectory() as temporary:
        for kind in network or NETWORKS:
            for name, found in NETWORKS[kind](test_scenes, keep or Path(temporary)):
                click.echo(f"| {name} | " + " | ".join(cells(found)) + " |")
    for number, one in enumerate(test_scenes[:4] if keep else ()):
        larger = Image.fromarray(one.pixels).resize((256, 256), Image.Resampling.BICUBIC)
        larger.save(Path(keep or "", f"scene{number}.png"))


def of_blips(test_scenes: Sequence[Scene], folder: Path) -> Iterator[tuple[str, RatesByMethod]]:
    """Train and measure the networks of `camcli ask` and `caption`. Yield their names and rates."""
    for skill, point in (("ask", of_questions), ("caption", of_words)):
        place = blips.save(blips.trained(skill, STEPS), folder / skill)
        for layer, suffix in ((None, ""), (BEFORE_THE_NORM, ", before the last norm")):
            shots = point(load_language_model(skill, str(place)), test_scenes, METHODS, layer)
            yield (
                f"BLIP, `camcli {skill}`{suffix}",
                {m: rates(test_scenes, shots[m]) for m in METHODS},
            )


def of_clips(test_scenes: Sequence[Scene], folder: Path) -> Iterator[tuple[str, RatesByMethod]]:
    """Train and measure networks whose classes are texts. Yield their names and rates."""
    for layers, blocks in ((1, "one block"), (3, "three blocks")):
        place = clips.save(clips.trained(STEPS, layers=layers), folder / f"clip{layers}")
        model = load(f"clip:{place}", labels=place / "kinds.txt")
        shots = of_prompts(model, test_scenes, METHODS)
        yield f"CLIP of {blocks}", {m: rates(test_scenes, shots[m]) for m in METHODS}


def of_detectors(
    test_scenes: Sequence[Scene], _folder: Path
) -> Iterator[tuple[str, RatesByMethod]]:
    """Train and measure a detector on scenes of two things of one class. Yield its rates."""
    seen = detectors.same_shapes(len(test_scenes), HELD_OUT)
    shots = detectors.of_objects(detectors.trained(DETECTOR_STEPS), seen, METHODS)
    yield "FCOS, `--instances 2`", {m: rates(seen, shots[m]) for m in METHODS}


def of_examples(test_scenes: Sequence[Scene], _folder: Path) -> Iterator[tuple[str, RatesByMethod]]:
    """Train and measure the networks of the examples. Yield their names and rates."""
    answerer = questions.train()
    yield (
        "[CNN and LSTM](tests/examples/questions.py)",
        {m: rates(test_scenes, of_example(answerer, test_scenes, m)) for m in METHODS},
    )
    player, state = policy.train(), policy.random_states(len(test_scenes))
    yield (
        "[Q-network](tests/examples/policy.py)",
        {m: of_policy(player, state, m) for m in METHODS},
    )


def cells(found: RatesByMethod) -> Iterator[str]:
    """Yield a row's cells: right answers, the hits of both maps by method, baselines."""
    known = found[METHODS[0]]
    yield f"{known.right:.0%}"
    for method in METHODS:
        yield f"{found[method].hits:.0%} ({found[method].other:.0%})"
    yield f"{known.centre:.0%}"
    yield f"{known.chance:.0%}"


NETWORKS = {"blip": of_blips, "clip": of_clips, "detector": of_detectors, "examples": of_examples}

if __name__ == "__main__":
    main()
