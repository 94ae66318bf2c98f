"""The executor for several machines: Ray Data divides the list of images among actors.

An actor runs `pipeline.run_locally` on its part of the list, and writes the same bytes. This module
decides which actor explains which part, and collects the rows. Actors write their files themselves,
so that no picture is sent between machines. `cluster` connects to Ray.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import warnings
import zlib
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

import torch

from camcli.errors import CamcliError, CamcliWarning, ClusterError
from camcli.images.formats import silence_libtiff
from camcli.images.listing import Listing
from camcli.images.places import has_stdin
from camcli.images.source import Source
from camcli.models.load import pick_device
from camcli.runs import resume
from camcli.runs.cluster import ActorPool, import_ray, import_ray_data, ray_errors, size_pool
from camcli.runs.job import Job, record_of
from camcli.runs.manifest import Row
from camcli.runs.names import name_of
from camcli.runs.pipeline import Executor, RowSink, run_locally
from camcli.runs.rows import Rows
from camcli.speed import keep_freed_memory

UNIT_BATCHES = 16
"""The most batches in a unit, which an actor explains at a time. A lost unit is repeated."""
ROUNDS = 4
"""The least number of units per actor, so that all actors finish at about the same time."""
QUEUED = 2
"""Units assigned to each actor at a time, including the one that it explains."""
REPORT_BATCHES = 4
"""The batches after which an actor reports its rows. What it did since is repeated after a stop."""

Known: TypeAlias = Callable[[str], list[Row]]
"""Returns the rows of an image that earlier runs made."""
ActorReport: TypeAlias = tuple[int, str, Any]
"""An image's place in the list, and its `rows`, an `error` that stops the run, or a `warning`."""


def ray_executor(
    job: Job, device: str = "auto", actors: int | None = None, workers: int | None = None
) -> tuple[Job, Executor]:
    """Return the job for the connected cluster, and the executor for it.

    The job's model is on the CPU, and each actor moves it to `device`. `auto` gives each actor a
    GPU if the cluster has GPUs. Raises CamcliError.
    """
    check_divisible(job)
    nodes = [node["Resources"] for node in import_ray().nodes() if node["Alive"]]
    pool = size_pool([(int(n.get("CPU", 0)), int(n.get("GPU", 0))) for n in nodes], device, actors)
    about = {"name": "ray", "version": import_ray().__version__, "actors": pool.actors}
    job = replace(
        job,
        executor={**about, "threads": pool.threads, "device": pool.device},
        inputs=replace(
            job.inputs,
            workers=workers or max(2, pool.cpus),
            memory=job.inputs.memory or memory_per_actor(nodes, pool.actors),
        ),
    )
    return job, partial(run_on_actors, pool=pool)


def check_divisible(job: Job) -> None:
    """Raise CamcliError for a job that actors cannot share."""
    if has_stdin(job.sources):
        raise CamcliError("standard input cannot be read by --executor ray: expected files")
    if job.save_to == "tar":
        raise CamcliError("--save-to tar is for one process: use --shard, not --executor ray")


def memory_per_actor(nodes: Sequence[Mapping[str, float]], actors: int) -> int | None:
    """Return the limit for an actor's decoded images: the actors of a node share a quarter of it.

    `nodes` are the resources of the nodes, which have the same number of actors. Returns None where
    the memory of a node is not known.
    """
    least = min(node.get("memory", 0) for node in nodes)
    return int(least) // 4 // -(-actors // len(nodes)) or None


def run_on_actors(
    job: Job, earlier: Rows, on_late: RowSink, *, pool: ActorPool
) -> Generator[list[Row], None, None]:
    """Execute a job on a cluster's actors.

    The unit of a lost actor is explained again by another actor, or by the same one after a
    restart. Each unit's rows are yielded once. Raises ClusterError where the cluster is lost.
    """
    known = earlier.of_image if job.options.skip_existing else lambda name: []
    done = 0
    try:
        with contextlib.closing(_rows_in_order(job, known, pool)) as results:
            for at, rows in results:
                if at != done:
                    raise ClusterError(f"Ray gave image {at + 1} where {done + 1} was next")
                if done == 0:
                    outdated = {row["image"] for row in earlier.outdated()}
                    sources = _sources_of(job, outdated)
                    resume.clear(job.output, earlier, partial(_writes_file, job, sources))
                done += 1
                yield rows
        if done < len(job.sources):
            raise ClusterError(f"Ray gave {done} of {len(job.sources)} images")
    finally:
        if isinstance(job.output, Path):  # actors may have been killed while they wrote
            resume.remove_unfinished(job.output, {job.owner})


