"""Read the folder of `camcli evaluate --output`: its table, its plots and the values per image."""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from camcli.errors import CamcliError, one_line
from camcli.images.find import EVALUATION_FILES
from camcli.report.folder import SavedResult, number_or_none, text_or_none
from camcli.runs.files import path_inside

METRICS_FILE, SCORES_FILE = EVALUATION_FILES
DISTRIBUTIONS = "distributions"
"""The plot of all metrics. Every other plot is named after a metric that has a curve."""
ScoreKey: TypeAlias = tuple[str, str, str]
"""Image, method and class index of a row of scores.csv."""


@dataclass(frozen=True)
class MetricRow:
    """A row of the table: a metric, and for each column a text and its verdict."""

    title: str
    better: str
    source: str
    images: int
    cells: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True)
class Evaluation:
    """An evaluation: the table, PNG files by name, and the metrics' values by image, method, class.

    `summary` says in one line what was measured. `weights_hash` is the hash of the model's weights.
    """

    summary: str
    columns: tuple[str, ...]
    rows: tuple[MetricRow, ...]
    plots: dict[str, bytes]
    values: dict[ScoreKey, dict[str, float]]
    weights_hash: str | None
    layer: str


def find_evaluation(folder: Path, named: Path | None) -> Evaluation | None:
    """Read the evaluation in the folder that was named, or in the output folder if it has one."""
    if named is None and not (folder / METRICS_FILE).is_file():
        return None
    return read_evaluation(named or folder)


def read_evaluation(folder: Path) -> Evaluation:
    """Read a folder that `camcli evaluate --output` wrote. Raises CamcliError."""
    try:
        record = json.loads((folder / METRICS_FILE).read_bytes())
        metrics = record["metrics"]
        columns = (*map(str, record["methods"]), *map(str, record["controls"]))
        return Evaluation(
            summary=f"{record['model']}, {record['images']} images, target {record['target']}",
            columns=columns,
            rows=tuple(_metric_row(name, metric, columns) for name, metric in metrics.items()),
            plots=dict(_plots(folder, [*record["curves"], DISTRIBUTIONS])),
            values=dict(_read_values(folder / SCORES_FILE, metrics)),
            weights_hash=text_or_none(record.get("weights_hash")),
            layer=text_or_none(record.get("layer")) or "auto",
        )
    except OSError as error:
        raise CamcliError(
            f"'{folder}' has no readable {METRICS_FILE} ({error.strerror}): expected a folder that "
            f"camcli evaluate --output wrote"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, csv.Error) as error:
        raise CamcliError(
            f"'{folder}': expected {METRICS_FILE} and {SCORES_FILE} of camcli evaluate "
            f"({type(error).__name__}: {one_line(error)})"
        ) from None


def metric_values(
    result: SavedResult, siblings: Sequence[SavedResult], evaluation: Evaluation | None
) -> Mapping[str, float]:
    """Return a result's value for each metric.

    Empty if another class or another layer was measured. `siblings` are all results of the image.
    """
    if evaluation is None or result.class_index is None:
        return {}
    layers = {one.layer for one in siblings if one.method == result.method}
    if result.layer != evaluation.layer and (evaluation.layer != "auto" or len(layers) > 1):
        return {}
    return evaluation.values.get((result.image, result.method, str(result.class_index)), {})


def _metric_row(name: str, metric: dict[str, Any], columns: Sequence[str]) -> MetricRow:
    percent = metric["unit"] == "percent"
    cells = [metric["rows"][column] for column in columns]
    return MetricRow(
        title=f"{name} %" if percent else name,
        better=str(metric["better"]),
        source=str(metric["source"]),
        images=max(int(cell["images"]) for cell in cells),
        cells=tuple(
            (_cell_text(cell, 1 if percent else 3), text_or_none(cell.get("verdict")))
            for cell in cells
        ),
    )


def _cell_text(cell: dict[str, Any], digits: int) -> str:
    mean, *interval = (number_or_none(cell[name]) for name in ("mean", "low", "high"))
    if mean is None:
        return "-"
    if None in interval:  # a single image has no interval
        return f"{mean:.{digits}f}"
    low, high = (f"{value:.{digits}f}" for value in interval)
    return f"{mean:.{digits}f} [{low}, {high}]"


def _read_values(
    file: Path, metrics: Collection[str]
) -> Iterator[tuple[ScoreKey, dict[str, float]]]:
    """Yield the metrics that are defined for each image, method and class."""
    if not file.is_file():
        return
    with file.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            known = {name: float(row[name]) for name in metrics if row.get(name)}
            yield (row["image"], row["method"], row["class_index"]), known


def _plots(folder: Path, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    for name in names:
        if (file := path_inside(folder, f"{name}.png")).is_file():
            yield name, file.read_bytes()
