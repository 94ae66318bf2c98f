"""Valid records of every schema, and damaged texts of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from hypothesis import strategies as st

from camcli.models.folder import CARD_RECORD
from camcli.report.changes import CHANGE_ROW
from camcli.report.evaluation import METRICS_RECORD
from camcli.runs.outputs import OUTPUTS
from camcli.runs.records import ROW, RUN_RECORD, SHARD_RECORD
from camcli.schema import Record

_RUN = {
    "model": "tiny", "weights": "none", "weights_hash": None, "precision": "float32",
    "layers": ["auto"], "fuse": None, "fit": "preset", "colormap": "auto", "alpha": 0.5,
    "blend": "heat", "scale": "image", "backward": "plain", "format": "png",
    "layout": "flat", "save_to": "files",
    "encoder": "isal 1.9.1",
    "region": [0, 0, 0.5, 1], "batch_size": 2, "device": "cpu", "counts": {"images": 3, "ok": 3},
    "started": "2026-01-01T00:00:00+00:00", "seconds": 1.5, "versions": {"camcli": "1"},
    "executor": {"name": "local"}, "truth": "folder", "class_map": "classes.txt", "only": ["wrong"],
    "accuracy": {"images": 3, "top1": 1, "top5": 2},
    "prompt": {"template": "{}", "texts": ["a dog"]}, "references": {"like:a.jpg": "0123"},
}  # fmt: skip
_CELL = {"images": 3, "mean": 0.5, "low": None, "high": 1, "verdict": None}
EXAMPLES: Mapping[str, tuple[Record, dict[str, Any]]] = {
    "row": (ROW, {
        "image": "a/b.jpg", "method": "gradcam", "target": "pred", "status": "ok",
        "class_index": 3, "class_name": "cat", "score": -1.5, "probability": 0.5, "unsure": False,
        "predicted_index": 3, "predicted_name": "cat", "confidence": 0.5, "true_index": 2,
        "true_name": "dog", "correct": False, "top5": True, "size": [9, 9],
        "layer": "last", "map": "a/b.npy", "map_shape": [9, 9], "map_min": 0, "map_max": 1.0,
        "top": 1.5,
        "frame": 2, "levels": [0, 4095], "crop": [0, 0, 9, 9], "placement": "centres",
        "cells": [0.5, 0.5, 1, 1],
        "box": [-1, 0, 5, 5], "boxes": [[0, 0, 3, 3]], "error": None, "digest": "ab-cd",
        "answers": [["yes", 0.5]], "words": [["yes", 0.5]], "of a later version": {"a": [1]},
        **{kind.field: f"a/b{kind.ending}" for kind in OUTPUTS.values()},
    }),
    "run": (RUN_RECORD, {**_RUN, "shard": None}),
    "shard": (
        SHARD_RECORD, {**_RUN, "shard": {"number": 1, "count": 1, "images": 3, "names": "abc"}},
    ),
    "metrics": (METRICS_RECORD, {
        "model": "tiny", "images": 3, "target": "pred", "methods": ["gradcam"], "controls": [],
        "metrics": {"deletion": {
            "better": "lower", "source": "a paper", "unit": None, "rows": {"gradcam": _CELL},
        }},
        "curves": {"deletion": {}}, "weights_hash": "sha256:1", "layer": "auto",
    }),
    "change": (CHANGE_ROW, {
        "image": "a/b.jpg", "method": "gradcam", "target": "pred", "layer": None,
        "verdict": "changed", "reasons": ["values"], "difference": 0.5, "relative": None,
        "correlation": 1, "shift": 0, "new": "new/b.npy", "baseline": "old/b.npy",
        "picture": "diff/b.png", "tolerance": {"rtol": 0.01, "atol": 0},
    }),
    "card": (CARD_RECORD, {
        "architecture": "squeezenet1_1",
        "preprocessing": {
            "resize": 64, "crop": [64, 64], "mean": [0, 0, 0.5], "std": [1, 1, 0.5],
            "interpolation": "bilinear",
        },
    }),
}  # fmt: skip
"""The schema of each kind of record, and a record with every one of its fields."""

HOSTILE = (
    *("NaN", "Infinity", "-Infinity", "1e999", "-1e999", "9" * 5000, "-9", "1e308", "0", '""'),
    *("[" * 50_000, "[" * 100 + "]" * 100, '{"a":' * 40 + "1" + "}" * 40, '{"a": 1, "a": 2}'),
    *('"\\ud800"', '"\\u0000"', '"\\udcff"', '"a\\nb"', '"../x"', '"/dev/zero"', '"."', "{", "[]"),
    *("99999999999", "[[]]", "[null]", "[1, 2, 3, 4, 5]", "{}", "true", '"' + "x" * 5000 + '"'),
)
"""Texts of values that are no JSON, or JSON that some reader does not expect."""

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


def names_of(schema: Record, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the path of every field of a schema, and of the records in it."""
    for name, kind in {**schema.required, **schema.optional}.items():
        yield (*prefix, name)
        if isinstance(kind, Record):
            yield from names_of(kind, (*prefix, name))


@st.composite
def damaged(draw: st.DrawFn, name: str) -> str:
    """Draw the text of a valid record in which one field has another value, or is not there."""
    schema, example = EXAMPLES[name]
    record = json.loads(json.dumps(example))
    *path, field = draw(st.sampled_from([*names_of(schema), *((one,) for one in example)]))
    inner = record
    for step in path:
        inner = inner[step]
    if draw(st.integers(0, 9)) == 0:
        inner.pop(field, None)
        return json.dumps(record)
    text = draw(st.sampled_from(HOSTILE) | _VALUES.map(json.dumps))
    inner[field] = "<value>"
    return json.dumps(record).replace('"<value>"', text)
