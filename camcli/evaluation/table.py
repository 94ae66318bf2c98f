"""The summary as a table for people, as text and as Markdown, with notes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from camcli.evaluation.baselines import BASELINES
from camcli.evaluation.estimates import Estimate
from camcli.evaluation.marks import MARKS, mark_notes
from camcli.evaluation.registry import METRICS
from camcli.evaluation.summary import Summary
from camcli.methods.registry import METHODS


def terminal_table(summary: Summary, width: int | None = None) -> str:
    """Return a line for each metric, with a column for each row of the study, and notes.

    Columns that do not fit into `width` characters follow below the others. Every block then ends
    with the means of the baselines, and their intervals are in the last one.
    """
    parts = [_blocks(_columns(_lines(summary)), width, 3, short=True)]
    for name, matrix in summary.matrices.items():
        parts.append(_blocks(_columns(_matrix(name, matrix)), width, 1))
    return "\n".join([*parts, *_notes(summary)]) + "\n"


def markdown_table(summary: Summary) -> str:
    """Return a line of Markdown for each method and baseline, with a column for each metric."""
    columns = [(METRICS[name], column) for name, column in summary.estimates.items()]
    titles = [f"`{one.name}`{' %' if one.percent else ''} ({one.better})" for one, _ in columns]
    lines = [
        [_title(row), *(_cell(column[row], one.percent) for one, column in columns)]
        for row in summary.scores.study.rows
    ]
    parts = [_piped([["", *titles], *lines])]
    for name, matrix in summary.matrices.items():
        (corner, *names), *entries = _matrix(name, matrix)
        head = [corner, *map(_title, names)]
        parts.append(_piped([head, *([_title(row), *values] for row, *values in entries)]))
    parts.append("".join(f"- {note}\n" for note in [_image_counts(summary), *_notes(summary)]))
    return "\n".join(parts)


def conditions(summary: Summary) -> str:
    """Return one line with the options that decide these metrics, and the kinds of interval."""
    study = summary.scores.study
    metrics = [METRICS[name] for name in study.metrics]
    evidence = {name for metric in metrics for name in metric.needs}
    if any("occluded" in METHODS[name].needs for name in study.methods):
        evidence.add("occlusion_map")
    parts = [f"target {study.target}"]
    if study.target != "pred":
        parts += [f"{metric.name} with target pred" for metric in metrics if metric.place == "grid"]
    parts += [f"boxes {study.truth.boxes}"] if study.truth else []
    parts += [f"min-objects {study.min_objects}"] if study.min_objects > 1 else []
    parts += [f"layer {study.layer}"] if study.layer else []
    parts.append(f"fit {study.inputs.fit}")
    options = study.protocol.deciding(evidence).items()
    parts += [f"{name.replace('_', '-')} {v}" for name, v in options if v is not None]
    of_rows = (one.interval for column in summary.estimates.values() for one in column.values())
    kinds = sorted({kind for kind in of_rows if kind})
    parts += [f"intervals {' and '.join(kinds)}"] if kinds else []
    return f"Measured with {', '.join(parts)}."


def _notes(summary: Summary) -> Iterator[str]:
    verdicts = {one.verdict for column in summary.estimates.values() for one in column.values()}
    yield from mark_notes(verdicts, tuple(BASELINES))
    yield from summary.remarks
    yield conditions(summary)


def _lines(summary: Summary) -> Iterator[list[str]]:
    yield ["metric", "better", "images", *summary.scores.study.rows]
    for name, column in summary.estimates.items():
        metric, of_rows = METRICS[name], list(column.values())
        cells = [_cell(one, metric.percent) for one in of_rows]
        yield [_with_unit(name), metric.better, _counts(of_rows), *cells]


def _matrix(name: str, matrix: Mapping[str, Mapping[str, float | None]]) -> Iterator[list[str]]:
    digits = _digits(METRICS[name].percent)
    yield [f"{_with_unit(name)} against", *matrix]
    for row, others in matrix.items():
        yield [row, *("-" if v is None else f"{v:.{digits}f}" for v in others.values())]


def _with_unit(name: str) -> str:
    return f"{name} %" if METRICS[name].percent else name


def _digits(percent: bool) -> int:
    return 1 if percent else 3


def _counts(column: Sequence[Estimate]) -> str:
    """Return the number of images, as a range if it differs between rows."""
    counts = [one.images for one in column]
    return "-".join(map(str, dict.fromkeys([min(counts), max(counts)])))


def _image_counts(summary: Summary) -> str:
    """Return the number of images of most metrics, and those of the others."""
    counts = {name: _counts(list(column.values())) for name, column in summary.estimates.items()}
    ((usual, _),) = Counter(counts.values()).most_common(1)
    others = [f"; `{name}` {count}" for name, count in counts.items() if count != usual]
    return f"{usual} images{''.join(others)}"


def _cell(one: Estimate, percent: bool) -> str:
    if not one.images:
        return "-"
    mean, low, high = (f"{v:.{_digits(percent)}f}" for v in (one.mean, one.low, one.high))
    shown = f"{mean} [{low}, {high}]" if one.images > 1 else mean
    return shown + MARKS.get(one.verdict or "", " ")


def _title(row: str) -> str:
    return row if row in BASELINES else f"`{row}`"


def _piped(lines: Sequence[Sequence[str]]) -> str:
    ruled = [lines[0], ["---"] * len(lines[0]), *lines[1:]]
    return "".join(f"| {' | '.join(text.strip() for text in line)} |\n" for line in ruled)


def _columns(lines: Iterator[list[str]]) -> list[list[str]]:
    return [[*column] for column in zip(*lines, strict=True)]


def _blocks(columns: list[list[str]], width: int | None, fixed: int, *, short: bool = False) -> str:
    """Align columns, in blocks of at most `width` characters if they are wider.

    The first block begins with the first `fixed` columns, the others with the first one. Each ends
    with the baselines, which with `short` are means without intervals, and have their own block.
    """
    first, methods = columns[:fixed], columns[fixed : -len(BASELINES)]
    baselines = columns[-len(BASELINES) :]
    if width is None or _width(columns) <= width:
        return _align(columns)
    beside = (
        [[cell.partition(" [")[0] for cell in one] for one in baselines] if short else baselines
    )
    blocks = [[*first]]
    for method in methods:
        is_begun = len(blocks[-1]) > (fixed if len(blocks) == 1 else 1)
        if is_begun and _width([*blocks[-1], method, *beside]) > width:
            blocks.append(columns[:1])
        blocks[-1].append(method)
    found = [[*block, *beside] for block in blocks]
    return "\n\n".join(map(_align, [*found, *([[columns[0], *baselines]] if short else [])]))


def _width(columns: Sequence[Sequence[str]]) -> int:
    return sum(max(map(len, column)) + 2 for column in columns) - 2


def _align(columns: Sequence[Sequence[str]]) -> str:
    padded = [[text.ljust(max(map(len, column))) for text in column] for column in columns]
    return "\n".join("  ".join(line).rstrip() for line in zip(*padded, strict=True))
