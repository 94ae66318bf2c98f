"""`python -m tests.scenes`: train networks on scenes, and measure their maps on others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import torch

from camcli.language import loading
from tests.bench.__main__ import machine
from tests.examples import policy, questions
from tests.scenes import blips
from tests.scenes.drawing import Scene, scenes
from tests.scenes.pointing import Rates, of_example, of_policy, of_questions, of_words, rates

METHODS = ("gradcam", "gradcam++", "xgradcam", "hirescam", "layercam", "ablationcam", "occlusion")
STEPS = {"ask": 1000, "caption": 600}
HELD_OUT = 99
"""The seed of the scenes that no network was trained on."""

Found = Mapping[str, Rates]
"""What was measured of a network, for each of METHODS."""


@click.command()
@click.option("--count", default=200, show_default=True, help="Scenes to measure with.")
@click.option("--keep", type=click.Path(path_type=Path), help="Keep the BLIPs in this folder.")
def main(count: int, keep: Path | None) -> None:
    """Train networks on scenes, and measure where their maps point in others."""
    torch.set_num_threads(1)
    click.echo(" · ".join(map(str, machine("cpu").values())) + f" · {count} scenes\n")
    click.echo("| network | right | " + " | ".join(METHODS) + " | centre | chance |")
    click.echo("|---|---|" + "---|" * (len(METHODS) + 2))
    others = scenes(count, HELD_OUT)
    with TemporaryDirectory() as temporary:
        for name, found in measured(others, keep or Path(temporary)):
            click.echo(f"| {name} | " + " | ".join(cells(found)) + " |")


def measured(others: Sequence[Scene], folder: Path) -> Iterator[tuple[str, Found]]:
    """Each network by its name, as soon as it is trained and measured."""
    points: dict[str, Callable[..., Mapping[str, list]]] = {
        "ask": of_questions,
        "caption": of_words,
    }
    for skill, point in points.items():
        place = blips.save(blips.trained(skill, STEPS[skill], pool=4000), folder / skill)
        shots = point(loading.load(skill, str(place)), others, METHODS)
        yield f"BLIP, `camcli {skill}`", {m: rates(others, shots[m]) for m in METHODS}
    answerer = questions.trained()
    yield (
        "[CNN and LSTM](tests/examples/questions.py)",
        {m: rates(others, of_example(answerer, others, m)) for m in METHODS},
    )
    player, state = policy.trained(), policy.drawn_states(len(others))
    yield (
        "[Q-network](tests/examples/policy.py)",
        {m: of_policy(player, state, m) for m in METHODS},
    )


def cells(found: Found) -> Iterator[str]:
    """A row: right answers, each method's hits and those of the other thing's map, baselines."""
    known = found[METHODS[0]]
    yield f"{known.right:.0%}"
    for method in METHODS:
        yield f"{found[method].hits:.0%} ({found[method].other:.0%})"
    yield f"{known.centre:.0%}"
    yield f"{known.chance:.0%}"


if __name__ == "__main__":
    main()
