"""The executor for several machines: Ray Data divides the list of images among actors.

This is the only module that imports ray. An actor runs `pipeline.run_locally` on its part of the
list, and writes the same bytes. This module decides which actor explains which part, and collects
the rows. Actors write their files themselves, so that no picture is sent between machines.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import re
import shutil
import signal
import tempfile
import threading
import warnings
from collections import defaultdict
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

import torch

from camcli.errors import CamcliError, CamcliWarning, ClusterError, one_line
from camcli.images.decode import STDIN
from camcli.images.find import Source
from camcli.models.load import pick_device
from camcli.runs import resume
from camcli.runs.job import Job
from camcli.runs.manifest import Row
from camcli.runs.names import name_of
from camcli.runs.pipeline import Executor, Late, run_locally
from camcli.speed import keep_freed_memory

UNIT_BATCHES = 16
"""The most batches in a unit, which an actor explains at a time. A lost unit is repeated."""
ROUNDS = 4
"""The least number of units per actor, so that all actors finish at about the same time."""
QUEUED = 2
"""Units assigned to each actor at a time, including the one that it explains."""
REPORT_BATCHES = 4
"""The batches after which an actor reports its rows. What it did since is repeated after a stop."""

Report: TypeAlias = tuple[int, str, Any]
"""An image's place in the list, and its `rows`, an `error` that stops the run, or a `warning`."""


@dataclass(frozen=True)
class ActorPool:
    """A number of actors, each with `cpus` cores, and with a GPU if `device` is `cuda`."""

    actors: int
    cpus: int
    device: str

    @property
    def threads(self) -> int:
        """The number of torch's threads in each actor."""
        return int(os.environ.get("OMP_NUM_THREADS") or self.cpus)


