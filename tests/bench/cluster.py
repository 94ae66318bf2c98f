"""The section that compares the Ray executor with the local one."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from time import perf_counter

from PIL import Image

from camcli import load
from camcli.images.source import Source
from camcli.models.fold_batchnorm import fold_batchnorm
from camcli.runs.job import Job
from camcli.runs.options import InputOptions
from camcli.runs.pipeline import Executor, run
from tests.bench.clock import Measurement, ratio, watched
from tests.bench.workload import Workload, make_photos, weights_of
from tests.support.jobs import changed


def cluster(work: Workload) -> Iterator[Measurement]:
    """Compare the Ray executor with one actor with the local executor: time and memory.

    The time starts after the first unit. The section's own network is fast and has small photos, so
    that the work beside the network has the largest share. Other networks have ordinary photos.
    """
    from camcli.runs.cluster import connected
    from camcli.runs.ray import UNIT_BATCHES, ray_executor

    (name,) = work.of("shufflenet_v2_x0_5")
    make, kind = (make_photos, "photos") if work.models else (_thumbnails, "small photos")
    start = min(UNIT_BATCHES * work.batch, work.many // 2)
    with tempfile.TemporaryDirectory() as made, connected(None):
        folder, few = Path(made), max(2, work.many // 4)
        job = Job(
            sources=[
                Source(file, Path(file.name)) for file in make(folder / "in", work, work.many)
            ],
            model=fold_batchnorm(load(name, weights_of(name))),
            methods=["gradcam"],
            targets=["pred"],
            output=folder / "out",
            inputs=InputOptions(batch_size=work.batch),
        )

        def actor(count: int) -> float:
            given = changed(job, sources=job.sources[:count], overwrite=True)
            with watched(ACTOR) as peak:
                seconds = _seconds_from(*ray_executor(given, work.device, actors=1), start)
            peaks[count] = peak[0]
            return seconds

        seconds, peaks = dict[str, list[float]](local=[], ray=[]), dict[int, int]()
        for _ in range(min(3, work.repeats)):
            seconds["local"].append(_seconds_from(changed(job, overwrite=True), None, start))
            seconds["ray"].append(actor(work.many))
        place = "cluster", f"{name}, {work.many - start} {kind}"
        for name, taken in seconds.items():
            goal = "<= 1.15" if name == "ray" else ""
            yield Measurement(*place, name, median(taken), ratio(taken, seconds["local"]), goal)
        if work.repeats > 1 and peaks[work.many]:
            actor(few)
            for count in (few, work.many):
                goal = "<= 1.05" if count == work.many else ""
                case = f"{name}, {count} {kind}"
                row = peaks[count] / 2**20, peaks[count] / peaks[few]
                yield Measurement("cluster", case, "peak of the actor", *row, goal, "MiB")


ACTOR = "ray::MapWorker"
"""The process name of an actor of Ray Data."""


def _seconds_from(job: Job, executor: Executor | None, start: int) -> float:
    """Return the seconds from image number `start` of a run to its end."""
    began = perf_counter()
    for number, _ in enumerate(run(job, executor), 1):
        if number == start:
            began = perf_counter()
    return perf_counter() - began


def _thumbnails(folder: Path, work: Workload, count: int) -> list[Path]:
    """Write photos of at most 160 pixels a side."""
    files = make_photos(folder, work, count)
    for file in files:
        with Image.open(file) as image:
            image.thumbnail((160, 160))
            image.save(file)
    return files