class Explainer:
    """An actor: keeps the model, and explains one unit of the list after the other."""

    def __init__(self, job: Any, pool: ActorPool, folder: str, packages: Mapping[str, str]) -> None:
        torch.set_num_threads(pool.threads)
        keep_freed_memory()
        silence_libtiff()
        with contextlib.suppress(OSError):  # the folder may not exist on this machine
            os.chdir(folder)
        self.job: Job = import_ray().get(job)
        self.job.model.module.to(pick_device(pool.device))
        own = packages_of(self.job).items()
        self.others = [f"{name} {found}" for name, found in own if found != packages.get(name)]

    def __call__(self, batch: dict[str, Any]) -> Iterator[dict[str, list[bytes]]]:
        """Explain the unit in a batch, and yield its reports, a fixed number of batches at a time.

        The number is fixed so that a unit that is repeated yields the same reports, of which Ray
        drops those that it has already.
        """
        unit = zlib.decompress(batch["unit"][0])
        at, sources, earlier = pickle.loads(unit)  # noqa: S301 - made by _units
        reports: list[ActorReport] = []
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", CamcliWarning)
            if self.others:
                line = f"actors have {', '.join(self.others)}, and run.json names the command's own"
                warnings.warn(line, CamcliWarning, stacklevel=2)
            try:
                images = run_locally(
                    self.job.with_sources(sources), Rows(earlier), lambda rows: None
                )
                for number, rows in enumerate(images, 1):
                    reports.append((at + number - 1, "rows", rows))
                    if number % (REPORT_BATCHES * self.job.inputs.batch_size) == 0:
                        yield _packed(reports)
                        reports = []
            except CamcliError as error:
                reports.append((at, "error", error))
        lines = dict.fromkeys(str(warning.message) for warning in caught)
        yield _packed([*reports, *((at, "warning", line) for line in lines)])


def packages_of(job: Job) -> dict[str, str]:
    """Return the versions of the packages here that decide the bytes written, and the encoder."""
    record = record_of(job)
    versions = {name: found for name, found in record["versions"].items() if name != "python"}
    return versions | {"encoder": record["encoder"]}


def _packed(reports: Sequence[ActorReport]) -> dict[str, list[bytes]]:
    """Return reports as one row of a table, which Ray Data cannot split."""
    return {"reports": [pickle.dumps(reports)]}


def _rows_in_order(
    job: Job, known: Known, pool: ActorPool
) -> Generator[tuple[int, list[Row]], None, None]:
    """Yield each image's place in the list and its rows, in order."""
    units = [*_units(job, known, pool)]
    bare = replace(job, sources=(), options=replace(job.options, overwrite=False))
    with contextlib.closing(_reports(bare, units, pool)) as reports:
        for at, kind, what in reports:
            if kind == "error":
                raise what
            if kind == "warning":
                warnings.warn(what, CamcliWarning, stacklevel=2)
            else:
                yield at, what


def _reports(job: Job, units: Sequence[Any], pool: ActorPool) -> Generator[ActorReport, None, None]:
    """Run the units on actors, and yield their reports in order."""
    if not units:
        return
    ray, data = import_ray(), import_ray_data()
    context = data.DataContext.get_current().copy()
    context.execution_options.preserve_order = True
    context.target_max_block_size = 1  # send each row at once
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    strategy = data.ActorPoolStrategy(
        size=min(pool.actors, len(units)), max_tasks_in_flight_per_actor=QUEUED
    )
    with context.current(context), ray_errors(ray):
        explained = data.from_arrow(units).map_batches(
            Explainer,
            fn_constructor_args=(ray.put(job), pool, os.getcwd(), packages_of(job)),
            batch_size=1,
            compute=strategy,
            num_cpus=pool.cpus,
            num_gpus=1 if pool.device == "cuda" else 0,
        )
        for row in explained.iter_rows():
            yield from pickle.loads(row["reports"])  # noqa: S301 - made by _packed


def _units(job: Job, known: Known, pool: ActorPool) -> Iterator[Any]:
    """Yield the list in units of whole batches, each an Arrow table of one row.

    A unit holds its place in the list, its sources and the rows of earlier runs.
    """
    table, batch_size = import_module("pyarrow").table, job.inputs.batch_size
    batches = -(-len(job.sources) // batch_size)
    size = batch_size * max(1, min(UNIT_BATCHES, batches // (ROUNDS * pool.actors)))
    for at in range(0, len(job.sources), size):
        sources = job.sources[at : at + size]
        earlier = [row for source in sources for row in known(source.image)]
        unit = pickle.dumps((at, Listing.of(sources), earlier))
        yield table({"unit": [zlib.compress(unit, 1)]})  # a fifth, and all units are in memory


def _sources_of(job: Job, images: Collection[str]) -> dict[str, Source]:
    """Return the sources of some images by their names."""
    found = job.sources if images else ()
    return {source.image: source for source in found if source.image in images}


def _writes_file(job: Job, sources: dict[str, Source], row: Row, name: str) -> bool:
    """Return whether an earlier row's file is one that this job writes."""
    source = sources.get(row["image"])
    return source is not None and any(
        name_of(source, wanted, output, job.picture_format, job.naming) == name
        for wanted in job.possible_results
        for output in job.saves
    )
