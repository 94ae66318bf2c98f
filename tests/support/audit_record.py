"""A record of an audit that is made up, for an output folder that exists."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator

from camcli.report.audit_page import audit_page
from camcli.runs import resume
from camcli.runs.manifest import Row
from tests.support.report import HOSTILE_CLASS, make_output_folder

SIDE = 20
AUDITED_CLASSES = (
    "n01440764 tench, Tinca tinca",
    HOSTILE_CLASS,
    *("class 10", "class 9", "cat", "dog", "ox"),
)


def fake_rows(folder: Path, classes: Sequence[str], method: str = "gradcam") -> dict[str, Row]:
    """Return the rows of a folder's maps by image name, with true classes that are made up.

    Every third image is wrong.
    """
    rows = [
        row
        for row in resume.parsed(resume.lines(folder))
        if row["method"] == method and row.get("map")
    ]
    return {
        row["image"]: row
        | {
            "true_name": classes[place % len(classes)],
            "predicted_name": classes[(place + (place % 3 == 2)) % len(classes)],
            "confidence": 0.3 + 0.6 * (place % 7) / 7,
            "correct": place % 3 != 2,
            "top5": True,
        }
        for place, row in enumerate(rows)
    }


def fake_record(rows: dict[str, Row], classes: Sequence[str], suspects: int = 2) -> dict[str, Any]:
    """Return a record with the examples of these rows: the first class looks at a corner."""
    generator = np.random.default_rng(0)
    names = [*rows]
    made = [_class(generator, name, names, place) for place, name in enumerate(classes)]
    found = [_suspect(generator, classes[i % len(classes)], names, i) for i in range(suspects)]
    return {
        "folder": "heat",
        **{"model": "squeezenet1_0", "weights": "imagenet.pth", "method": "gradcam"},
        **{"target": "pred", "layer": "features", "grid": SIDE, "images": 40 * len(classes)},
        "left_out": {"without a true class": 3},
        "notes": ["2 of 9 classes have too few maps for groups"],
        "areas": {"border": 0.36, "corners": 0.25, "centre": 0.25},
        "overall": _class(generator, None, names, 1) | {"groups": None},
        "classes": made,
        "confusions": [
            {
                **{"true": one, "predicted": other, "images": 9, "share": 0.225},
                **{"confidence": 0.71, "examples": names[place % 5 :: 5][:6]},
            }
            for place, (one, other) in enumerate(pairwise(classes))
        ][:100],
        "suspects": found,
        "candidates": [_suspect(generator, classes[-1], names, 7) | {"confirmed": False}],
    }


def heat(generator: Generator, x: float, y: float, width: float) -> list[list[float]]:
    """Return a heat around a place, in cells, that sums to 1."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    spot = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * width**2))
    noisy = spot + 0.1 + 0.05 * generator.random((SIDE, SIDE))
    grid: list[list[float]] = (noisy / noisy.sum()).tolist()
    return grid


def estimate(generator: Generator, mean: float, images: int = 40) -> dict[str, Any]:
    half = 0.02 + 0.1 * generator.random()
    return {"mean": mean, "low": mean - half, "high": mean + half, "images": images}


def _class(generator: Generator, name: str | None, names: list[str], place: int) -> dict[str, Any]:
    corner = place == 0
    right = heat(generator, 17, 2, 1.5) if corner else heat(generator, 10, 9, 4)
    wrong = heat(generator, *(4 + 12 * generator.random(2)), 3)
    shares = {"border": 0.6 if corner else 0.25, "corners": 0.5 if corner else 0.15}
    shares |= {"centre": 0.1 if corner else 0.4, "entropy": 0.7 if corner else 0.93}
    return {
        **{"class": name, "indices": [place], "images": 40, "correct": 30},
        "accuracy": estimate(generator, generator.random()),
        "top5": estimate(generator, 0.95),
        "confidence_right": estimate(generator, 0.81),
        "confidence_wrong": None if place % 5 == 4 else estimate(generator, 0.55),
        "shares": {key: estimate(generator, mean) for key, mean in shares.items()},
        "maps": {"right": right, "wrong": None if place % 5 == 4 else wrong},
        "groups": None if place % 4 == 3 else _groups(generator, names, place),
    }


def _groups(generator: Generator, names: list[str], place: int) -> dict[str, Any]:
    count = 2 + place % 3
    return {
        **{"maps": 40, "count": count, "stability": 0.93},
        "eigenvalues": [0.0, 0.08, 0.41, 0.52, 0.6],
        "groups": [
            {
                **{"group": number, "images": 40 // count, "share": 1 / count},
                **{"separation": 2.5 / number, "accuracy": estimate(generator, 0.8)},
                "map": heat(generator, *(20 * generator.random(2)), 2.5),
                "examples": names[(place + number) % 7 :: 7][:6],
            }
            for number in range(1, count + 1)
        ],
    }


def _suspect(generator: Generator, name: str, names: list[str], number: int) -> dict[str, Any]:
    region = np.zeros((SIDE, SIDE), int)
    region[0:5, 15:20] = 1
    region[5, 17:20] = 1
    outside = number % 2 == 1
    tests = [
        ("fixed place", "71% of the images have their hottest point here, of other classes 6%",
         0.71, 0.06, 0.53, 0.76),
        ("occlusion", "accuracy 96% becomes 41% with the region occluded, 93% with as much "
         "elsewhere", 0.55, 0.03, 0.42, 0.61),
        ("transplant", f"3% of other images are taken for {name}, 8% with the region of its "
         "images, 4% with as much elsewhere of them", 0.05, 0.01, -0.03, 0.1),
    ]  # fmt: skip
    return {
        **{"class": name, "group": None if outside else 1, "images": 24},
        "place": "outside the object" if outside else "top right corner",
        "region": None if outside else region.tolist(),
        "map": heat(generator, 17, 2, 1.5),
        "reasons": ["fixed place", "occlusion"],
        "confirmed": None if outside else True,
        "tests": [
            {
                **{"name": test, "says": says, "value": value, "control": control},
                **{"low": low, "high": high, "images": 24, "passed": low > 0},
            }
            for test, says, value, control, low, high in tests
        ],
        "examples": names[number::3][:6],
    }


def write_audit_page(top: Path, classes: Sequence[str] = AUDITED_CLASSES) -> str:
    """Write the page of an audit of these classes, and return its address."""
    folder = make_output_folder(top)
    rows, file = fake_rows(folder, classes), folder / "audit.html"
    record = fake_record(rows, classes)
    record["classes"][2]["accuracy"] = None
    file.write_bytes(audit_page(record, rows, folder, file, [], 8))
    return file.as_uri()
