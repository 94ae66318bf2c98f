"""The sources of networks, one row each. All commands use the rows.

The help of --model shows the rows, so this module does not import torch. A row imports its loader
when it is called.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from camcli.errors import ModelError, spelled, unknown
from camcli.models import known
from camcli.models.folder import CARD, read_card, with_files
from camcli.models.options import ModelOptions

if TYPE_CHECKING:
    from camcli.models.model import Model

MINI = Path(__file__).parents[1] / "assets" / "mini" / "squeezenet1_0.safetensors"
"""The bundled weights, in half precision; the README.md beside them describes them."""


@dataclass(frozen=True)
class NetworkSource:
    """A source of networks.

    name: the name of the source.
    summary: the names that it accepts, as a phrase for the help of --model.
    accepts: whether a name belongs to the source.
    load: loads a model. Device, precision and evaluation mode are set afterwards.
    names: the names that `camcli models` lists.
    prefix: the beginning of all names, if they have one. A pattern must begin with it for
        `camcli models` to list them.
    completions: the names that a shell completes, found without importing torch.
    outline: builds a network on the meta device. Without it, listing a network or its layers loads
        the weights.
    initialise: builds a classifier with random weights from a name, class names and a seed.
        Without it, `camcli train` does not accept the source.
    family: the family of a name; the default is the name of the source.
    cached: the published weights of a name that need no download.
    takes_arguments: whether --model-arg is passed on to the function that builds the network.
    takes_texts: whether the classes are texts (--text, --template).
    runs_code: whether loading runs code that the name refers to. The card of a trained folder must
        not name such a network.
    """

    name: str
    summary: str
    accepts: Callable[[str], bool]
    load: Callable[[ModelOptions], Model]
    names: Callable[[], list[str]] = list
    prefix: str = ""
    completions: Callable[[], list[str]] = list
    outline: Callable[[str], Model] | None = None
    initialise: Callable[[str, Sequence[str], int], Model] | None = None
    family: Callable[[str], str] | None = None
    cached: Callable[[str], Sequence[str]] = lambda _: ()
    takes_arguments: bool = False
    takes_texts: bool = False
    runs_code: bool = False


def register_source(source: NetworkSource) -> None:
    """Add a source. It takes precedence over the others if several accept a name."""
    SOURCES.insert(0, source)


def find_source(name: str) -> NetworkSource:
    """Return the source that accepts a name. Raises ModelError with the nearest names."""
    if found := next((source for source in SOURCES if source.accepts(name)), None):
        return found
    raise ModelError(unknown("model", name, _listed_names(SOURCES)))


def true_name(name: str) -> str:
    """Return the listed name that a name is another spelling of, as ResNet-50, or the name itself.

    A name that a source accepts stands for itself.
    """
    accepted = any(source.accepts(name) for source in SOURCES)
    return name if accepted else spelled(name, _listed_names(SOURCES))


def trainable_sources() -> list[NetworkSource]:
    """Return the sources whose networks `camcli train` accepts."""
    return [source for source in SOURCES if source.initialise]


def describe(sources: Iterable[NetworkSource]) -> str:
    """Return the summaries of sources as one phrase, for help and messages."""
    *others, last = (source.summary for source in sources)
    return f"{'; '.join(others)}; or {last}" if others else last


def _listed_names(sources: Iterable[NetworkSource]) -> list[str]:
    return [name for source in sources if not source.prefix for name in source.names()]


def _lazy(module: str, function: str) -> Callable[..., Any]:
    """Return a function of this package that is imported when it is called."""

    def call(*arguments: Any) -> Any:
        return getattr(import_module(f"camcli.models.{module}"), function)(*arguments)

    return call


def _load_folder(options: ModelOptions) -> Model:
    """Load the architecture that a trained folder names, with its weights. Raises ModelError."""
    folder = Path(options.name)
    architecture, preset = read_card(folder)
    source = next((source for source in SOURCES if source.accepts(architecture)), None)
    if source is None or not source.initialise:
        choices = _listed_names(trainable_sources())
        reason = unknown("architecture", architecture, choices)
        raise ModelError(f"model '{folder}': {reason}")
    if source.runs_code:
        raise ModelError(
            f"model '{folder}': loading it would run the code of {architecture}; "
            f"to allow that, give --model {architecture} --weights {folder}"
        )
    if options.weights == "none":
        raise ModelError(f"model '{folder}' comes with its weights: leave them on DEFAULT")
    files = with_files(options, folder)
    weights = files.weights if options.weights == "DEFAULT" else options.weights
    model = source.load(replace(files, name=architecture, weights=weights))
    name = folder.resolve().name
    return replace(model, name=name, preset=preset, preset_from="camcli train")


def _load_mini(options: ModelOptions) -> Model:
    """Load torchvision's squeezenet1_0 with the bundled weights. Raises ModelError for others."""
    if options.weights != "DEFAULT":
        raise ModelError(
            f"weights '{options.weights}' need --model NAME, the network that they are for; "
            f"without it, the model is mini, which has its own weights"
        )
    bundled = replace(options, name="squeezenet1_0", weights=str(MINI))
    model: Model = _load_torchvision(bundled)
    return replace(model, name="mini", preset_from="torchvision")


