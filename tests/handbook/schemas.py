"""The records that camcli writes, as JSON Schemas: `python -m tests.test_docs` writes them.

The schemas of records that camcli also reads follow from the kinds of its own checks. Those of
records that it only writes are here.
"""

from __future__ import annotations

import json
from typing import Any

from camcli.models.folder import CARD_RECORD
from camcli.report.changes import CHANGE_ROW
from camcli.report.evaluation import METRICS_RECORD
from camcli.runs.outputs import OUTPUTS
from camcli.runs.records import ROW, RUN_RECORD, SHARD_RECORD
from camcli.schema import (
    FILE_NAME,
    FLAG,
    NUMBER,
    TEXT,
    WHOLE,
    Kind,
    Record,
    Table,
    choice,
    list_of,
)
from tests.support.files import ROOT

FOLDER = ROOT / "docs" / "schemas"
_TEXTS, _GRID = list_of(TEXT), list_of(list_of(NUMBER))
_COUNTS = Table("an object of counts", values=WHOLE)
_ESTIMATE = Record(
    "a mean and its interval",
    required={"images": WHOLE},
    optional={"mean": NUMBER, "low": NUMBER, "high": NUMBER},
)
_GROUP = Record(
    "images that are explained alike",
    required={"group": WHOLE, "images": WHOLE, "share": NUMBER, "map": _GRID, "examples": _TEXTS},
    optional={"separation": NUMBER, "accuracy": _ESTIMATE},
)
_CLASS = Record(
    "a class",
    required={
        **{"images": WHOLE, "correct": WHOLE, "indices": list_of(WHOLE)},
        "shares": Table("an object of shares", values=_ESTIMATE),
        "maps": Record("mean maps", optional={"right": _GRID, "wrong": _GRID}),
    },
    optional={
        "class": TEXT,
        **dict.fromkeys(("accuracy", "top5", "confidence_right", "confidence_wrong"), _ESTIMATE),
        "groups": Record(
            "groups",
            required={"maps": WHOLE, "count": WHOLE, "groups": list_of(_GROUP)},
            optional={"stability": NUMBER, "eigenvalues": list_of(NUMBER)},
        ),
    },
)
_CONFUSION = Record(
    "a confusion",
    required={
        **{"true": TEXT, "predicted": TEXT, "images": WHOLE, "share": NUMBER},
        **{"confidence": NUMBER, "examples": _TEXTS},
    },
)
_SUSPECT = Record(
    "a suspect",
    required={
        **{"class": TEXT, "images": WHOLE, "place": TEXT, "reasons": _TEXTS, "examples": _TEXTS},
        "tests": list_of(
            Record(
                "a test",
                required={"name": TEXT, "says": TEXT, "images": WHOLE, "passed": FLAG},
                optional=dict.fromkeys(("value", "control", "low", "high"), NUMBER),
            )
        ),
    },
    optional={"group": WHOLE, "region": _GRID, "map": _GRID, "confirmed": FLAG},
)
AUDIT = Record(
    "the record of an audit",
    required={
        **dict.fromkeys(("folder", "method", "target"), TEXT),
        **{"grid": WHOLE, "images": WHOLE, "left_out": _COUNTS, "notes": _TEXTS},
        "areas": Table("an object of shares", values=NUMBER),
        "overall": _CLASS,
        "classes": list_of(_CLASS),
        "confusions": list_of(_CONFUSION),
        **{"suspects": list_of(_SUSPECT), "candidates": list_of(_SUSPECT)},
    },
    optional={"model": TEXT, "weights": TEXT, "layer": TEXT, "only": _TEXTS},
)
_COMPARED_RUN = Record(
    "one of two runs",
    optional={
        **dict.fromkeys(("model", "weights", "weights_hash", "fuse", "fit", "precision"), TEXT),
        **{"device": TEXT, "layers": _TEXTS, "methods": _TEXTS, "targets": _TEXTS},
    },
)
COMPARISON = Record(
    "the record of a comparison",
    required={
        "runs": Table("an object of a and b", values=_COMPARED_RUN),
        **{"images": _COUNTS, "results": _COUNTS, "not_compared": _COUNTS},
        "methods": list_of(Record("a method", required={"method": TEXT, "explained": TEXT})),
        "warnings": _TEXTS,
    },
    optional={
        "classes": _COUNTS,
        "right": Record(
            "who is right",
            required=dict.fromkeys(("both", "a", "b", "neither"), WHOLE),
            optional={"p": NUMBER},
        ),
        "correct": Table("an object of a and b", values=_COUNTS),
    },
)
_SIDE = Record("a result", optional={name: ROW.optional.get(name, TEXT) for name in (
    "predicted_index", "predicted_name", "confidence", "correct", "class_index", "class_name",
    "layer", "map", "status",
)})  # fmt: skip
COMPARED_ROW = Record(
    "a row of a comparison",
    required={"image": FILE_NAME, "method": TEXT, "target": TEXT, "a": _SIDE, "b": _SIDE},
    optional={
        **{"true_name": TEXT, "same_class": FLAG, "same_explained": FLAG, "note": TEXT},
        "right": choice(("both", "a", "b", "neither")),
        **{"correlation": NUMBER, "shift": NUMBER},
    },
)
NETWORK = Record(
    "a network",
    required={"name": TEXT, "family": TEXT, "methods": _TEXTS, "cached": _TEXTS},
    optional={
        **{"task": TEXT, "layer": TEXT, "map": list_of(WHOLE), "parameters": WHOLE},
        "input": Kind("a number, or two", json={"anyOf": [{"type": "integer"}, {"type": "array"}]}),
    },
)
LAYER = Record(
    "a layer", required={"path": TEXT, "type": TEXT, "map": list_of(WHOLE), "auto": FLAG}
)
EPOCH = Record("an epoch", required={"epoch": WHOLE, "size": WHOLE, "val_accuracy": NUMBER})
SCHEMAS: dict[str, tuple[str, Record]] = {
    "manifest-row": (
        "a row of manifest.jsonl, and a line of camcli explain --json",
        Record(
            ROW.expected,
            required=ROW.required,
            optional={**ROW.optional, **{kind.field: FILE_NAME for kind in OUTPUTS.values()}},
        ),
    ),
    "run": ("run.json", RUN_RECORD),
    "shard": ("the run.json of a shard", SHARD_RECORD),
    "metrics": ("metrics.json, and camcli evaluate --json", METRICS_RECORD),
    "check-row": ("a line of camcli check --json", CHANGE_ROW),
    "compare": ("compare.json", COMPARISON),
    "compare-row": ("a row of compare.jsonl, and a line of camcli compare --json", COMPARED_ROW),
    "audit": ("camcli audit --json", AUDIT),
    "model": ("the model.json of camcli train", CARD_RECORD),
    "epoch": ("a row of the metrics.jsonl of camcli train", EPOCH),
    "network": ("a line of camcli models --json", NETWORK),
    "layer": ("a line of camcli layers --json", LAYER),
}
"""The name of each schema, what it describes, and its record."""


def json_schema(name: str) -> dict[str, Any]:
    """Return a JSON Schema with its head."""
    title, record = SCHEMAS[name]
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title}
    return {**head, **record.json_schema}


def text(name: str) -> str:
    """Return the content of the file of a schema."""
    return json.dumps(json_schema(name), indent=1) + "\n"


def table() -> str:
    """Return the table of schemas for docs/formats.md."""
    rows = (f"| [{name}](schemas/{name}.json) | {title} |" for name, (title, _) in SCHEMAS.items())
    return "\n".join(["| schema | of |", "|---|---|", *rows, ""])


def write() -> None:
    """Write the files."""
    FOLDER.mkdir(exist_ok=True)
    for name in SCHEMAS:
        (FOLDER / f"{name}.json").write_text(text(name))
