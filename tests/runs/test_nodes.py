"""Runs by Ray on four nodes, each with a raylet and an object store of its own."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from camcli.runs import pipeline
from camcli.runs import ray as executor
from tests.support.command import TINY, Run
from tests.support.files import files, make_photo
from tests.support.jobs import changed, make_job
from tests.support.nodes import ACTOR, NODE, nodes, processes, words_of
from tests.support.s3 import S3, Fault, url
from tests.support.stores import stored, upload
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.ray, pytest.mark.xdist_group("ray")]
UNLIKE = {"num_cpus": 2, "env_vars": {"OMP_NUM_THREADS": "2"}}
"""A node that has more cores and another number of threads than the others."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster of four nodes, the first of which has no core for actors."""
    with nodes({}, {}, UNLIKE) as found:
        yield found


def test_a_killed_driver_leaves_no_actor_and_its_run_is_continued(
    cluster: Any, s3: S3, run: Run, tmp_path: Path
) -> None:
    """The images and the output are on S3, and an actor waits for the store at that moment.

    The images whose rows have reached the store are not written again.
    """
    photos, few = tmp_path / "in", (*TINY, "--batch-size", "2", "--fit", "squash")
    for i in range(30):
        make_photo(photos / f"{i:02}.jpg", 60 + i, 50)
    assert run("explain", photos, *few, "--output", tmp_path / "out").exit_code == 0
    upload(photos, s3.folder / "in")
    arguments = (url(s3.folder / "in"), *few, "--num-actors", "3", "--output")
    command = words_of(cluster, "explain", *arguments, url(s3.folder / "out"))
    held = Fault("silent", "PUT", "out/20.gradcam")
    s3.fail(held)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as driver:
        wait_until(lambda: held.times == 0 and s3.count(".camcli-")["PUT"] > 4)
        assert processes(ACTOR)  # more than three, if Ray has replaced one of a slow node
        driver.kill()
        driver.communicate(timeout=60)
    assert driver.returncode == -signal.SIGKILL
    wait_until(lambda: not processes(ACTOR))
    whole, found = files(tmp_path / "out"), stored(s3.folder / "out")
    journal = b"".join(data for name, data in found.items() if ".camcli" in name)
    assert {n: d for n, d in found.items() if ".camcli" not in n}.items() < whole.items()
    s3.proxy.silence.set()
    s3.requests.clear()
    again = subprocess.run([*command, "--skip-existing"], capture_output=True, timeout=120)
    assert again.returncode == 0, again.stderr
    assert stored(s3.folder / "out") == whole
    known = {f"out/{i:02}.gradcam" for i in range(30) if b'"%02d.jpg"' % i in journal}
    written = {one.key.rpartition(".")[0] for one in s3.requests if one.method == "PUT"}
    assert len(known) > 2
    assert not known & written


def test_nodes_that_are_lost_and_added_do_not_change_the_bytes(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three nodes begin. One is killed, and another is added."""
    monkeypatch.setattr(executor, "UNIT_BATCHES", 2)
    monkeypatch.setattr(executor, "REPORT_BATCHES", 1)
    photos = {f"sub{i % 2}/{i:02}.jpg": (60 + 15 * (i % 2), 50) for i in range(30)}
    job = make_job(tmp_path, photos, batch_size=2, workers=2)
    list(pipeline.run(job))
    remote = changed(job, output=tmp_path / "ray")
    run = pipeline.run(*executor.ray_executor(remote, "cpu", 3))
    next(run)
    cluster.remove_node(cluster.worker_nodes.copy().pop(), allow_graceful=False)
    cluster.add_node(**NODE)
    assert len([*run]) == len(photos) - 1
    assert files(remote.output) == files(tmp_path / "out")