def _is_hf(name: str) -> bool:
    """Return whether a name is `hf:NAME`, or a folder of save_pretrained and not of camcli."""
    folder = Path(name)
    saved = (folder / "config.json").is_file() and not (folder / CARD).is_file()
    return name.startswith("hf:") or saved


_load_torchvision = _lazy("torchvision_networks", "load_torchvision")
_torchvision_names = _lazy("torchvision_networks", "torchvision_names")

SOURCES: list[NetworkSource] = [
    NetworkSource(
        name="mini",
        summary="mini, the bundled SqueezeNet of ImageNet's 1000 classes",
        accepts=lambda name: name == "mini",
        load=_load_mini,
        names=lambda: ["mini"],
        completions=lambda: ["mini"],
        cached=lambda _: ["DEFAULT"],
    ),
    NetworkSource(
        name="torchvision",
        summary="a torchvision model, as listed by camcli models",
        accepts=lambda name: name in _torchvision_names(),
        load=_load_torchvision,
        names=_torchvision_names,
        completions=known.torchvision_names,
        outline=_lazy("torchvision_networks", "outline_torchvision"),
        initialise=_lazy("torchvision_networks", "initialise_torchvision"),
        family=_lazy("families", "family"),
        cached=_lazy("torchvision_networks", "cached_weights"),
    ),
    NetworkSource(
        name="timm",
        summary="timm:NAME, a network of timm",
        accepts=lambda name: name.startswith("timm:"),
        load=_lazy("timm_networks", "load_timm"),
        names=_lazy("timm_networks", "timm_names"),
        prefix="timm:",
        completions=known.timm_names,
        outline=_lazy("timm_networks", "outline_timm"),
        initialise=_lazy("timm_networks", "initialise_timm"),
        family=_lazy("timm_networks", "timm_family"),
        cached=_lazy("timm_networks", "cached_timm"),
        takes_arguments=True,
    ),
    NetworkSource(
        name="hf",
        summary="hf:NAME, a network of the Hugging Face hub, or a folder of save_pretrained",
        accepts=_is_hf,
        load=_lazy("hf_networks", "load_hf"),
        prefix="hf:",
        outline=_lazy("hf_networks", "outline_hf"),
    ),
    NetworkSource(
        name="clip",
        summary="clip:NAME, a CLIP or SigLIP of the hub or in a folder, with texts as classes",
        accepts=lambda name: name.startswith("clip:"),
        load=_lazy("prompts", "load_clip"),
        prefix="clip:",
        outline=_lazy("prompts", "outline_clip"),
        takes_texts=True,
    ),
    NetworkSource(
        name="folder",
        summary="a folder written by camcli train",
        accepts=os.path.isdir,
        load=_load_folder,
    ),
    NetworkSource(
        name="factory",
        summary="package.module:factory or path/to/file.py:factory",
        accepts=lambda name: ":" in name,
        load=_lazy("factory", "load_factory"),
        initialise=_lazy("factory", "initialise_factory"),
        takes_arguments=True,
        runs_code=True,
    ),
]
"""The sources, in order of precedence."""