@contextlib.contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Connect to a cluster inside: at `address`, or in RAY_ADDRESS, or one started on this machine.

    An existing connection is used and kept. Raises CamcliError.
    """
    ray, address = _ray(), address or os.environ.get("RAY_ADDRESS") or "local"
    if address.startswith("ray://"):
        raise CamcliError(
            f"--ray-address '{address}': expected auto or HOST:PORT, on a machine of the cluster "
            f"(ray job submit starts the command there)"
        )
    if ray.is_initialized():
        yield
        return
    with contextlib.ExitStack() as after:
        options = {"address": address, "log_to_driver": False, "logging_level": logging.ERROR}
        if address == "local":
            # No telemetry from a cluster that we start.
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            # A socket's path has at most about 100 characters, and Ray adds 80.
            home = Path("/tmp")  # noqa: S108
            folder = tempfile.mkdtemp(prefix="cam", dir=home if home.is_dir() else None)
            after.callback(shutil.rmtree, folder, ignore_errors=True)
            options |= {"include_dashboard": False, "_temp_dir": folder}
        after.callback(ray.shutdown)
        try:
            with _silenced():
                ray.init(**options)
        except (ConnectionError, ValueError, RuntimeError, OSError) as error:
            what = f"--ray-address '{address}'" if address != "local" else "Ray on this machine"
            raise CamcliError(f"{what}: {one_line(error)}") from None
        yield


def ray_executor(
    job: Job, device: str = "auto", actors: int | None = None, workers: int | None = None
) -> tuple[Job, Executor]:
    """Return the job for the connected cluster, and the executor for it.

    The job's model is on the CPU, and each actor moves it to `device`. `auto` gives each actor a
    GPU if the cluster has GPUs. Raises CamcliError.
    """
    if any(source.path == STDIN for source in job.sources):
        raise CamcliError("standard input cannot be read by --executor ray: expected files")
    nodes = [node["Resources"] for node in _ray().nodes() if node["Alive"]]
    pool = _pool_for([(int(n.get("CPU", 0)), int(n.get("GPU", 0))) for n in nodes], device, actors)
    about = {"name": "ray", "version": _ray().__version__, "actors": pool.actors}
    job = replace(
        job,
        executor={**about, "threads": pool.threads, "device": pool.device},
        inputs=replace(job.inputs, workers=workers or max(2, pool.cpus)),
    )
    return job, partial(run_on_actors, pool=pool)


def _pool_for(nodes: Sequence[tuple[int, int]], device: str, actors: int | None) -> ActorPool:
    """Return the pool for nodes with these numbers of cores and GPUs. Raises CamcliError."""
    cpus, gpus = (sum(of_node) for of_node in zip(*nodes, strict=True))
    device = ("cuda" if gpus else "cpu") if device == "auto" else device
    if device not in ("cpu", "cuda", "mps"):
        raise CamcliError(
            f"--device '{device}': with --executor ray expected auto, cpu, cuda or mps"
        )
    if device == "cuda" and not gpus:
        raise CamcliError("--device cuda: the cluster has no GPU")
    count = actors or (gpus if device == "cuda" else 1 if device == "mps" else max(1, cpus))

    def room(cores: int) -> int:
        return sum(min(c // cores, g if device == "cuda" else c) for c, g in nodes)

    sizes = range(max(1, cpus // count), 0, -1)
    cores = next((size for size in sizes if room(size) >= count), 1)
    if room(cores) < count:
        warnings.warn(
            f"the cluster has room for {room(cores)} of {count} actors now",
            CamcliWarning,
            stacklevel=3,
        )
    return ActorPool(count, cores, device)


def run_on_actors(
    job: Job, earlier: Sequence[Row], late: Late, *, pool: ActorPool
) -> Generator[list[Row], None, None]:
    """Execute a job on a cluster's actors.

    The unit of a lost actor is explained again by another actor, or by the same one after a
    restart. Each unit's rows are yielded once. Raises ClusterError where the cluster is lost.
    """
    known = _by_image(earlier) if job.options.skip_existing else {}
    done = 0
    try:
        with contextlib.closing(_results(job, known, pool)) as results:
            for at, rows in results:
                if at != done:
                    raise ClusterError(f"Ray gave image {at + 1} where {done + 1} was next")
                if done == 0 and job.options.overwrite:
                    resume.clear(job.output, earlier, partial(_is_of, job, _named(job)))
                done += 1
                yield rows
        if done < len(job.sources):
            raise ClusterError(f"Ray gave {done} of {len(job.sources)} images")
    finally:
        if isinstance(job.output, Path):  # actors may have been killed while they wrote
            resume.sweep_files(job.output, {job.owner})
        for source in job.sources[done:]:  # keep the rows of earlier runs for the next run
            if before := known.get(source.name.as_posix()):
                late(before)


class Explainer:
    """An actor: keeps the model, and explains one unit of the list after the other."""

    def __init__(self, job: Any, pool: ActorPool, folder: str) -> None:
        torch.set_num_threads(pool.threads)
        keep_freed_memory()
        with contextlib.suppress(OSError):  # the folder may not exist on this machine
            os.chdir(folder)
        self.job: Job = _ray().get(job)
        self.job.model.module.to(pick_device(pool.device))

    def __call__(self, batch: dict[str, Any]) -> Iterator[dict[str, list[bytes]]]:
        """Explain the unit in a batch, and yield its reports, a fixed number of batches at a time.

        The number is fixed so that a unit that is repeated yields the same reports, of which Ray
        drops those that it has already.
        """
        at, sources, earlier = pickle.loads(batch["unit"][0])  # noqa: S301 - made by _units
        reports: list[Report] = []
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", CamcliWarning)
            try:
                images = run_locally(self.job.of(sources), earlier, lambda rows: None)
                for number, rows in enumerate(images, 1):
                    reports.append((at + number - 1, "rows", rows))
                    if number % (REPORT_BATCHES * self.job.inputs.batch_size) == 0:
                        yield _packed(reports)
                        reports = []
            except CamcliError as error:
                reports.append((at, "error", error))
        lines = dict.fromkeys(str(warning.message) for warning in caught)
        yield _packed([*reports, *((at, "warning", line) for line in lines)])


def _packed(reports: Sequence[Report]) -> dict[str, list[bytes]]:
    """Return reports as one row of a table, which Ray Data cannot split."""
    return {"reports": [pickle.dumps(reports)]}


def _results(
    job: Job, known: dict[str, list[Row]], pool: ActorPool
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


def _reports(job: Job, units: Sequence[Any], pool: ActorPool) -> Generator[Report, None, None]:
    """Run the units on actors, and yield their reports in order."""
    if not units:
        return
    ray, data = _ray(), _ray_data()
    context = data.DataContext.get_current().copy()
    context.execution_options.preserve_order = True
    context.target_max_block_size = 1  # send each row at once
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    strategy = data.ActorPoolStrategy(
        size=min(pool.actors, len(units)), max_tasks_in_flight_per_actor=QUEUED
    )
    with context.current(context), _ray_errors(ray):
        explained = data.from_arrow(units).map_batches(
            Explainer,
            fn_constructor_args=(ray.put(job), pool, os.getcwd()),
            batch_size=1,
            compute=strategy,
            num_cpus=pool.cpus,
            num_gpus=1 if pool.device == "cuda" else 0,
        )
        for row in explained.iter_rows():
            yield from pickle.loads(row["reports"])  # noqa: S301 - made by _packed


def _units(job: Job, known: dict[str, list[Row]], pool: ActorPool) -> Iterator[Any]:
    """Yield the list in units of whole batches, each an Arrow table of one row.

    A unit holds its place in the list, its sources and the rows of earlier runs.
    """
    table, batch_size = import_module("pyarrow").table, job.inputs.batch_size
    batches = -(-len(job.sources) // batch_size)
    size = batch_size * max(1, min(UNIT_BATCHES, batches // (ROUNDS * pool.actors)))
    for at in range(0, len(job.sources), size):
        sources = job.sources[at : at + size]
        earlier = [row for source in sources for row in known.get(source.name.as_posix(), ())]
        yield table({"unit": [pickle.dumps((at, sources, earlier))]})


def _by_image(earlier: Sequence[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = defaultdict(list)
    for row in earlier:
        if row["status"] != "error":
            found[row["image"]].append(row)
    return dict(found)


def _named(job: Job) -> dict[str, Source]:
    return {source.name.as_posix(): source for source in job.sources}


def _is_of(job: Job, named: dict[str, Source], row: Row, name: str) -> bool:
    """Return whether an earlier row's file is one that this job writes."""
    source = named.get(row["image"])
    return source is not None and any(
        name_of(source, wanted, output).as_posix() == name
        for wanted in job.results
        for output in job.saves
    )


