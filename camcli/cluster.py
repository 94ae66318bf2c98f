"""The engine for more than one machine: Ray Data cuts the list, actors explain its parts.

The only module that imports ray. What an actor does with its part is what `camcli.pipeline` does
with a whole list, to the same bytes; here is only who does which part, and how rows come home.
Writing is the actors' own, so that pictures never travel.
"""

from __future__ import annotations

import contextlib
import json
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
from typing import Any

import torch

from camcli import outputs, resume
from camcli.errors import CamcliError, CamcliWarning, ClusterError, one_line
from camcli.images import STDIN, Source
from camcli.job import Job, Row
from camcli.models import pick_device
from camcli.pipeline import Engine, Late, explained_here

UNIT_BATCHES = 16
"""The most batches that an actor is given at once: what is done again when it is lost."""
ROUNDS = 4
"""Of how many units an actor gets in a run, at least, so that all end at about the same time."""
WAITING = 2
"""Units that lie ready for each actor, the one under way among them."""


@dataclass(frozen=True)
class Crew:
    """So many actors, each with `cpus` cores, and a GPU if it computes on `cuda`."""

    actors: int
    cpus: int
    device: str

    @property
    def threads(self) -> int:
        """torch's threads in each actor."""
        return int(os.environ.get("OMP_NUM_THREADS") or self.cpus)


@contextlib.contextmanager
def connected(address: str | None) -> Iterator[None]:
    """A cluster while inside: the one at `address`, or in RAY_ADDRESS, or one on this machine.

    A cluster that is connected to already is used and left as it is. Raises CamcliError.
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
    # Its core warns, for every actor, of how Ray Data itself makes them.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    with contextlib.ExitStack() as after, _kept_signals():
        options = {"address": address, "log_to_driver": False, "logging_level": logging.ERROR}
        if address == "local":
            # Ray's own telemetry, where it is ours to say.
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            # The name of a socket takes a hundred letters at most, and Ray adds 80.
            home = Path("/tmp")  # noqa: S108
            folder = tempfile.mkdtemp(prefix="cam", dir=home if home.is_dir() else None)
            after.callback(shutil.rmtree, folder, ignore_errors=True)
            options |= {"include_dashboard": False, "_temp_dir": folder}
        after.callback(ray.shutdown)
        try:
            ray.init(**options)
        except (ConnectionError, ValueError, RuntimeError, OSError) as error:
            what = f"--ray-address '{address}'" if address != "local" else "Ray on this machine"
            raise CamcliError(f"{what}: {one_line(error)}") from None
        yield


def hired(
    job: Job, device: str = "auto", actors: int | None = None, workers: int | None = None
) -> tuple[Job, Engine]:
    """The job as the connected cluster is to do it, and the engine that does.

    The job's model is on the CPU; actors take it to their own device, `auto` being a GPU each where
    the cluster has any. Raises CamcliError.
    """
    if any(source.path == STDIN for source in job.sources):
        raise CamcliError("standard input cannot be read by --engine ray: expected files")
    nodes = [node["Resources"] for node in _ray().nodes() if node["Alive"]]
    crew = _crew([(int(n.get("CPU", 0)), int(n.get("GPU", 0))) for n in nodes], device, actors)
    about = {"name": "ray", "version": _ray().__version__, "actors": crew.actors}
    job = replace(
        job,
        engine={**about, "threads": crew.threads, "device": crew.device},
        workers=workers or max(2, crew.cpus),
    )
    return job, partial(explained_there, crew=crew)


def _crew(nodes: Sequence[tuple[int, int]], device: str, actors: int | None) -> Crew:
    """For nodes of so many cores and GPUs. Raises CamcliError."""
    cpus, gpus = (sum(of_node) for of_node in zip(*nodes, strict=True))
    device = ("cuda" if gpus else "cpu") if device == "auto" else device
    if device not in ("cpu", "cuda", "mps"):
        raise CamcliError(f"--device '{device}': with --engine ray expected auto, cpu, cuda or mps")
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
    return Crew(count, cores, device)


def explained_there(
    job: Job, earlier: Sequence[Row], late: Late, *, crew: Crew
) -> Generator[list[Row], None, None]:
    """The engine of a cluster's actors: rows image by image, in input order.

    An actor that is lost has its unit done again by another, or by itself when it is back; each
    unit's rows come once. Raises ClusterError where the cluster goes away.
    """
    known = _by_image(earlier) if job.skip_existing else {}
    done = 0
    try:
        with contextlib.closing(_results(job, known, crew)) as results:
            for at, rows in results:
                if at != done:
                    raise ClusterError(f"Ray gave image {at + 1} where {done + 1} was next")
                if done == 0 and job.overwrite:
                    resume.clear(job.output, earlier, partial(_is_of, job, _named(job)))
                done += 1
                yield rows
        if done < len(job.sources):
            raise ClusterError(f"Ray gave {done} of {len(job.sources)} images")
    finally:
        if isinstance(job.output, Path):  # of actors that were killed while they wrote
            resume.sweep_files(job.output, {job.owner})
        for source in job.sources[done:]:  # what earlier runs know, to be held against the files
            if before := known.get(source.name.as_posix()):
                late(before)


class Explainer:
    """An actor: keeps the model, and explains one unit of the list after the other."""

    def __init__(self, job: Any, crew: Crew, folder: str) -> None:
        torch.set_num_threads(crew.threads)
        with contextlib.suppress(OSError):  # other machines need not have it
            os.chdir(folder)
        self.job: Job = _ray().get(job)
        self.job.model.module.to(pick_device(crew.device))

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """A batch holds one unit; gives what there is to say of it, in order."""
        at = int(batch["at"][0])
        sources, earlier = pickle.loads(batch["unit"][0])  # noqa: S301 - our own, see _units
        said: list[tuple[int, str, bytes]] = []
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", CamcliWarning)
            try:
                found = explained_here(self.job.of(sources), earlier, lambda rows: None)
                for number, rows in enumerate(found, at):
                    said.append((number, "rows", json.dumps(rows).encode()))
            except CamcliError as error:
                said.append((at, "error", pickle.dumps(error)))
        told = dict.fromkeys(str(warning.message).encode() for warning in caught)
        said = [*((at, "warning", line) for line in told), *said]
        return dict(zip(("at", "kind", "data"), map(list, zip(*said, strict=True)), strict=True))


def _results(
    job: Job, known: dict[str, list[Row]], crew: Crew
) -> Generator[tuple[int, list[Row]], None, None]:
    """Each image's place in the list and its rows, in order."""
    units = [*_units(job, known, crew)]
    bare = replace(job, sources=(), overwrite=False)
    with contextlib.closing(_said(bare, units, crew)) as items:
        for item in items:
            if item["kind"] == "error":
                raise pickle.loads(item["data"])  # noqa: S301 - an actor's of ours
            if item["kind"] == "warning":
                warnings.warn(item["data"].decode(), CamcliWarning, stacklevel=2)
            else:
                yield int(item["at"]), json.loads(item["data"])


