"""An evaluation for people: a table of means and intervals, and what one should know of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from camcli.evaluation.baselines import CONTROLS
from camcli.evaluation.intervals import Cell
from camcli.evaluation.metrics import METRICS
from camcli.evaluation.run import Scores
from camcli.evaluation.summary import Summary

MARKS = {"fails": "!", "unsure": "~"}


def table(summary: Summary, width: int | None = None) -> str:
    """A line for each metric with a column for each row of the study, and the notes below it.

    Columns that do not fit into `width` characters come below the others.
    """
    parts = [_aligned(_lines(summary), width, 3)]
    if "win" in summary.cells:
        parts.append(_aligned(_wins(summary), width, 1))
    return "\n".join([*parts, *_notes(summary)]) + "\n"


def markdown(summary: Summary) -> str:
    """The same in Markdown, with a line for each method and control."""
    found = [(METRICS[name], column) for name, column in summary.cells.items()]
    titles = [f"`{one.name}`{' %' if one.percent else ''} ({one.better})" for one, _ in found]
    rows = [
        [_titled(row), *(_cell(column[row], one.percent) for one, column in found)]
        for row in summary.scores.study.rows
    ]
    parts = [_piped([["", *titles], *rows])]
    if "win" in summary.cells:
        head, *wins = _wins(summary)
        titles = [head[0], *map(_titled, head[1:])]
        parts.append(_piped([titles, *([_titled(row), *shares] for row, *shares in wins)]))
    parts.append("".join(f"- {note}\n" for note in [_counted(summary), *_notes(summary)]))
    return "\n".join(parts)


def protocol(scores: Scores) -> str:
    """How it was measured, in one line: what the papers leave open and these metrics depend on."""
    study = scores.study
    metrics = [METRICS[name] for name in study.metrics]
    needs = {name for metric in metrics for name in metric.needs} | {*study.methods} & {"occlusion"}
    used = study.protocol.used(needs)
    parts = [f"target {study.target}"]
    if study.target != "pred":
        parts += [f"{metric.name} with target pred" for metric in metrics if metric.on_mosaics]
    parts += [f"boxes {study.truth.boxes}"] if study.truth else []
    parts += [f"objects {study.objects}"] if study.objects > 1 else []
    parts += [f"layer {study.layer}"] if study.layer else []
    parts.append(f"fit {study.fit}")
    parts += [f"{name.replace('_', '-')} {v}" for name, v in used.items() if v is not None]
    return f"Measured with {', '.join(parts)}."


def _notes(summary: Summary) -> Iterator[str]:
    """What the marks mean, what one should know of the values, and how they were measured."""
    marks = {cell.verdict for column in summary.cells.values() for cell in column.values()}
    if "fails" in marks:
        yield f"! no better than a map that knows nothing ({' or '.join(CONTROLS)})"
    if "unsure" in marks:
        yield "~ better than those on average, but these images are too few to be sure"
    yield from summary.remarks
    yield protocol(summary.scores)


def _lines(summary: Summary) -> Iterator[list[str]]:
    yield ["metric", "better", "images", *summary.scores.study.rows]
    for name, column in summary.cells.items():
        metric, cells = METRICS[name], list(column.values())
        title = f"{name} %" if metric.percent else name
        shown = [_cell(cell, metric.percent) for cell in cells]
        yield [title, metric.better, _images(cells), *shown]


def _wins(summary: Summary) -> Iterator[list[str]]:
    yield ["win % against", *summary.wins]
    for row, against in summary.wins.items():
        yield [row, *("-" if share is None else f"{share:.1f}" for share in against.values())]


def _images(cells: Sequence[Cell]) -> str:
    """How many images a metric is of: the range where it is not defined for all rows."""
    counts = [cell.images for cell in cells]
    return "-".join(map(str, dict.fromkeys([min(counts), max(counts)])))


def _counted(summary: Summary) -> str:
    """How many images most metrics are of, and how many the others."""
    counts = {name: _images(list(column.values())) for name, column in summary.cells.items()}
    ((usual, _),) = Counter(counts.values()).most_common(1)
    others = [f"; `{name}` {count}" for name, count in counts.items() if count != usual]
    return f"{usual} images{''.join(others)}"


def _cell(cell: Cell, percent: bool) -> str:
    if not cell.images:
        return "-"
    mean, low, high = (f"{v:.{1 if percent else 3}f}" for v in (cell.mean, cell.low, cell.high))
    shown = f"{mean} [{low}, {high}]" if cell.images > 1 else mean
    return shown + MARKS.get(cell.verdict or "", " ")


def _titled(row: str) -> str:
    return row if row in CONTROLS else f"`{row}`"


def _piped(lines: Sequence[Sequence[str]]) -> str:
    ruled = [lines[0], ["---"] * len(lines[0]), *lines[1:]]
    return "".join(f"| {' | '.join(text.strip() for text in line)} |\n" for line in ruled)


def _aligned(lines: Iterator[list[str]], width: int | None, fixed: int) -> str:
    """Lines of columns, in blocks of a width that each begin with the first `fixed` ones."""
    columns = [
        [text.ljust(max(map(len, column))) for text in column]
        for column in zip(*lines, strict=True)
    ]
    blocks = [columns[:fixed]]
    for column in columns[fixed:]:
        used = sum(len(one[0]) + 2 for one in blocks[-1])
        if width and used + len(column[0]) > width and len(blocks[-1]) > fixed:
            blocks.append(columns[:fixed])
        blocks[-1].append(column)
    return "\n\n".join(
        "\n".join("  ".join(line).rstrip() for line in zip(*block, strict=True)) for block in blocks
    )