@contextlib.contextmanager
def _ray_errors(ray: Any) -> Iterator[None]:
    """Turn Ray's own errors inside into a ClusterError, but not those of an actor's code."""
    try:
        yield
    except ray.exceptions.RayTaskError:
        raise
    except ray.exceptions.RayError as error:
        lines = [line for line in _plain(str(error)).splitlines() if line.strip()]
        raise ClusterError(f"Ray gave up: {lines[0]} {lines[-1].strip()}") from None


def _plain(text: str) -> str:
    """Return a text without the escape sequences of terminal colours."""
    return re.sub(r"\x1b\[[\d;]*m", "", text)


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Redirect standard error while Ray starts inside, and restore the handler of SIGTERM.

    Ray's core warns for every actor about how Ray Data creates it, unless its log level is fatal,
    and it warns about that level as well while it starts.
    """
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    before, main = signal.getsignal(signal.SIGTERM), threading.main_thread()
    stderr = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        if threading.current_thread() is main:
            signal.signal(signal.SIGTERM, before)


def _ray() -> Any:
    try:
        return import_module("ray")
    except ImportError:
        raise CamcliError(
            "--executor ray needs Ray, which is not installed: pip install 'camcli[ray]'"
        ) from None


def _ray_data() -> Any:
    with warnings.catch_warnings():
        # Ray Data warns about its own default settings when it creates them.
        warnings.simplefilter("ignore", DeprecationWarning)
        data = import_module("ray.data")
        data.DataContext.get_current()
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    return data
