"""--method, and the method that its value `auto` stands for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from camcli.cli.options import Command, grouped, names_option
from camcli.cli.printing import echo
from camcli.cli.types import Names
from camcli.methods.registry import AUTO, METHODS

if TYPE_CHECKING:
    from camcli.models.model import Model


def method_option(
    default: str | None = "gradcam",
    text: str = "How to explain.",
    *,
    auto: bool = False,
    heading: str = "What to explain",
) -> Callable[[Command], Command]:
    """Return --method with a default. With `auto`, it takes this name for the recommended one."""
    kind = Names("method", METHODS, *([AUTO] if auto else []))
    text = f"{text} {AUTO} is what docs/quality.md recommends for the layer." if auto else text
    return grouped(heading, names_option("--method", kind, text, default=default and [default]))


def chosen_methods(
    given: Sequence[str], model: Model, layer: str = "auto", *, quiet: bool = False
) -> tuple[str, ...]:
    """Return methods, each once, with the recommended one of a model in the place of `auto`.

    Print which one this is unless `quiet`. Raises ModelError for a layer that has no map.
    """
    if AUTO not in given:
        return tuple(dict.fromkeys(given))
    from camcli.engine.explain import recommended
    from camcli.engine.inputs import noise_for

    found = recommended(model, (noise_for(model),), None if layer == "auto" else layer)
    if not quiet:
        echo(f"Note: --method {AUTO} is {found.method}, for {found.reason}", err=True)
    return tuple(dict.fromkeys(found.method if name == AUTO else name for name in given))


def note_alike(methods: Sequence[str], model: Model) -> None:
    """Print that Grad-CAM does not tell objects apart, if it explains those of a detector."""
    if model.task == "detection" and "gradcam" in methods:
        echo(
            "Note: gradcam weights channels by means over all places, so that its maps of two "
            f"objects of a class look alike; --method {AUTO} tells objects apart",
            err=True,
        )
