"""The connection to a Ray cluster. This is the only module that imports ray."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import signal
import socket
import tempfile
import threading
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from camcli.errors import CamcliError, CamcliWarning, ClusterError, one_line

CONNECT_SECONDS = 10.0
"""The time in which a cluster's address must answer."""


@dataclass(frozen=True)
class ActorPool:
    """A number of actors, each with `cpus` cores, and with a GPU if `device` is `cuda`.

    All have the same number of `threads`, whatever OMP_NUM_THREADS is on their machines.
    """

    actors: int
    cpus: int
    device: str
    threads: int = field(init=False)

    def __post_init__(self) -> None:
        """Set the number of threads, on the machine that runs the command."""
        threads = int(os.environ.get("OMP_NUM_THREADS") or self.cpus)
        object.__setattr__(self, "threads", threads)


def size_pool(nodes: Sequence[tuple[int, int]], device: str, actors: int | None) -> ActorPool:
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


@contextlib.contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Connect to a cluster inside: at `address`, or in RAY_ADDRESS, or one started on this machine.

    An existing connection is used and kept. Raises CamcliError.
    """
    ray, address = import_ray(), address or os.environ.get("RAY_ADDRESS") or "local"
    if address.startswith("ray://"):
        raise CamcliError(
            f"--ray-address '{address}': expected auto or HOST:PORT, on a machine of the cluster "
            f"(ray job submit starts the command there)"
        )
    if ray.is_initialized():
        yield
        return
    _check_reachable(address)
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


def _check_reachable(address: str) -> None:
    """Raise CamcliError for a HOST:PORT that does not answer, for which Ray waits for minutes."""
    host, colon, port = address.rpartition(":")
    if not (colon and port.isdecimal()):  # `auto`, `local`, or a name that Ray reports itself
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:  # a port has at most 16 bits
        raise CamcliError(f"--ray-address '{address}': {one_line(error)}") from None


@contextlib.contextmanager
def ray_errors(ray: Any) -> Iterator[None]:
    """Turn Ray's own errors inside into a ClusterError, but not those of an actor's code."""
    try:
        yield
    except ray.exceptions.RayTaskError:
        raise
    except ray.exceptions.RayError as error:
        uncoloured = re.sub(r"\x1b\[[\d;]*m", "", str(error))
        lines = [line for line in uncoloured.splitlines() if line.strip()]
        raise ClusterError(f"Ray gave up: {lines[0]} {lines[-1].strip()}") from None


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


def import_ray() -> Any:
    try:
        return import_module("ray")
    except ImportError:
        raise CamcliError(
            "--executor ray needs Ray, which is not installed: pip install 'camcli[ray]'"
        ) from None


def import_ray_data() -> Any:
    with warnings.catch_warnings():
        # Ray Data warns about its own default settings when it creates them.
        warnings.simplefilter("ignore", DeprecationWarning)
        data = import_module("ray.data")
        data.DataContext.get_current()
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    return data
