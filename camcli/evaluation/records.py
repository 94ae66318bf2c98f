"""An evaluation for programs: metrics.json, and a row of CSV for each image and map."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from camcli import __version__
from camcli.evaluation.controls import CONTROLS
from camcli.evaluation.intervals import LEVEL, RESAMPLES, cells
from camcli.evaluation.metrics import METRICS, win
from camcli.evaluation.run import Scores, Values

METRICS_FILE, SCORES_FILE, TABLE_FILE = "metrics.json", "scores.csv", "table.md"


def record(scores: Scores) -> dict[str, Any]:
    """All that was found of the methods, for JSON: means, intervals, curves, and how."""
    study = scores.study
    return {
        "model": study.model.name,
        "weights": study.model.weights,
        "weights_hash": study.model.weights_hash,
        "target": study.target,
        "boxes": study.truth and study.truth.boxes,
        "objects": study.objects if study.truth else None,
        "class_map": study.truth and study.truth.class_map and str(study.truth.class_map),
        "layer": study.layer or "auto",
        "fit": study.fit,
        "images": len(scores.facts),
        "failed": len(scores.failures),
        "skipped": [
            {"image": study.sources[number].name.as_posix(), "reason": reason}
            for number, reason in sorted(scores.skipped.items())
        ],
        "methods": list(study.methods),
        "controls": list(CONTROLS),
        "interval": {"level": LEVEL, "resamples": RESAMPLES},
        "protocol": asdict(study.protocol),
        "metrics": {
            name: {
                "better": METRICS[name].better,
                "unit": "percent" if METRICS[name].percent else None,
                "source": METRICS[name].source,
                "rows": {row: _known(asdict(cell)) for row, cell in column.items()},
            }
            for name, column in cells(scores).items()
        },
        "win": wins(scores) if "win" in study.metrics else None,
        "curves": {
            name: dict(zip(study.rows, curve.tolist(), strict=True))
            for name, curve in curves(scores).items()
        },
        "version": __version__,
    }


def curves(scores: Scores) -> dict[str, Values]:
    """By metric the mean over the images of its curve, (M,S) for M rows."""
    return {
        name: np.ma.masked_invalid(trace).mean(axis=1).filled(0.0)
        for name, trace in scores.traces.items()
        if trace.ndim == 3
    }


def wins(scores: Scores) -> dict[str, dict[str, float | None]]:
    """The share of images, in percent, on which one map wins against another, for every two."""
    rows = scores.study.rows
    kept = torch.from_numpy(scores.traces.get("win", np.full((len(rows), 0), np.nan)))
    return {
        row: {
            other: None if other == row else _number(float(win(ours, theirs[None]).mean()))
            for other, theirs in zip(rows, kept, strict=True)
        }
        for row, ours in zip(rows, kept, strict=True)
    }


def rows_csv(scores: Scores) -> bytes:
    """A row for each image and map: `image, class_index, class_name, probability, method` and one
    column a metric; empty where a metric is not defined."""
    study, text = scores.study, io.StringIO()
    names = study.model.class_names
    writer = csv.writer(text)
    head = ("image", "class_index", "class_name", "probability", "method")
    writer.writerow([*head, *scores.values])
    for number, facts in sorted(scores.facts.items()):
        known = [
            study.sources[number].name.as_posix(),
            facts.class_index,
            names[facts.class_index] if names else "",
            facts.probability,
        ]
        for i, row in enumerate(study.rows):
            values = (_number(float(values[i, number])) for values in scores.values.values())
            writer.writerow([*known, row, *values])
    return text.getvalue().encode(errors="backslashreplace")


def _known(cell: dict[str, Any]) -> dict[str, Any]:
    """The same without NaN, which JSON has not."""
    return {k: _number(v) if isinstance(v, float) else v for k, v in cell.items()}


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
