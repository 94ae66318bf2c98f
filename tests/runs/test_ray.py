"""Runs by Ray write the same bytes as one process, also after workers are lost."""

from __future__ import annotations

import itertools
import json
import os
import pickle
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torch import Tensor, nn

from camcli.errors import CamcliError, CamcliWarning, ClusterError, MethodError
from camcli.images.decode import STDIN
from camcli.images.source import Source
from camcli.render.style import Style
from camcli.runs import cluster, pipeline
from camcli.runs import ray as executor
from camcli.runs.job import Job
from tests.support.benchmark import run_benchmark
from tests.support.command import Run, refused, stderr
from tests.support.files import files, make_photo, manifest
from tests.support.jobs import changed, make_job, with_network
from tests.support.networks import OUT_OF_MEMORY, GapNet, LimitedMemory
from tests.support.s3 import S3, Fault, expected, on_s3
from tests.support.stores import stored
from tests.support.truth import (
    classes_by_rank,
    job_on,
    make_photos,
    nine_classes,
    record_in,
    shares_of,
    write_csv,
)


@pytest.fixture(scope="module")
def ray() -> Iterator[None]:
    """A cluster of two cores on this machine."""
    module = pytest.importorskip("ray", reason="needs Ray: pip install 'camcli[ray]'")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_BACKEND_LOG_LEVEL", "fatal")
        folder = tempfile.mkdtemp(prefix="cam", dir="/tmp")
        before = signal.getsignal(signal.SIGTERM)  # which Ray takes for itself
        module.init(
            num_cpus=2,
            include_dashboard=False,
            object_store_memory=80 * 2**20,
            log_to_driver=False,
            _temp_dir=folder,
        )
        signal.signal(signal.SIGTERM, before)
        yield
        module.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


class Killing(GapNet):
    """A network that kills its process at batch `at`, or interrupts the process `driver`."""

    def __init__(self, folder: Path, at: int, driver: int | None = None) -> None:
        super().__init__()
        folder.mkdir()
        self.folder, self.at, self.driver = folder, at, driver

    def forward(self, x: Tensor) -> Tensor:
        number = len([*self.folder.glob("seen-*")])
        (self.folder / f"seen-{number}-{os.getpid()}").touch()
        if number == self.at:
            for file in self.folder.glob("unfinished"):
                shutil.copy(file, Path(file.read_text()))
            os.kill(self.driver or os.getpid(), signal.SIGINT if self.driver else signal.SIGKILL)
        return super().forward(x)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """Twenty photos of two shapes in folders, one of them damaged, in batches of three."""
    photos = {f"sub{i % 2}/{i:02}.jpg": (60 + 15 * (i % 2), 50) for i in range(20)}
    options: dict[str, Any] = {"methods": ("gradcam++", "guided"), "targets": ("pred", "2")}
    options |= {"fit": "full", "batch_size": 3, "workers": 2}
    return make_job(tmp_path, photos | {"sub0/04.jpg": None}, **options)


def run_by_ray(job: Job, actors: int = 1) -> list[list[dict[str, Any]]]:
    """Run a job by actors and return the rows of each image in the order received."""
    return list(pipeline.run(*executor.ray_executor(job, "cpu", actors)))


