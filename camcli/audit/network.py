"""The network of an output folder: check that it made the maps, and read images as the run did."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from camcli.audit.interventions import Laboratory
from camcli.audit.samples import Samples
from camcli.errors import CamcliError
from camcli.images.store import AnyPath
from camcli.models.model import Model
from camcli.runs.manifest import Row
from camcli.runs.options import InputOptions
from camcli.runs.originals import PROBES, Search


def open_laboratory(
    samples: Samples, run: Row, model: Model, images: Sequence[AnyPath], seed: int = 0
) -> Laboratory:
    """Return the network with the originals of the samples. Raises CamcliError.

    The run's record has to be that of the same weights, texts and preprocessing. `images` are
    folders to search for originals.
    """
    _check_same(run, model)
    probes = samples.rows(range(0, len(samples), -(-len(samples) // PROBES)))
    known = [(row["image"], _digest(row)) for row in probes]
    search = Search.of(samples.folder, run, images).narrowed(known)
    reading = search.reading
    inputs = InputOptions(
        fit=run.get("fit") or "preset", frame=reading.frame, window_level=reading.window_level
    )

    def find(row: Row) -> AnyPath | None:
        file, note = search.find(row["image"], _digest(row))
        return None if note else file

    return Laboratory(samples, model, inputs, find, seed)


def _digest(row: Row) -> str:
    """Return the digest of the image of a row."""
    return (row.get("digest") or "").partition("-")[2]


def _check_same(run: Mapping[str, Any], model: Model) -> None:
    """Raise CamcliError if a run had other weights, texts or another preprocessing than a model."""
    preset = json.loads(json.dumps(asdict(model.preset)))
    known = {name: value for name, value in run.get("preprocessing", {}).items() if name != "from"}
    pairs = {
        "weights": (run.get("weights_hash"), model.weights_hash),
        "precision": (run.get("precision"), str(model.dtype).removeprefix("torch.")),
        "preprocessing": (known or None, preset),
        "texts": (run.get("prompt"), model.prompt),
    }
    for what, (theirs, ours) in pairs.items():
        if theirs != ours:
            raise CamcliError(
                f"the maps were made with other {what} ({_brief(theirs)}, here {_brief(ours)}): "
                f"give the options of camcli explain"
            )


def _brief(value: object) -> str:
    text = "unknown" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
