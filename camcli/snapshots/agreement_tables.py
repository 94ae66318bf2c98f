"""The agreement of two networks as lines of text, and a result of both as a JSON row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from camcli.errors import printable
from camcli.runs.manifest import Row
from camcli.snapshots import predictions
from camcli.snapshots.networks import Contrast
from camcli.snapshots.predictions import Label
from camcli.snapshots.tables import aligned

METHOD_HEADER = ("method", "explained", "results", "correlation", "quartiles", "shift")
METHOD_SIDES = "<<>>>>"
_HEADER = ("image", "method", "target", "A", "B", "right", "correlation", "shift", "note")
_SIDES = "<<<<<<>><"
_RIGHT = {"both": "both", "a": "only A", "b": "only B", "neither": "neither", None: "-"}


def json_row(one: Contrast) -> dict[str, Any]:
    """Return a result as a JSON object. All rows have the same fields in the same order."""
    row = one.row
    return {
        **{name: row[name] for name in ("image", "method", "target")},
        "true_name": true_name(one),
        "a": _json_side(one.a),
        "b": _json_side(one.b),
        "same_class": one.same_class,
        "same_explained": one.same_explained,
        "right": one.right,
        "correlation": one.correlation,
        "shift": one.shift,
        "note": one.note,
    }


def true_name(one: Contrast) -> str | None:
    """Return the name of the true class, as A has it, or else B."""
    names = (side.get("true_name") for side in (one.a, one.b) if side)
    return next(filter(None, names), None)


def _json_side(row: Row | None) -> dict[str, Any] | None:
    if row is None:
        return None
    best, explained = (
        label or Label() for label in (predictions.predicted(row), predictions.explained(row))
    )
    return {
        **{"predicted_index": best.index, "predicted_name": best.name},
        **{"confidence": best.probability, "correct": row.get("correct")},
        **{"class_index": explained.index, "class_name": explained.name},
        **{name: row.get(name) for name in ("layer", "map", "status")},
    }


def run_text(run: dict[str, Any]) -> str:
    """Return the network of a run in a few words."""
    layers = ", ".join(run.get("layers") or ())
    parts = run["model"] or "unknown network", run["weights"], layers and f"layer {layers}"
    return printable(", ".join(filter(None, parts)))


def summary_lines(record: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of a summary: images, classes, who is right, and what was not compared."""
    yield from _count_lines(record["images"], record["results"])
    classes = record["classes"]
    if count := sum(classes.values()):
        yield f"same class predicted: {_share(classes['same'], count)}"
    yield from _accuracy_lines(record)
    if notes := record["not_compared"]:
        listed = ", ".join(f"{note}: {count}" for note, count in notes.items())
        yield f"maps not compared: {sum(notes.values())} ({listed})"


def _count_lines(images: dict[str, int], results: dict[str, int]) -> Iterator[str]:
    yield f"in both: {_counted(results['both'], 'result')} of {_counted(images['both'], 'image')}"
    for name in "ab":
        if results[name]:
            line = f"only in {name.upper()}: {_counted(results[name], 'result')}"
            yield f"{line}, {_counted(images[name], 'image')}" if images[name] else line


def _accuracy_lines(record: dict[str, Any]) -> Iterator[str]:
    for name, found in record["correct"].items():
        if found:
            yield f"{name.upper()} right: {_share(found['right'], found['images'])}"
    if right := record["right"]:
        p = "" if right["p"] is None else f" (sign test p = {right['p']:.2g})"
        yield (
            f"both right: {right['both']}, only A: {right['a']}, only B: {right['b']}{p}, "
            f"neither: {right['neither']}"
        )


def method_cells(record: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return the cells of each method's line."""
    return [
        (
            *(printable(one["method"]), one["explained"], str(one["results"])),
            number(one["correlation"]["median"], 3),
            " to ".join(number(one["correlation"][name], 3) for name in ("low", "high")),
            number(one["shift"], 2),
        )
        for one in record["methods"]
    ]


def method_lines(record: dict[str, Any]) -> list[str]:
    """Return the table of the methods."""
    return aligned(METHOD_HEADER, method_cells(record), METHOD_SIDES)


def contrast_lines(most: Iterable[Contrast], show: Callable[[str], str]) -> list[str]:
    """Return a header and a line for each result, in which `show` gives the images' names."""
    return aligned(_HEADER, [_cells(one, show) for one in most], _SIDES)


def _cells(one: Contrast, show: Callable[[str], str]) -> Sequence[str]:
    row = one.row
    method = f"{row['method']} {row.get('layer')}" if one.several else row["method"]
    labels = ("-" if label is None else printable(str(label)) for label in one.predicted)
    numbers = number(one.correlation, 3), number(one.shift, 2)
    names = show(row["image"]), printable(method), printable(row["target"])
    return *names, *labels, right_text(one), *numbers, printable(note_of(one))


def right_text(one: Contrast) -> str:
    """Return which networks are right, in words."""
    return _RIGHT[one.right]


def note_of(one: Contrast) -> str:
    """Return why a result is to be read with care, or an empty text."""
    other = "other class explained" if one.same_explained is False else None
    flat = "a map is flat" if one.rows and not one.note and one.correlation is None else None
    return "; ".join(filter(None, (other, flat, one.note)))


def number(value: float | None, digits: int) -> str:
    """Return a number of a table."""
    return "-" if value is None else f"{value:.{digits}f}"


def _share(count: int, whole: int) -> str:
    return f"{count / whole:.1%}, {count} of {_counted(whole, 'image')}"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
