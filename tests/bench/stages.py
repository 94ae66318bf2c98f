"""The section that measures each stage of a run."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import thread_time
from typing import Any

import torch

from camcli import load
from camcli.images.find import find
from camcli.images.source import Source
from camcli.render.names import FORMATS
from camcli.runs import pipeline
from camcli.runs.files import prepare, write_lines
from camcli.runs.job import Job
from camcli.runs.manifest import MANIFEST, Adder, manifest
from camcli.runs.names import check_inputs, unique_stems
from camcli.runs.options import InputOptions
from camcli.runs.pipeline import run
from camcli.runs.rows import Rows
from camcli.runs.save import write_results
from tests.bench.clock import Measurement
from tests.bench.workload import Workload, make_photos, weights_of


def stages(work: Workload) -> Iterator[Measurement]:
    """Measure the processor time of each stage per image, in one thread, and the sizes of files."""
    threads, count = torch.get_num_threads(), min(64, work.images)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        photos = make_photos(folder / "in", work, count)
        sources = [Source(photo, Path(photo.name)) for photo in photos]
        for name in work.of("mini", "resnet50"):
            model = load(name, weights_of(name), device=work.device)
            output = folder / name
            inputs = InputOptions(batch_size=work.batch)
            job = Job(sources, model, ["gradcam"], ["pred"], output, inputs=inputs)
            taken = _processor_time(job)
            for what, seconds in taken.items():
                cost = 1e3 * seconds / count, seconds / taken["explain"]
                yield Measurement("stages", f"{name}, {count} photos", what, *cost, "", "ms/image")
        sizes = {
            "read": _bytes_per_image(photos, count),
            **{
                f"overlay, {one}": _bytes_per_image(output.glob(f"*.{one}"), count)
                for one in FORMATS
            },
            "map": _bytes_per_image(output.glob("*.npy"), count),
            "manifest": _bytes_per_image([output / MANIFEST], count),
        }
        for what, size in sizes.items():
            cost = size / 1000, size / sizes["read"]
            yield Measurement("stages", "bytes", what, *cost, "", "kB/image")
    torch.set_num_threads(threads)


def _bytes_per_image(files: Iterable[Path], count: int) -> float:
    return sum(file.stat().st_size for file in files) / count


def _processor_time(job: Job) -> dict[str, float]:
    """Return the processor seconds of this thread for each stage of a job, run in sequence."""
    prepare(job.output)
    row = next(iter(run(replace(job, sources=job.sources[:1]))))[0]  # warms up
    taken: dict[str, float] = {}

    def timed(what: str, stage: Callable[[], Iterable[Any]]) -> list[Any]:
        began = thread_time()
        made = list(stage())
        taken[what] = thread_time() - began
        return made

    folder = str(job.sources[0].path.parent)
    find([folder])
    timed("list", lambda: [check_inputs(job.output, unique_stems(find([folder])), job.results)])
    for _ in range(2):  # the second time in memory that was freed, as in the middle of a run
        loaded = timed("read", lambda: map(partial(pipeline.load_image, job), job.sources))
    explained = timed("explain", lambda: pipeline._explained(job, loaded))
    for picture_format in FORMATS:
        job_of = replace(job, picture_format=picture_format)
        timed(
            f"write, {picture_format}",
            lambda job=job_of: map(partial(write_results, job), explained),
        )
    rows = Rows()

    def record(add: Adder) -> Iterator[None]:
        for source in job.sources:
            yield add([row])
            rows.add(row | {"image": source.image})
        yield write_lines(job.output / MANIFEST, rows.lines())

    with manifest(job.output / MANIFEST, job.settings, rows.by_image, lambda: None) as add:
        timed("manifest", lambda: record(add))
    return taken
