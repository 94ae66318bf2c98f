"""The pytest plugin: `cam_snapshot` keeps heatmaps beside a test and fails when they change.

Loaded by every pytest run in an environment that has camcli, so it imports nothing before a test
asks for the fixture.
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
    from camcli.snapshots.compare import Tolerance

FOLDER = "__cam_snapshots__"
"""Beside the test file; it holds an output folder for each test."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("camcli", "heatmap snapshots")
    group.addoption(
        "--cam-snapshot-update",
        action="store_true",
        help="Keep the heatmaps of cam_snapshot as they are now, where they are new or changed.",
    )
    group.addoption(
        "--cam-snapshot-diff",
        metavar="DIR",
        help="Where cam_snapshot puts pictures of what changed, instead of a temporary folder.",
    )


@pytest.fixture
def cam_snapshot(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., None]:
    """Fail if a network looks elsewhere than when its snapshot was taken.

    `cam_snapshot("dog.jpg", model="resnet50", method="gradcam++", target="pred")`: the image is
    looked for beside the test file; `model` is a name, a folder, a `camcli.Model` or any module
    that takes images (N,3,H,W). `method` and `target` may be several. More: `layer`, `weights`,
    `labels`, `fit`, `device`, and the tolerances `rtol`, `atol`, `min_correlation`, `max_shift`.
    """
    calls = itertools.count(1)

    def check(image: str | Path, **options: Any) -> None:
        name = _folder_name(request.node.nodeid)
        call = next(calls)
        place = Path(name, f"call{call}") if call > 1 else Path(name)
        from camcli.errors import CamcliError

        try:
            job, tolerance = _job(request.path.parent / image, **options)
            # Made for each call, since a temporary folder of pytest's may be kept for three runs.
            scratch = tmp_path_factory.mktemp("cam-snapshot")
            failure = _check(request, job(scratch / "new"), tolerance, place, scratch)
        except CamcliError as error:
            failure = str(error)
        if failure:
            pytest.fail(failure, pytrace=False)

    return check


def _folder_name(nodeid: str) -> str:
    """A test's folder: file and test, with a digest where a file name cannot hold them."""
    file, _, test = nodeid.partition("::")
    name = f"{Path(file).stem}.{test.replace('::', '.')}"
    safe = re.sub(r"[^\w.+\[\]-]", "_", name)[:150]
    return safe if safe == name else f"{safe}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _job(
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
    """What a call asks for: the job, but for its folder, and how much may change."""
    from camcli.images.find import Source
    from camcli.runs.job import Job
    from camcli.runs.options import InputOptions
    from camcli.snapshots.compare import Tolerance

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
"""Models loaded by name, for all tests of a run."""


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
    """Why the test fails, in several lines, or nothing; brings the snapshot up to date if asked."""
    from camcli.runs import pipeline
    from camcli.snapshots import tables
    from camcli.snapshots.accept import accept
    from camcli.snapshots.compare import compare
    from camcli.snapshots.pictures import draw

    rows = list(itertools.chain.from_iterable(pipeline.run(job)))
    failed = [row["error"] for row in rows if row["status"] == "error"]
    if failed:
        return str(failed[0])
    made, stored = job.output, request.path.parent / FOLDER / place
    assert isinstance(made, Path)  # of other jobs it may be on a store
    update = request.config.getoption("cam_snapshot_update")
    if not (stored / "manifest.jsonl").exists():
        if not update:
            return f"no snapshot in {_shown(request, stored)}: {_HOW}"
        accept(made, stored)
        return ""
    found = compare(made, stored, tolerance)
    if not any(one.reasons for one in found):
        return ""
    if update:
        accept(made, stored)
        return ""
    chosen = request.config.getoption("cam_snapshot_diff")
    folder = Path(chosen).absolute() / place if chosen else scratch / "diff"
    pictures = draw(found, made, folder).values()
    shown = "".join(f"picture: {picture}\n" for picture in pictures)
    where = _shown(request, stored)
    return f"differs from {where}\n{tables.table(found)}{shown}if this is right, {_HOW}"


_HOW = "run pytest with --cam-snapshot-update and keep what it writes"


def _shown(request: pytest.FixtureRequest, folder: Path) -> str:
    root = request.config.rootpath
    return str(folder.relative_to(root) if folder.is_relative_to(root) else folder)
