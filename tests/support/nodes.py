"""A Ray cluster of several nodes on this machine, and commands that run on it.

`python -m tests.support.nodes ADDRESS ARGUMENTS` runs a command as a process of its own on it.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ACTOR = "ray::MapWorker"
"""The process name of an actor of Ray Data."""
NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "node_ip_address": "127.0.0.1"}


@contextlib.contextmanager
def nodes(*others: dict[str, Any]) -> Iterator[Any]:
    """Start a cluster inside: a node without cores for actors, and one for each of `others`."""
    ray = pytest.importorskip("ray", reason="needs Ray: pip install 'camcli[ray]'")
    from ray.cluster_utils import Cluster

    folder = tempfile.mkdtemp(prefix="cam", dir="/tmp")
    (Path(folder) / "ray").mkdir()
    with pytest.MonkeyPatch.context() as patch, _own_sigterm():
        patch.setenv("RAY_TMPDIR", folder)  # or others would find this cluster
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_BACKEND_LOG_LEVEL", "fatal")
        soon = {"health_check_period_ms": 500}  # so that a killed node is noticed soon
        head = NODE | {"num_cpus": 0, "include_dashboard": False, "_system_config": soon}
        _stay_on_this_machine(patch)
        started = Cluster(initialize_head=True, head_node_args=head)
        try:
            for other in others:
                started.add_node(**NODE | other)
            _connect(started.address)
            yield started
        finally:
            ray.shutdown()
            started.shutdown()
            shutil.rmtree(folder, ignore_errors=True)


def words_of(cluster: Any, *arguments: object) -> list[str]:
    """Return the words of `camcli ARGUMENTS` on a cluster."""
    return [sys.executable, "-m", __name__, cluster.address, *map(str, arguments)]


def processes(name: str) -> list[Path]:
    """Return the processes whose command line begins with a name, such as those of actors."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "cmdline").read_text().startswith(name):
                found.append(process)
    return found


def _connect(address: str) -> None:
    import ray

    with _own_sigterm():
        ray.init(address, _node_ip_address="127.0.0.1", log_to_driver=False)


@contextlib.contextmanager
def _own_sigterm() -> Iterator[None]:
    """Restore the handler of SIGTERM, which Ray takes for itself."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _stay_on_this_machine(patch: pytest.MonkeyPatch) -> None:
    """Let Ray keep the address 127.0.0.1, instead of one that other machines reach."""
    patch.setattr("ray._private.services.resolve_ip_for_localhost", lambda host: host)


if __name__ == "__main__":
    from camcli import cli
    from camcli.runs import manifest

    address, *arguments = sys.argv[1:]
    manifest.JOURNAL_SECONDS = 0.0  # send each row to a store at once
    with pytest.MonkeyPatch.context() as patching:
        _stay_on_this_machine(patching)
        _connect(address)
        cli.main([*arguments, "--executor", "ray"])
