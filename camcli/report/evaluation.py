"""What `camcli evaluate --output` wrote: its table, its plots, and each image's own values."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from camcli.errors import CamcliError, one_line
from camcli.images.find import EVALUATION_FILES
from camcli.report.folder import Entry, number, text

METRICS_FILE, SCORES_FILE = EVALUATION_FILES
PLOTS = ("insertion", "deletion", "road", "road-least", "sanity", "distributions")
Key: TypeAlias = tuple[str, str, str]
"""Image, method and class index, as scores.csv has them."""


@dataclass(frozen=True)
class Line:
    """A metric of the table, with a cell for each column: what it says, and its verdict."""

    metric: str
    better: str
    source: str
    images: int
    cells: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True)
class Evaluation:
    """A table, PNG files by name, and by image, method and class a value for each metric.

    `told` is what was measured, in one line; `weights` the hash of the network's.
    """

    columns: tuple[str, ...]
    lines: tuple[Line, ...]
    plots: dict[str, bytes]
    values: dict[Key, dict[str, float]]
    told: str
    weights: str | None
    layer: str


def find(folder: Path, given: Path | None) -> Evaluation | None:
    """The evaluation in a folder that was named, or in the output folder where there is one."""
    if given is None and not (folder / METRICS_FILE).is_file():
        return None
    return read(given or folder)


def read(folder: Path) -> Evaluation:
    """What `camcli evaluate --output` wrote to a folder. Raises CamcliError."""
    file = folder / METRICS_FILE
    try:
        found = json.loads(file.read_bytes())
        columns = (*map(str, found["methods"]), *map(str, found["baselines"]))
        lines = tuple(_line(name, metric, columns) for name, metric in found["metrics"].items())
        told = f"{found['model']}, {found['images']} images, target {found['target']}"
        values = dict(_values(folder / SCORES_FILE, [line.metric for line in lines]))
    except OSError as error:
        raise CamcliError(
            f"'{folder}' has no readable {METRICS_FILE} ({error.strerror}): expected a folder that "
            f"camcli evaluate --output wrote"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, csv.Error) as error:
        raise CamcliError(
            f"'{folder}': {METRICS_FILE} or {SCORES_FILE} is not camcli evaluate's "
            f"({type(error).__name__}: {one_line(error)})"
        ) from None
    plots = {name: data for name in PLOTS if (data := _plot(folder / f"{name}.png"))}
    hashed, layer = text(found.get("weights_hash")), text(found.get("layer"))
    return Evaluation(columns, lines, plots, values, told, hashed, layer or "auto")


def values_of(
    entry: Entry, among: Sequence[Entry], found: Evaluation | None
) -> Mapping[str, float]:
    """An entry's own values: of the class that it explains, and of the layer that was measured."""
    if found is None or entry.class_index is None:
        return {}
    layers = {one.layer for one in among if one.method == entry.method}
    if entry.layer != found.layer and (found.layer != "auto" or len(layers) > 1):
        return {}
    return found.values.get((entry.image, entry.method, str(entry.class_index)), {})


def _line(name: str, metric: dict[str, Any], columns: Sequence[str]) -> Line:
    percent = metric["unit"] == "percent"
    rows = [metric["rows"][column] for column in columns]
    return Line(
        f"{name} %" if percent else name,
        str(metric["better"]),
        str(metric["source"]),
        max(int(row["images"]) for row in rows),
        tuple((_cell(row, 1 if percent else 3), text(row.get("verdict"))) for row in rows),
    )


def _cell(row: dict[str, Any], digits: int) -> str:
    mean, *ends = (number(row[name]) for name in ("mean", "low", "high"))
    if mean is None:
        return "-"
    if None in ends:  # of a single image
        return f"{mean:.{digits}f}"
    low, high = (f"{value:.{digits}f}" for value in ends)
    return f"{mean:.{digits}f} [{low}, {high}]"


def _values(file: Path, metrics: Sequence[str]) -> Iterator[tuple[Key, dict[str, float]]]:
    """By image, method and class, the metrics that are defined there."""
    if not file.is_file():
        return
    names = [metric.removesuffix(" %") for metric in metrics]
    with file.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            known = {name: float(row[name]) for name in names if row.get(name)}
            yield (row["image"], row["method"], row["class_index"]), known


def _plot(file: Path) -> bytes | None:
    return file.read_bytes() if file.is_file() else None
