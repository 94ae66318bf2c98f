"""An evaluation for people: a table of means and intervals, and what one should know of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from camcli.evaluation.controls import CONTROLS
from camcli.evaluation.intervals import Cell, cells
from camcli.evaluation.metrics import METRICS
from camcli.evaluation.records import wins
from camcli.evaluation.run import Scores
from camcli.evaluation.truth import ANNOTATED, ANOTHER

MARKS = {"fails": "!", "unsure": "~"}
KEPT = 0.3
"""The rank correlation with a random network's map above which a map is said not to follow the
network. With ImageNet weights Grad-CAM has 0.06 and Guided Backpropagation 0.51."""


def table(scores: Scores) -> str:
    """A line for each metric with a column for each row of the study, and the notes below it."""
    found = cells(scores)
    header = ["metric", "better", "images", *scores.study.rows]
    lines = [header, *(_line(name, list(column.values())) for name, column in found.items())]
    parts = [_aligned(lines)]
    marks = {cell.verdict for column in found.values() for cell in column.values()}
    if "fails" in marks:
        parts.append(f"! no better than a map that knows nothing ({' or '.join(CONTROLS)})")
    if "unsure" in marks:
        parts.append("~ better than those on average, but these images are too few to be sure")
    if "win" in found:
        parts.append(_win_table(scores))
    parts += _remarks(scores, found)
    parts += left_out(scores)
    parts.append(protocol(scores))
    return "\n".join(parts) + "\n"


def markdown(record: Mapping[str, Any]) -> str:
    """What metrics.json holds as a Markdown table, with a line for each method and control."""
    metrics = record["metrics"]
    titles = [
        f"`{name}`{' %' if facts['unit'] else ''} ({facts['better']})"
        for name, facts in metrics.items()
    ]
    lines = [["", *titles], ["---"] * (1 + len(titles))]
    for row in (*record["methods"], *record["controls"]):
        title = f"`{row}`" if row in record["methods"] else row
        cells = [_cell(facts["rows"][row], facts["unit"]) for facts in metrics.values()]
        lines.append([title, *cells])
    return "".join(f"| {' | '.join(text.strip() for text in line)} |\n" for line in lines)


def left_out(scores: Scores) -> Iterator[str]:
    """A line for each reason for which images were skipped, with how many they are."""
    for reason, count in Counter(scores.skipped.values()).most_common():
        hint = f" (--target {ANNOTATED} takes one that they have)" if reason == ANOTHER else ""
        yield f"{count} of {len(scores.study.sources)} images skipped: {reason}{hint}"


def protocol(scores: Scores) -> str:
    """How it was measured, in one line: what the papers leave open and these metrics depend on."""
    study = scores.study
    needs = {name for metric in study.metrics for name in METRICS[metric].needs}
    used = study.protocol.used(needs)
    told = [
        f"{name.replace('_', '-')} {value}" for name, value in used.items() if value is not None
    ]
    truth = f", boxes {study.truth.boxes}" if study.truth else ""
    truth += f", objects {study.objects}" if study.objects > 1 else ""
    return f"Measured with target {study.target}{truth}, fit {study.fit}, {', '.join(told)}."


def _line(name: str, column: Sequence[Cell]) -> list[str]:
    metric = METRICS[name]
    title = f"{name} %" if metric.percent else name
    return [
        title,
        metric.better,
        str(column[0].images),
        *(_cell(asdict(cell), metric.percent) for cell in column),
    ]


def _cell(cell: Mapping[str, Any], percent: object) -> str:
    """A Cell's fields, or what JSON holds of them."""
    values = [cell[name] for name in ("mean", "low", "high")]
    if values[0] is None or math.isnan(values[0]):
        return "-"
    mean, low, high = (f"{value:.{1 if percent else 3}f}" for value in values)
    return f"{mean} [{low}, {high}]{MARKS.get(cell['verdict'] or '', ' ')}"


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _win_table(scores: Scores) -> str:
    found = wins(scores)
    lines = [["win % against", *found]]
    for row, against in found.items():
        lines.append(
            [row, *("-" if share is None else f"{share:.1f}" for share in against.values())]
        )
    return _aligned(lines)


def _remarks(scores: Scores, found: dict[str, dict[str, Cell]]) -> Iterator[str]:
    for method in scores.study.methods:
        kept = found["sanity"][method].mean if "sanity" in found else math.nan
        if kept > KEPT:
            yield (
                f"{method} fails the sanity check: much of its map stays when the weights become "
                f"random (rank correlation {kept:.2f})"
            )
    for name, values in scores.values.items():
        if METRICS[name].on_mosaics and not np.isfinite(values).any():
            yield (
                f"{name} needs 4 images of different classes of which the network is surer than "
                f"{scores.study.protocol.sure:g} (--sure)"
            )
