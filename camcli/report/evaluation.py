"""Read the folder of `camcli evaluate --output`: its table, its plots and the values per image."""

from __future__ import annotations

import csv
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from camcli.errors import CamcliError
from camcli.evaluation.cells import unguarded
from camcli.evaluation.marks import MARKS, mark_notes
from camcli.images.find import EVALUATION_FILES
from camcli.images.regular import open_regular, read_regular
from camcli.images.store import AnyPath
from camcli.report.folder import OutputFolder, SavedResult
from camcli.runs.files import path_inside
from camcli.runs.records import limited_lines
from camcli.schema import NUMBER, RECORD_BYTES, TEXT, WHOLE, Kind, Record, Table, list_of

METRICS_FILE, SCORES_FILE = EVALUATION_FILES
DISTRIBUTIONS = "distributions"
"""The plot of all metrics. Every other plot is named after a metric that has a curve."""
ScoreKey: TypeAlias = tuple[str, str, str]
"""Image, method and class index of a row of scores.csv."""
_CELL = Record(
    "an object with a mean and its interval",
    required={"images": WHOLE},
    optional={"mean": NUMBER, "low": NUMBER, "high": NUMBER, "verdict": TEXT},
)
_METRIC = Record(
    "a metric with better, source and rows",
    required={"better": TEXT, "source": TEXT, "rows": Table("an object of rows", values=_CELL)},
    optional={"unit": TEXT},
)
METRICS_RECORD = Record(
    "the record of an evaluation",
    required={
        **{"model": TEXT, "images": WHOLE, "target": TEXT},
        **{"methods": list_of(TEXT), "controls": list_of(TEXT)},
        "metrics": Table("an object of metrics", values=_METRIC),
        "curves": Table("an object of curves", values=Kind("anything")),
    },
    optional={"weights_hash": TEXT, "layer": TEXT},
)
"""The content of metrics.json."""


@dataclass(frozen=True)
class MetricRow:
    """A row of the table: a metric, and for each column a text with its mark, and its verdict."""

    title: str
    better: str
    source: str
    images: int
    cells: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True)
class Evaluation:
    """An evaluation: the table, PNG files by name, and the metrics' values by image, method, class.

    `summary` says in one line what was measured, and `legend` what the marks mean.
    `weights_hash` is the hash of the model's weights.
    """

    summary: str
    columns: tuple[str, ...]
    rows: tuple[MetricRow, ...]
    legend: tuple[str, ...]
    plots: dict[str, bytes]
    values: dict[ScoreKey, dict[str, float]]
    weights_hash: str | None
    layer: str


def find_evaluation(folder: OutputFolder, named: AnyPath | None) -> Evaluation | None:
    """Read the evaluation in the folder that was named, or in the output folder if it has one.

    The values are those of the images of the output folder. Raises CamcliError.
    """
    if named is None and not folder.exists(METRICS_FILE):
        return None
    return read_evaluation(named or folder.path, folder.images)


def read_evaluation(folder: AnyPath, images: Collection[str]) -> Evaluation:
    """Read a folder that `camcli evaluate --output` wrote. Raises CamcliError."""
    file = folder / METRICS_FILE
    try:
        record = METRICS_RECORD.parse(read_regular(file, RECORD_BYTES))
        metrics, columns = record["metrics"], (*record["methods"], *record["controls"])
        rows = tuple(_metric_row(name, metric, columns) for name, metric in metrics.items())
        verdicts = {verdict for row in rows for _, verdict in row.cells}
        return Evaluation(
            summary=f"{record['model']}, {record['images']} images, target {record['target']}",
            columns=columns,
            rows=rows,
            legend=tuple(mark_notes(verdicts, record["controls"])),
            plots=dict(_plots(folder, [*record["curves"], DISTRIBUTIONS])),
            values=dict(_read_values(file := folder / SCORES_FILE, metrics, images)),
            weights_hash=record.get("weights_hash"),
            layer=record.get("layer") or "auto",
        )
    except OSError as error:
        raise CamcliError(
            f"'{folder}' has no readable {METRICS_FILE} ({error.strerror}): expected a folder that "
            f"camcli evaluate --output wrote"
        ) from None
    except (ValueError, csv.Error) as error:
        raise CamcliError(f"'{file}' is not one of camcli evaluate: {error}") from None


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
    percent, rows = metric.get("unit") == "percent", metric["rows"]
    if missing := [column for column in columns if column not in rows]:
        raise ValueError(f"no metrics.{name}.rows.{missing[0]}, expected {_CELL.expected}")
    cells = [rows[column] for column in columns]
    return MetricRow(
        title=f"{name} %" if percent else name,
        better=metric["better"],
        source=metric["source"],
        images=max((cell["images"] for cell in cells), default=0),
        cells=tuple((_cell_text(one, 1 if percent else 3), one.get("verdict")) for one in cells),
    )


def _cell_text(cell: dict[str, Any], digits: int) -> str:
    mark = MARKS.get(cell.get("verdict") or "", "")
    return _interval_text(cell, digits) + mark


def _interval_text(cell: dict[str, Any], digits: int) -> str:
    mean, *interval = (cell.get(name) for name in ("mean", "low", "high"))
    if mean is None:
        return "-"
    if None in interval:  # a single image has no interval
        return f"{mean:.{digits}f}"
    low, high = (f"{value:.{digits}f}" for value in interval)
    return f"{mean:.{digits}f} [{low}, {high}]"


def _read_values(
    file: AnyPath, metrics: Collection[str], images: Collection[str]
) -> Iterator[tuple[ScoreKey, dict[str, float]]]:
    """Yield the metrics that are defined for each of some images, method and class."""
    if not file.is_file():
        return
    with open_regular(file) as stream:
        rows = csv.DictReader(line.decode() for line in limited_lines(stream))
        for name in ("image", "method", "class_index"):
            if name not in (rows.fieldnames or ()):
                raise ValueError(f"no column {name}")
        for row in rows:
            if (image := unguarded(row["image"])) in images:
                known = {name: _finite(row[name], name) for name in metrics if row.get(name)}
                yield (image, row["method"], row["class_index"]), known


def _finite(text: str, name: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{name} is {text}, expected a finite number")
    return number


def _plots(folder: AnyPath, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    for name in names:
        if (file := path_inside(folder, f"{name}.png")).is_file():
            yield name, read_regular(file, RECORD_BYTES)
