"""The summary as a table for people, as text and as Markdown, with notes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from camcli.evaluation.baselines import BASELINES
from camcli.evaluation.estimates import Estimate
from camcli.evaluation.registry import METRICS
from camcli.evaluation.summary import Summary
from camcli.methods.registry import METHODS

MARKS = {"fails": "!", "unsure": "~"}


def terminal_table(summary: Summary, width: int | None = None) -> str:
    """Return a line for each metric, with a column for each row of the study, and notes.

    Columns that do not fit into `width` characters follow below the others.
    """
    parts = [_align(_lines(summary), width, 3)]
    for name, matrix in summary.matrices.items():
        parts.append(_align(_matrix(name, matrix), width, 1))
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
    marks = {one.verdict for column in summary.estimates.values() for one in column.values()}
    baselines = " or ".join(BASELINES)
    if "fails" in marks:
        yield f"! not better than a baseline ({baselines})"
    if "unsure" in marks:
        yield "~ better than the baselines on average, but not significantly on these images"
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


def _align(lines: Iterator[list[str]], width: int | None, fixed: int) -> str:
    """Align columns, in blocks of at most `width` characters that repeat the first `fixed` ones."""
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
