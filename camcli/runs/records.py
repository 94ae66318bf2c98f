"""The schemas of a run's records: a row of the manifest, run.json, and that of a shard."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from camcli.schema import (
    FILE_NAME,
    FLAG,
    INTEGER,
    NUMBER,
    TEXT,
    WHOLE,
    WORD,
    Record,
    Table,
    choice,
    list_of,
    pair_of,
    whole,
)

LINE_BYTES = 4_000_000
"""The longest line of a manifest."""
STATUSES = ("error", "empty", "ok")
"""The statuses of a result, the worst first."""
_BOX = list_of(INTEGER, 4, 4)
_COUNTS = Table("an object of counts", values=WHOLE)
_MERGED = ("batch_size", "counts", "started", "seconds")
"""The fields of run.json from which those of merged shards follow."""

ROW = Record(
    "a row with image, method, target and status",
    required={"image": FILE_NAME, "method": WORD, "target": WORD, "status": choice(STATUSES)},
    optional={
        "class_index": WHOLE,
        "class_name": TEXT,
        "predicted_index": WHOLE,
        "predicted_name": TEXT,
        "confidence": NUMBER,
        "true_index": WHOLE,
        "true_name": TEXT,
        "correct": FLAG,
        "top5": FLAG,
        "score": NUMBER,
        "probability": NUMBER,
        "unsure": FLAG,
        "layer": TEXT,
        "map_shape": list_of(WHOLE, 2, 3),
        "map_min": NUMBER,
        "map_max": NUMBER,
        "top": NUMBER,
        "size": list_of(WHOLE, 2, 2),
        "frame": whole(1),
        "levels": list_of(NUMBER, 2, 2),
        "crop": list_of(WHOLE, 4, 4),
        "placement": TEXT,
        "cells": list_of(NUMBER, 4, 4),
        "box": _BOX,
        "boxes": list_of(_BOX),
        "error": TEXT,
        "digest": TEXT,
        "answers": list_of(pair_of(TEXT, NUMBER)),
        "words": list_of(pair_of(TEXT, NUMBER)),
    },
)
"""A row of a manifest. The files of OUTPUTS are optional fields, too."""

RUN_RECORD = Record(
    "the record of a run",
    optional={
        "model": TEXT,
        "weights": TEXT,
        "weights_hash": TEXT,
        "precision": TEXT,
        "layers": list_of(TEXT),
        "fuse": TEXT,
        "backward": TEXT,
        "fit": TEXT,
        "prompt": Table("an object of texts and their settings"),
        "references": Table("an object of digests by target", values=TEXT),
        "colormap": TEXT,
        "alpha": NUMBER,
        "blend": TEXT,
        "scale": TEXT,
        "format": TEXT,
        "layout": TEXT,
        "save_to": TEXT,
        "encoder": TEXT,
        "region": list_of(NUMBER, 4, 4),
        "batch_size": whole(1),
        "device": TEXT,
        "truth": TEXT,
        "class_map": TEXT,
        "only": list_of(TEXT),
        "accuracy": _COUNTS,
        "counts": _COUNTS,
        "started": TEXT,
        "seconds": NUMBER,
        "versions": Table("an object of versions", values=TEXT),
    },
)
"""The content of run.json."""

SHARD_RECORD = Record(
    "the record of a shard",
    required={
        "shard": Record(
            "a shard with number, count, images and names",
            required={"number": whole(1), "count": whole(1), "images": WHOLE, "names": TEXT},
        ),
        **{name: RUN_RECORD.optional[name] for name in _MERGED},
    },
    optional=RUN_RECORD.optional,
)
"""The run record of a shard."""


def limited_lines(stream: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of a manifest. Of a line above LINE_BYTES, only its beginning is yielded."""
    while line := stream.readline(LINE_BYTES + 1):
        yield line
        while len(line) > LINE_BYTES and not line.endswith(b"\n"):
            line = stream.readline(LINE_BYTES + 1)
