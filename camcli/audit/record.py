"""The audit of a folder as a record of plain values, for JSON, the table and the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

import numpy as np

from camcli.audit.candidates import Candidate, Test, find_candidates
from camcli.audit.classes import EXAMPLES, Record, as_rows, class_record, confusions, estimate
from camcli.audit.groups import Groups, find_groups
from camcli.audit.places import AREAS, Mask
from camcli.audit.samples import Numbers, Samples
from camcli.images.geometry import Floats
from camcli.runs.grids import SIDE
from camcli.runs.manifest import Row

RunTests = Callable[[Candidate], Sequence[Test]]
"""Runs the network on changed images, and returns the tests of a candidate."""
TESTED = 10
"""The most candidates that the network is run for."""


def audit_record(
    samples: Samples, run: Row, run_tests: RunTests | None = None, seed: int = 0
) -> Record:
    """Return the record of an audit, the classes of lowest accuracy first. Raises CamcliError.

    `run` is the record of the run that wrote the folder; it is empty if there is none.
    With `run_tests`, the suspects are the candidates that a test confirms. Otherwise all candidates
    are suspects that were not tested.
    """
    every = np.arange(len(samples))
    groups = [find_groups(samples, numbers, seed) for numbers in samples.by_class]
    found = find_candidates(samples, groups, seed)
    records = [_candidate_record(samples, *_tested(one, run_tests)) for one in found[:TESTED]]
    method, target, layer = samples.key
    return {
        "folder": samples.folder.name or str(samples.folder),
        **{name: run.get(name) for name in ("model", "weights", "only")},
        **{"method": method, "target": target, "layer": layer or None},
        "grid": SIDE,
        "images": len(samples),
        "left_out": dict(samples.left_out),
        "notes": _notes(samples, run, groups, found),
        "areas": AREAS,
        "overall": class_record(samples, every, None, seed) | {"groups": None},
        "classes": sorted(
            (
                class_record(samples, numbers, label, seed)
                | {"groups": _groups_record(samples, groups[label], seed)}
                for label, numbers in enumerate(samples.by_class)
            ),
            key=lambda one: one["accuracy"]["mean"],
        ),
        "confusions": confusions(samples),
        "suspects": [one for one in records if one["confirmed"] is not False],
        "candidates": [one for one in records if one["confirmed"] is False],
    }


def _tested(candidate: Candidate, run_tests: RunTests | None) -> tuple[Candidate, bool | None]:
    """Return a candidate with the tests of the network, and whether one of them confirms it."""
    if run_tests is None:
        return candidate, None
    tests = tuple(run_tests(candidate))
    confirmed = any(test.passed for test in tests)
    return replace(candidate, tests=(*candidate.tests, *tests)), confirmed


def _notes(
    samples: Samples, run: Row, groups: Sequence[Groups | None], found: Sequence[Candidate]
) -> list[str]:
    only = ", ".join(run.get("only") or ())
    few = sum(one is None for one in groups)
    drawn = sum(
        one is not None and sum(map(len, one.members)) < samples.heated[numbers].sum()
        for one, numbers in zip(groups, samples.by_class, strict=True)
    )
    notes = {
        "no run.json: is the run unfinished?": not run,
        f"only images with {only} were explained: accuracy is that of these": bool(only),
        f"{few} of {len(groups)} classes have too few maps for groups": few,
        f"groups of {drawn} classes are of maps drawn at random": drawn,
        f"{len(found) - TESTED} more candidates are left out": len(found) > TESTED,
        "one class: no other class as control for heat at a fixed place": len(groups) == 1,
    }
    return [note for note, applies in notes.items() if applies]


def _groups_record(samples: Samples, groups: Groups | None, seed: int) -> Record | None:
    if groups is None:
        return None
    total = sum(map(len, groups.members))
    return {
        "maps": total,
        "count": len(groups.members),
        "eigenvalues": [round(value, 5) for value in groups.eigenvalues],
        "stability": groups.stability,
        "groups": [
            {
                "group": group,
                "images": len(numbers),
                "share": len(numbers) / total,
                "separation": separation if len(groups.members) > 1 else None,
                "accuracy": estimate(samples.correct[numbers], seed),
                "map": as_rows(samples.mean_heat(numbers)),
                "examples": _typical(samples, numbers),
            }
            for group, (numbers, separation) in enumerate(
                zip(groups.members, groups.separations, strict=True), 1
            )
        ],
    }


def _candidate_record(samples: Samples, candidate: Candidate, confirmed: bool | None) -> Record:
    region = candidate.region
    return {
        "class": samples.classes[candidate.label],
        "group": candidate.group,
        "images": len(candidate.numbers),
        "place": candidate.place,
        "region": None if region is None else region.astype(int).tolist(),
        "map": as_rows(samples.mean_heat(candidate.numbers)),
        "reasons": [test.name for test in candidate.tests if test.passed],
        "confirmed": confirmed,
        "tests": [asdict(test) for test in candidate.tests],
        "examples": _typical(samples, candidate.numbers, region),
    }


def _typical(samples: Samples, numbers: Numbers, region: Mask | None = None) -> list[str]:
    """Return the images with the most heat in a region, or whose heat is closest to the mean."""
    heated = np.sort(numbers[samples.heated[numbers]])
    if not heated.size:
        return []
    heat = samples.heat[heated].astype(np.float64)
    order: Floats = np.abs(heat - heat.mean(0)).sum((1, 2))
    if region is not None:
        order = -heat[:, region].sum(1)
    return samples.images(heated[np.argsort(order, kind="stable")[:EXAMPLES]])
