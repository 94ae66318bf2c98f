"""The summary for programs: metrics.json, and scores.csv with a row for each image and map."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict
from typing import Any

from camcli import __version__
from camcli.evaluation.baselines import BASELINES
from camcli.evaluation.cells import guarded
from camcli.evaluation.estimates import Estimate
from camcli.evaluation.intervals import BOOTSTRAP_IMAGES, LEVEL, RESAMPLES
from camcli.evaluation.registry import METRICS
from camcli.evaluation.scores import Scores
from camcli.evaluation.study import Study
from camcli.evaluation.summary import Summary, finite


def metrics_record(summary: Summary) -> dict[str, Any]:
    """Return the whole summary for JSON: options, means, intervals, curves and remarks."""
    scores = summary.scores
    study = scores.study
    return {
        **_options(study),
        "images": len(scores.classes),
        "failed": [
            {"image": study.sources[image].image, "reason": str(error)}
            for image, error in sorted(scores.failures.items())
        ],
        "skipped": [
            {"image": study.sources[image].image, "reason": one.reason}
            for image, one in sorted(scores.skipped.items())
        ],
        "empty": dict(zip(study.rows, scores.empty.sum(1).tolist(), strict=True)),
        "metrics": {
            name: {
                "better": METRICS[name].better,
                "unit": "percent" if METRICS[name].percent else None,
                "source": METRICS[name].source,
                "rows": {row: _estimate(one) for row, one in column.items()},
                "by_class": summary.class_means.get(name),
            }
            for name, column in summary.estimates.items()
        },
        **{name: summary.matrices.get(name) for name, one in METRICS.items() if one.has_matrix},
        **{one.top1: summary.top1.get(name) for name, one in METRICS.items() if one.top1},
        "curves": {
            name: {
                row: [*map(finite, points)]
                for row, points in zip(study.rows, curve.tolist(), strict=True)
            }
            for name, curve in summary.curves.items()
        },
        "remarks": list(summary.remarks),
        "version": __version__,
    }


def scores_csv(scores: Scores) -> bytes:
    """Return a CSV row for each image and map, with a column for each metric.

    A cell is empty where the metric is not defined. Names are `guarded`.
    """
    study, text = scores.study, io.StringIO()
    names = study.model.class_names
    writer = csv.writer(text)
    head = ("image", "class_index", "class_name", "probability", "method")
    writer.writerow([*head, *scores.values])
    for image, explained in sorted(scores.classes.items()):
        of_image = [
            guarded(study.sources[image].image),
            explained.index,
            guarded(names[explained.index]) if names else "",
            explained.probability,
        ]
        for i, row in enumerate(study.rows):
            values = (finite(float(values[i, image])) for values in scores.values.values())
            writer.writerow([*of_image, row, *values])
    return text.getvalue().encode(errors="backslashreplace")


def _options(study: Study) -> dict[str, Any]:
    model, truth = study.model, study.truth
    return {
        "model": model.name,
        "weights": model.weights,
        "weights_hash": model.weights_hash,
        "activation": model.activation,
        **({"prompt": dict(model.prompt)} if model.prompt else {}),
        "precision": str(model.dtype).removeprefix("torch."),
        "device": str(model.device),
        "preprocessing": {"from": model.preset_from, **asdict(model.preset)},
        "target": study.target,
        "boxes": truth and truth.boxes,
        "min_objects": study.min_objects if truth else None,
        "class_map": truth and truth.class_map and str(truth.class_map),
        "layer": study.layer or "auto",
        "fit": study.inputs.fit,
        "batch_size": study.inputs.batch_size,
        "methods": list(study.methods),
        "controls": list(BASELINES),
        "interval": {
            "level": LEVEL,
            "bootstrap_images": BOOTSTRAP_IMAGES,
            "resamples": RESAMPLES,
        },
        "protocol": asdict(study.protocol),
    }


def _estimate(one: Estimate) -> dict[str, Any]:
    fields = {**asdict(one), "interval": one.interval}
    return {k: finite(v) if isinstance(v, float) else v for k, v in fields.items()}