@pytest.mark.ray
@pytest.mark.xdist_group("ray")
def test_a_killed_actor_does_not_change_the_bytes(job: Job, ray: None, tmp_path: Path) -> None:
    """It leaves a temporary file, and the folder has results of other settings."""
    yielded = list(pipeline.run(job))
    network = Killing(tmp_path / "state", at=4)
    output = tmp_path / "ray"
    other = replace(job, style=Style("jet"), saves=("map", "panel"), output=output)
    list(pipeline.run(other))
    half = output / f".camcli-{job.owner}-ab.tmp"
    (tmp_path / "state" / "unfinished").write_text(str(half))
    killed = changed(with_network(job, network), output=output, overwrite=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(executor, "UNIT_BATCHES", 2)
        assert run_by_ray(killed, 2) == yielded
    assert files(output) == files(tmp_path / "out")
    record = json.loads((output / "run.json").read_text())
    assert (record["executor"]["name"], record["executor"]["actors"]) == ("ray", 2)
    processes = {file.name.split("-")[2] for file in (tmp_path / "state").glob("seen-*")}
    assert len(processes) == 3


@pytest.mark.ray
@pytest.mark.xdist_group("ray")
def test_a_selection_by_true_classes_is_the_same(ray: None, tmp_path: Path) -> None:
    """Labels are sent to actors, and predictions of images that are left out come back."""
    make_photos(tmp_path)
    model = nine_classes()
    truth = write_csv(tmp_path, "class_index", classes_by_rank(shares_of(tmp_path, model)))
    targets = ("pred", "true")
    job = job_on(tmp_path, model, truth, only=("wrong",), targets=targets, batch_size=2)
    expected = list(pipeline.run(job))
    assert run_by_ray(replace(job, output=tmp_path / "ray"), 2) == expected
    assert files(tmp_path / "ray") == files(tmp_path / "out")
    records = [record_in(tmp_path / folder) for folder in ("out", "ray")]
    for field in ("truth", "accuracy", "only", "counts"):
        assert records[0][field] == records[1][field]
    assert records[0]["accuracy"] == {"images": 5, "top1": 1, "top5": 3}


@pytest.mark.ray
@pytest.mark.xdist_group("ray")
def test_an_interrupted_run_keeps_its_results(job: Job, ray: None, tmp_path: Path) -> None:
    list(pipeline.run(job))
    network = Killing(tmp_path / "state", at=9, driver=os.getpid())
    output = tmp_path / "ray"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(executor, "REPORT_BATCHES", 1)
        with pytest.raises(KeyboardInterrupt):
            run_by_ray(replace(with_network(job, network), output=output))
    rows, whole = manifest(output), manifest(tmp_path / "out")
    assert 0 < len(rows) < len(whole)
    assert rows == whole[: len(rows)]
    assert not list(output.rglob(".camcli*"))
    list(pipeline.run(changed(job, output=output, skip_existing=True)))
    assert files(output) == files(tmp_path / "out")


@pytest.mark.ray
@pytest.mark.xdist_group("ray")
def test_the_command_prints_and_writes_the_same_as_one_process(
    ray: None, run: Run, tmp_path: Path
) -> None:
    """A shard with a damaged image is read from a store."""
    for i in range(5):
        make_photo(tmp_path / "in" / f"{i}.jpg")
    (tmp_path / "in" / "2.jpg").write_text("no image")
    url, options = f"file://{tmp_path}", ("--batch-size", 3, "--shard", "1/2", "--device", "cpu")
    arguments = ("explain", f"{url}/in", *options, "--model", "mini", "--output")
    local = run(*arguments, tmp_path / "local")
    found = run(*arguments, f"{url}/ray", "--executor", "ray", "--num-actors", 3)
    assert (found.exit_code, local.exit_code) == (1, 1), found.stderr_bytes
    warning, *lines = stderr(found).splitlines()
    assert warning == "Warning: the cluster has room for 2 of 3 actors now"
    assert lines == stderr(local).replace(f"{tmp_path}/local", f"{url}/ray").splitlines()
    for name in ("local", "ray"):
        (tmp_path / name / "shards" / "1-of-2.run.json").unlink()
    assert files(tmp_path / "ray") == files(tmp_path / "local")


@pytest.mark.ray
@pytest.mark.xdist_group("ray")
def test_actors_on_s3_write_the_same_bytes(job: Job, ray: None, s3: S3, tmp_path: Path) -> None:
    """An actor is killed, and the store throttles, breaks, and cuts off answers."""
    list(pipeline.run(job))
    remote = on_s3(with_network(job, Killing(tmp_path / "state", at=4)), s3, tmp_path)
    kinds = itertools.product(("slow down", "broken", "dropped"), ("GET", "HEAD", "PUT", "LIST"))
    s3.fail(*(Fault(what, kind, times=2) for what, kind in kinds))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(executor, "UNIT_BATCHES", 2)
        run_by_ray(remote, 2)
    assert stored(remote.output) == expected(tmp_path, s3)
    s3.requests.clear()
    run_by_ray(changed(remote, skip_existing=True), 2)
    written = [one.key for one in s3.requests if one.method == "PUT" and ".camcli" not in one.key]
    assert written == ["out/manifest.jsonl", "out/run.json"]
    assert stored(remote.output) == expected(tmp_path, s3)


@pytest.fixture
def local_actors(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Actors that run in this process."""
    pytest.importorskip("pyarrow", reason="needs the extra camcli[ray]")
    stand_in = SimpleNamespace(
        __version__="0",
        get=pickle.loads,
        is_initialized=lambda: True,
        nodes=lambda: [{"Alive": True, "Resources": {"CPU": 1.0}}],
    )
    for module in (cluster, executor):
        monkeypatch.setattr(module, "import_ray", lambda: stand_in)
    monkeypatch.setattr(executor, "_reports", local_reports)
    monkeypatch.setattr(executor, "UNIT_BATCHES", 3)
    monkeypatch.setattr(executor, "REPORT_BATCHES", 2)
    monkeypatch.chdir(tmp_path)


def local_reports(
    job: Job, units: list[Any], pool: cluster.ActorPool
) -> Iterator[executor.ActorReport]:
    packages = executor.packages_of(job)
    actor = executor.Explainer(pickle.dumps(job), pool, os.getcwd(), packages)
    for unit in units:
        for batch in actor({"unit": unit["unit"].to_pylist()}):
            yield from pickle.loads(batch["reports"][0])  # noqa: S301 - our own


@pytest.mark.bench
def test_the_benchmark_runs(local_actors: None, tmp_path: Path) -> None:
    run_benchmark(tmp_path, ["cluster"])


def test_existing_results_are_kept(job: Job, local_actors: None, tmp_path: Path) -> None:
    list(pipeline.run(replace(job, output=tmp_path / "whole")))
    run_by_ray(job)
    whole = files(tmp_path / "whole")
    assert files(job.output) == whole
    kept, lost = job.output / "sub0" / "00.guided.npy", job.output / "sub1" / "17.guided.2.png"
    before = kept.stat().st_mtime_ns
    lost.unlink()
    stopped = pipeline.run(*executor.ray_executor(changed(job, skip_existing=True), "cpu", 1))
    next(stopped)
    stopped.close()
    known = [(row["image"], row["method"], row["target"]) for row in manifest(job.output)]
    assert known == [
        (row["image"], row["method"], row["target"]) for row in manifest(tmp_path / "whole")
    ], "a stopped run keeps the rows of images that it did not reach"
    run_by_ray(changed(job, skip_existing=True))
    assert files(job.output) == whole
    assert kept.stat().st_mtime_ns == before


def test_a_run_refused_by_an_actor_keeps_earlier_results(job: Job, local_actors: None) -> None:
    list(pipeline.run(job))
    before = files(job.output)
    no_relu = changed(with_network(job, GapNet(act=nn.SiLU)), overwrite=True)
    with pytest.raises(MethodError, match="needs ReLUs"):
        run_by_ray(no_relu)
    assert files(job.output) == before


def test_results_of_other_settings_are_replaced(
    job: Job, local_actors: None, tmp_path: Path
) -> None:
    list(pipeline.run(replace(job, saves=("map", "panel"))))
    other = replace(job, style=Style("jet"), methods=("gradcam++",), sources=job.sources[:12])
    list(pipeline.run(replace(other, output=tmp_path / "fresh")))
    run_by_ray(changed(other, overwrite=True))
    assert files(job.output) == files(tmp_path / "fresh")


def test_warnings_of_actors_are_shown(job: Job, local_actors: None) -> None:
    limited = changed(with_network(job, LimitedMemory(1, OUT_OF_MEMORY[0])), fit="squash")
    with pytest.warns(CamcliWarning, match=r"out of memory with \d images at once: going on"):
        assert len(run_by_ray(limited)) == 20


def test_other_packages_of_actors_are_said(
    job: Job, local_actors: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_both = iter([{"encoder": "isal 1"}, {"encoder": "opencv-python 4"}])
    monkeypatch.setattr(executor, "packages_of", lambda job: next(of_both))
    with pytest.warns(CamcliWarning, match=r"^actors have encoder opencv-python 4, and run\.json"):
        run_by_ray(job)


def test_actors_have_the_number_of_threads_of_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    sent = pickle.dumps(cluster.size_pool([(2, 0)], "cpu", 1))
    monkeypatch.setenv("OMP_NUM_THREADS", "7")  # on the machine of the actor
    assert pickle.loads(sent).threads == 3  # noqa: S301 - our own


@pytest.mark.parametrize("lost", [0, 7, 19])
def test_lost_rows_stop_the_run(
    job: Job, local_actors: None, lost: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def incomplete(*given: Any) -> Iterator[executor.ActorReport]:
        items = [*local_reports(*given)]
        yield from items[:lost] + items[lost + 1 :]

    monkeypatch.setattr(executor, "_reports", incomplete)
    with pytest.raises(
        ClusterError, match=r"Ray gave (image \d+ where \d+ was next|19 of 20 images)"
    ):
        run_by_ray(job)
    assert len(manifest(job.output)) == lost * 4 if lost else not (job.output / "run.json").exists()


@pytest.mark.parametrize(
    ("nodes", "device", "actors", "pool"),
    [
        ([(2, 0)], "auto", None, (2, 1, "cpu")),
        ([(2, 0)], "auto", 1, (1, 2, "cpu")),
        ([(2, 0)], "mps", None, (1, 2, "mps")),
        ([(16, 2), (16, 2), (4, 0)], "auto", None, (4, 8, "cuda")),
        ([(16, 2), (16, 2), (4, 0)], "cpu", None, (36, 1, "cpu")),
        ([(8, 0), (4, 0)], "cpu", 1, (1, 8, "cpu")),
    ],
)
def test_the_pool_for_a_cluster(
    nodes: list[tuple[int, int]], device: str, actors: int | None, pool: tuple[object, ...]
) -> None:
    assert cluster.size_pool(nodes, device, actors) == cluster.ActorPool(*pool)  # type: ignore[arg-type]


def test_the_actors_of_a_node_share_the_memory_for_images() -> None:
    assert executor.memory_per_actor([{"CPU": 2, "memory": 8e9}], 2) == 1_000_000_000
    assert executor.memory_per_actor([{"memory": 8e9}, {"memory": 4e9}], 3) == 500_000_000
    assert executor.memory_per_actor([{"memory": 8e9}, {"CPU": 4}], 2) is None


def test_devices_and_actors_that_a_cluster_does_not_have() -> None:
    with pytest.raises(CamcliError, match="--device cuda: the cluster has no GPU"):
        cluster.size_pool([(2, 0)], "cuda", None)
    with pytest.raises(
        CamcliError, match=r"--device 'cuda:1': with --executor ray expected auto, cpu"
    ):
        cluster.size_pool([(2, 2)], "cuda:1", None)
    with pytest.warns(CamcliWarning, match="room for 2 of 4 actors now"):
        cluster.size_pool([(2, 0)], "cpu", 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--num-actors", 2], "--ray-address and --num-actors are for --executor ray"),
        (["--executor", "dask"], "unknown executor 'dask': did you mean"),
        (
            ["--executor", "ray", "--ray-address", "ray://h:1"],
            "'ray://h:1': expected auto or HOST:P",
        ),
        (
            ["--executor", "ray", "--ray-address", "127.0.0.1:1"],
            "--ray-address '127.0.0.1:1': [Errno 111] Connection refused",
        ),
    ],
)
def test_wrong_usage_is_one_line(
    arguments: list[object], message: str, run: Run, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray", reason="needs Ray: pip install 'camcli[ray]'")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)  # by the fixture of other tests
    found = run("explain", photo, "--model", "mini", *arguments, "--output", photo.parent / "out")
    assert message in refused(found)


def test_without_ray_the_extra_is_named(
    run: Run, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    line = refused(run("explain", photo, "--model", "mini", "--executor", "ray"))
    assert line == "--executor ray needs Ray, which is not installed: pip install 'camcli[ray]'"


def test_standard_input_is_refused(job: Job) -> None:
    with pytest.raises(CamcliError, match="standard input cannot be read by --executor ray"):
        executor.ray_executor(replace(job, sources=[Source(STDIN, Path("stdin"))]))
