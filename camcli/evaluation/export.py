"""An evaluation for programs: metrics.json, and a row of CSV for each image and map."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict
from typing import Any

from camcli import __version__
from camcli.evaluation.baselines import CONTROLS
from camcli.evaluation.intervals import LEVEL, RESAMPLES
from camcli.evaluation.metrics import METRICS
from camcli.evaluation.run import Scores, Study
from camcli.evaluation.summary import Summary, number


def record(summary: Summary) -> dict[str, Any]:
    """All that was found of the methods, for JSON: means, intervals, curves, and how."""
    scores = summary.scores
    study = scores.study
    return {
        **_asked(study),
        "images": len(scores.facts),
        "failed": [
            {"image": study.sources[image].name.as_posix(), "reason": str(error)}
            for image, error in sorted(scores.failures.items())
        ],
        "skipped": [
            {"image": study.sources[image].name.as_posix(), "reason": one.reason}
            for image, one in sorted(scores.skipped.items())
        ],
        "empty": dict(zip(study.rows, scores.empty.sum(1).tolist(), strict=True)),
        "metrics": {
            name: {
                "better": METRICS[name].better,
                "unit": "percent" if METRICS[name].percent else None,
                "source": METRICS[name].source,
                "rows": {row: _known(asdict(cell)) for row, cell in column.items()},
                "by_class": summary.by_class.get(name),
            }
            for name, column in summary.cells.items()
        },
        "win": summary.wins if "win" in study.metrics else None,
        "top1": summary.top1,
        "curves": {
            name: {
                row: [*map(number, points)]
                for row, points in zip(study.rows, curve.tolist(), strict=True)
            }
            for name, curve in summary.curves.items()
        },
        "remarks": list(summary.remarks),
        "version": __version__,
    }


def rows_csv(scores: Scores) -> bytes:
    """A row for each image and map: `image, class_index, class_name, probability, method` and one
    column a metric; empty where a metric is not defined."""
    study, text = scores.study, io.StringIO()
    names = study.model.class_names
    writer = csv.writer(text)
    head = ("image", "class_index", "class_name", "probability", "method")
    writer.writerow([*head, *scores.values])
    for image, facts in sorted(scores.facts.items()):
        known = [
            study.sources[image].name.as_posix(),
            facts.class_index,
            names[facts.class_index] if names else "",
            facts.probability,
        ]
        for i, row in enumerate(study.rows):
            values = (number(float(values[i, image])) for values in scores.values.values())
            writer.writerow([*known, row, *values])
    return text.getvalue().encode(errors="backslashreplace")


def _asked(study: Study) -> dict[str, Any]:
    """What was measured, and how."""
    model, truth = study.model, study.truth
    return {
        "model": model.name,
        "weights": model.weights,
        "weights_hash": model.weights_hash,
        "precision": str(model.dtype).removeprefix("torch."),
        "device": str(model.device),
        "target": study.target,
        "boxes": truth and truth.boxes,
        "objects": study.objects if truth else None,
        "class_map": truth and truth.class_map and str(truth.class_map),
        "layer": study.layer or "auto",
        "fit": study.fit,
        "batch_size": study.batch_size,
        "methods": list(study.methods),
        "controls": list(CONTROLS),
        "interval": {"level": LEVEL, "resamples": RESAMPLES},
        "protocol": asdict(study.protocol),
    }


def _known(cell: dict[str, Any]) -> dict[str, Any]:
    """The same without NaN, which JSON has not."""
    return {k: number(v) if isinstance(v, float) else v for k, v in cell.items()}