def _said(job: Job, units: Sequence[Any], crew: Crew) -> Generator[dict[str, Any], None, None]:
    """What actors have to say of the units, in order."""
    if not units:
        return
    ray, data = _ray(), _ray_data()
    context = data.DataContext.get_current().copy()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    pool = data.ActorPoolStrategy(
        size=min(crew.actors, len(units)), max_tasks_in_flight_per_actor=WAITING
    )
    with context.current(context), _telling(ray):
        explained = data.from_arrow(units).map_batches(
            Explainer,
            fn_constructor_args=(ray.put(job), crew, os.getcwd()),
            batch_size=1,
            compute=pool,
            num_cpus=crew.cpus,
            num_gpus=1 if crew.device == "cuda" else 0,
        )
        yield from explained.iter_rows()


def _units(job: Job, known: dict[str, list[Row]], crew: Crew) -> Iterator[Any]:
    """The list in units of whole batches, each an Arrow table of one row, with what is known."""
    table = import_module("pyarrow").table
    batches = -(-len(job.sources) // job.batch_size)
    size = job.batch_size * max(1, min(UNIT_BATCHES, batches // (ROUNDS * crew.actors)))
    for at in range(0, len(job.sources), size):
        sources = job.sources[at : at + size]
        earlier = [row for source in sources for row in known.get(source.name.as_posix(), ())]
        yield table({"at": [at], "unit": [pickle.dumps((sources, earlier))]})


def _by_image(earlier: Sequence[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = defaultdict(list)
    for row in earlier:
        if row["status"] != "error":
            found[row["image"]].append(row)
    return dict(found)


def _named(job: Job) -> dict[str, Source]:
    return {source.name.as_posix(): source for source in job.sources}


def _is_of(job: Job, named: dict[str, Source], row: Row, name: str) -> bool:
    """Whether an earlier row's file is one that this job writes, or has written already."""
    source = named.get(row["image"])
    return source is not None and any(
        outputs.name_of(source, wanted, what).as_posix() == name
        for wanted in job.results
        for what in job.saves
    )


@contextlib.contextmanager
def _telling(ray: Any) -> Iterator[None]:
    """What Ray cannot go on after is one line; what an actor's code raised is as it was."""
    try:
        yield
    except ray.exceptions.RayTaskError:
        raise
    except ray.exceptions.RayError as error:
        lines = [line for line in _plain(str(error)).splitlines() if line.strip()]
        raise ClusterError(f"Ray gave up: {lines[0]} {lines[-1].strip()}") from None


def _plain(text: str) -> str:
    """Without a terminal's colours."""
    return re.sub(r"\x1b\[[\d;]*m", "", text)


@contextlib.contextmanager
def _kept_signals() -> Iterator[None]:
    """Ray's handler of SIGTERM exits at once; the one that was there lets a run end in order."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before, init = signal.getsignal(signal.SIGTERM), signal.signal
    try:
        yield
    finally:
        init(signal.SIGTERM, before)


def _ray() -> Any:
    try:
        return import_module("ray")
    except ImportError:
        raise CamcliError(
            "--engine ray needs Ray, which is not installed: pip install 'camcli[ray]'"
        ) from None


def _ray_data() -> Any:
    with warnings.catch_warnings():
        # Ray Data's settings warn of their own defaults when they are first made.
        warnings.simplefilter("ignore", DeprecationWarning)
        data = import_module("ray.data")
        data.DataContext.get_current()
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    return data
