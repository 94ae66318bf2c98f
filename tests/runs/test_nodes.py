"""Runs by Ray on several nodes, each with a raylet and an object store of its own."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from camcli.runs import pipeline
from camcli.runs import ray as executor
from camcli.runs.job import Job
from tests.support.files import files, manifest
from tests.support.jobs import changed, make_job

pytestmark = [pytest.mark.ray, pytest.mark.xdist_group("ray")]
NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "node_ip_address": "127.0.0.1"}


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A cluster of three nodes on this machine, the first of which has no core for actors."""
    ray = pytest.importorskip("ray", reason="needs Ray: pip install 'camcli[ray]'")
    from ray.cluster_utils import Cluster

    folder = tempfile.mkdtemp(prefix="cam", dir="/tmp")
    (Path(folder) / "ray").mkdir()
    before = signal.getsignal(signal.SIGTERM)  # which Ray takes for itself
    with pytest.MonkeyPatch.context() as patch:
        # Ray would replace 127.0.0.1 by an address that other machines reach.
        patch.setattr("ray._private.services.resolve_ip_for_localhost", lambda host: host)
        patch.setenv("RAY_TMPDIR", folder)  # or others would find this cluster
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_BACKEND_LOG_LEVEL", "fatal")
        nodes = Cluster(
            initialize_head=True,
            head_node_args=NODE | {"num_cpus": 0, "include_dashboard": False},
        )
        try:
            for _ in range(2):
                nodes.add_node(**NODE)
            ray.init(nodes.address, _node_ip_address="127.0.0.1", log_to_driver=False)
            signal.signal(signal.SIGTERM, before)
            yield nodes
        finally:
            ray.shutdown()
            nodes.shutdown()
            signal.signal(signal.SIGTERM, before)
            shutil.rmtree(folder, ignore_errors=True)


def test_nodes_that_are_lost_and_added_do_not_change_the_bytes(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two nodes begin; one is killed, another is added, and the run is stopped and continued."""
    monkeypatch.setattr(executor, "UNIT_BATCHES", 2)
    monkeypatch.setattr(executor, "REPORT_BATCHES", 1)
    photos = {f"sub{i % 2}/{i:02}.jpg": (60 + 15 * (i % 2), 50) for i in range(30)}
    job = make_job(tmp_path, photos, batch_size=2, workers=2)
    list(pipeline.run(job))
    remote = changed(job, output=tmp_path / "ray")
    run = started(remote, actors=2)
    next(run)
    cluster.remove_node(cluster.worker_nodes.copy().pop(), allow_graceful=False)
    cluster.add_node(**NODE)
    for _ in range(14):
        next(run)
    run.close()
    assert 14 < len(manifest(remote.output)) < len(photos)
    assert len([*started(changed(remote, skip_existing=True), actors=2)]) == len(photos)
    assert files(remote.output) == files(tmp_path / "out")


def started(job: Job, actors: int) -> Any:
    return pipeline.run(*executor.ray_executor(job, "cpu", actors))
