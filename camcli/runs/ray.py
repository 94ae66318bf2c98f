"""The engine for more than one machine: Ray Data cuts the list, actors explain its parts.

The only module that imports ray. An actor does with its part what `camcli.runs.pipeline` does
with a whole list, to the same bytes; here is only who does which part, and how rows come home.
Writing is the actors' own, so that pictures never travel.
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
from camcli.runs.allocator import keep_freed_memory
from camcli.runs.job import Job, Row
from camcli.runs.names import name_of
from camcli.runs.pipeline import Engine, Late, explained_here

UNIT_BATCHES = 16
"""The most batches that an actor is given at once: what is done again when it is lost."""
ROUNDS = 4
"""Of how many units an actor gets in a run, at least, so that all end at about the same time."""
WAITING = 2
"""Units that lie ready for each actor, the one under way among them."""
REPORT_BATCHES = 4
"""How many batches an actor tells of at once: what it has done since is made again after a stop."""

Said: TypeAlias = tuple[int, str, Any]
"""An image's place in the list and its `rows`, or an `error` that stops the run, or a `warning`."""


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
    with contextlib.ExitStack() as after:
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
            with _quietly():
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
        keep_freed_memory()
        with contextlib.suppress(OSError):  # other machines need not have it
            os.chdir(folder)
        self.job: Job = _ray().get(job)
        self.job.model.module.to(pick_device(crew.device))

    def __call__(self, batch: dict[str, Any]) -> Iterator[dict[str, list[bytes]]]:
        """A batch holds one unit; gives what there is to say of it, some batches of images at once.

        Always as many: of a unit that is done again, what came before must not come once more.
        """
        at, sources, earlier = pickle.loads(batch["unit"][0])  # noqa: S301 - our own, see _units
        said: list[Said] = []
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", CamcliWarning)
            try:
                images = explained_here(self.job.of(sources), earlier, lambda rows: None)
                for number, rows in enumerate(images, 1):
                    said.append((at + number - 1, "rows", rows))
                    if number % (REPORT_BATCHES * self.job.batch_size) == 0:
                        yield _packed(said)
                        said = []
            except CamcliError as error:
                said.append((at, "error", error))
        told = dict.fromkeys(str(warning.message) for warning in caught)
        yield _packed([*said, *((at, "warning", line) for line in told)])


def _packed(said: Sequence[Said]) -> dict[str, list[bytes]]:
    """One row of a table, which Ray Data cannot cut."""
    return {"said": [pickle.dumps(said)]}


def _results(
    job: Job, known: dict[str, list[Row]], crew: Crew
) -> Generator[tuple[int, list[Row]], None, None]:
    """Each image's place in the list and its rows, in order."""
    units = [*_units(job, known, crew)]
    bare = replace(job, sources=(), overwrite=False)
    with contextlib.closing(_said(bare, units, crew)) as said:
        for at, kind, what in said:
            if kind == "error":
                raise what
            if kind == "warning":
                warnings.warn(what, CamcliWarning, stacklevel=2)
            else:
                yield at, what


def _said(job: Job, units: Sequence[Any], crew: Crew) -> Generator[Said, None, None]:
    """What actors have to say of the units, in order."""
    if not units:
        return
    ray, data = _ray(), _ray_data()
    context = data.DataContext.get_current().copy()
    context.execution_options.preserve_order = True
    context.target_max_block_size = 1  # a row is sent when it is there, and never waits for others
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
        for row in explained.iter_rows():
            yield from pickle.loads(row["said"])  # noqa: S301 - an actor's of ours


def _units(job: Job, known: dict[str, list[Row]], crew: Crew) -> Iterator[Any]:
    """The list in units of whole batches, each an Arrow table of one row, with what is known."""
    table = import_module("pyarrow").table
    batches = -(-len(job.sources) // job.batch_size)
    size = job.batch_size * max(1, min(UNIT_BATCHES, batches // (ROUNDS * crew.actors)))
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
    """Whether an earlier row's file is one that this job writes, or has written already."""
    source = named.get(row["image"])
    return source is not None and any(
        name_of(source, wanted, what).as_posix() == name
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
def _quietly() -> Iterator[None]:
    """For Ray to start in: its core's remarks are not shown, nor its own end of SIGTERM taken.

    Its core goes on to warn, for every actor, of how Ray Data makes them, unless its log is set to
    what is fatal, which it would remark as well: so the stream itself is put aside for that time.
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
