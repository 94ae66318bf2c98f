"""The pytest plugin: the fixture `cam_snapshot` stores heatmaps and fails when they change.

Every pytest run in an environment with camcli loads this module. It therefore imports the rest of
camcli only when a test uses the fixture.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from camcli.models.model import Model
    from camcli.runs.job import Job
    from camcli.snapshots.measures import Tolerance

FOLDER = "__cam_snapshots__"
"""A folder beside the test file with one output folder for each test."""

_HINT = "run pytest with --cam-snapshot-update and keep the files that it writes"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("camcli", "heatmap snapshots")
    group.addoption(
        "--cam-snapshot-update",
        action="store_true",
        help="Store the current heatmaps of cam_snapshot if they are new or changed.",
    )
    group.addoption(
        "--cam-snapshot-diff",
        metavar="DIR",
        help="The folder for pictures of changed heatmaps, instead of a temporary one.",
    )


@pytest.fixture
def cam_snapshot(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., None]:
    """Return a function that fails the test if heatmaps differ from their snapshot.

    `cam_snapshot("dog.jpg", model="resnet50", method="gradcam++", target="pred")`: the path of the
    image is relative to the test file. `model` is a name, a folder, a `camcli.Model` or any module
    that accepts images (N,3,H,W). `method` and `target` may be lists. Further options are `layer`,
    `weights`, `labels`, `fit`, `device` and the tolerances `rtol`, `atol`, `min_correlation`
    and `max_shift`.
    """
    calls = itertools.count(1)

    def check(image: str | Path, **options: Any) -> None:
        name = _folder_name(request.node.nodeid)
        call = next(calls)
        place = Path(name, f"call{call}") if call > 1 else Path(name)
        from camcli.errors import CamcliError

        try:
            job, tolerance = _parse_options(request.path.parent / image, **options)
            # A temporary folder is created only here, since pytest keeps each for three runs.
            scratch = tmp_path_factory.mktemp("cam-snapshot")
            failure = _check(request, job(scratch / "new"), tolerance, place, scratch)
        except CamcliError as error:
            failure = str(error)
        if failure:
            pytest.fail(failure, pytrace=False)

    return check


def _folder_name(nodeid: str) -> str:
    file, _, test = nodeid.partition("::")
    name = f"{Path(file).stem}.{test.replace('::', '.')}"
    safe = re.sub(r"[^\w.+\[\]-]", "_", name)[:150]
    return safe if safe == name else f"{safe}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _parse_options(
    image: Path,
    *,
    model: Any,
    method: str | Sequence[str] = "gradcam++",
    target: str | int | Sequence[str | int] = "pred",
    layer: str | None = None,
    weights: str | Path = "DEFAULT",
    labels: str | Path | None = None,
    device: str = "cpu",
    fit: str = "preset",
    **tolerance: float,
) -> tuple[Callable[[Path], Job], Tolerance]:
    """Return a function from output folder to job, and the tolerance."""
    from camcli.images.source import Source
    from camcli.runs.job import Job
    from camcli.runs.options import InputOptions
    from camcli.snapshots.measures import Tolerance

    network = _loaded(model, str(weights), labels, device)
    targets = [target] if isinstance(target, str | int) else target

    def job(output: Path) -> Job:
        return Job(
            sources=[Source(image, Path(image.name))],
            model=network,
            methods=[method] if isinstance(method, str) else method,
            targets=[str(one) for one in targets],
            output=output,
            layers=(layer,),
            saves=("map",),
            inputs=InputOptions(fit, batch_size=1, workers=1),
        )

    return job, Tolerance(**tolerance)


_models: dict[tuple[str, ...], Model] = {}
"""Models loaded by name, shared by all tests of a run."""


def _loaded(model: Any, weights: str, labels: str | Path | None, device: str) -> Model:
    from camcli.models.load import load
    from camcli.models.model import Model

    if isinstance(model, Model):
        return model
    if not isinstance(model, str | Path):
        return Model(model)
    key = (str(model), weights, str(labels), device)
    if key not in _models:
        _models[key] = load(str(model), weights, labels=labels, device=device)
    return _models[key]


def _check(
    request: pytest.FixtureRequest, job: Job, tolerance: Tolerance, place: Path, scratch: Path
) -> str:
    """Run the job and return why the test fails, or an empty text. May update the snapshot."""
    from camcli.runs import pipeline
    from camcli.runs.manifest import MANIFEST
    from camcli.snapshots import tables
    from camcli.snapshots.accept import accept
    from camcli.snapshots.compare import compare
    from camcli.snapshots.pictures import write_picture

    rows = list(itertools.chain.from_iterable(pipeline.run(job)))
    failed = [row["error"] for row in rows if row["status"] == "error"]
    if failed:
        return str(failed[0])
    new, baseline = job.output, request.path.parent / FOLDER / place
    assert isinstance(new, Path)  # not on a store
    exists = (baseline / MANIFEST).exists()
    comparisons = compare(new, baseline, tolerance) if exists else []
    if exists and not any(one.reasons for one in comparisons):
        return ""
    if request.config.getoption("cam_snapshot_update"):
        accept(new, baseline)
        return ""
    root = request.config.rootpath
    name = baseline.relative_to(root) if baseline.is_relative_to(root) else baseline
    if not exists:
        return f"no snapshot in {name}: {_HINT}"
    chosen = request.config.getoption("cam_snapshot_diff")
    folder = Path(chosen).absolute() / place if chosen else scratch / "diff"
    pictures = (write_picture(one, folder) for one in comparisons)
    lines = "".join(f"picture: {picture}\n" for picture in pictures if picture)
    table = tables.difference_table(comparisons)
    return f"differs from {name}\n{table}{lines}if this is right, {_HINT}"
