"""Batches in parallel threads: the same results in the same order, and no thread remains."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from camcli import Model, explain, load, speed
from camcli.runs import parallel, pipeline
from camcli.runs.job import Job
from camcli.runs.parallel import copy_sharing_weights, map_parallel
from tests.support.files import manifest
from tests.support.jobs import changed, make_job, with_network
from tests.support.networks import GapNet, Threads


@pytest.fixture(autouse=True)
def four_threads() -> Iterator[None]:
    """Let torch have four threads, and check that a run gives them back."""
    torch.set_num_threads(4)
    yield
    with ThreadPoolExecutor(1) as another:
        share = another.submit(torch.get_num_threads).result()
    assert (torch.get_num_threads(), share) == (4, 4)
    torch.set_num_threads(1)


class Doubler:
    """A worker that records its threads, and waits at a barrier until the others run too."""

    def __init__(self, together: threading.Barrier | None = None) -> None:
        self.together = together
        self.seen: list[tuple[int, int]] = []

    def __call__(self, x: int) -> int:
        self.seen.append((threading.get_ident(), torch.get_num_threads()))
        if self.together:
            self.together.wait(20)
        if x == 13:
            raise ValueError("thirteen")
        return 2 * x


def test_each_worker_runs_in_one_thread_with_its_share_of_torchs_threads() -> None:
    together = threading.Barrier(2)
    workers = [Doubler(together), Doubler(together)]
    assert list(map_parallel(workers, range(12))) == list(range(0, 24, 2))
    threads = [{*worker.seen} for worker in workers]
    assert [len(of_one) for of_one in threads] == [1, 1]
    assert threads[0] != threads[1]
    assert {share for of_one in threads for _, share in of_one} == {2}
    assert threading.get_ident() not in {thread for of_one in threads for thread, _ in of_one}


def test_an_error_is_raised_in_the_order_of_items() -> None:
    found = map_parallel([Doubler(), Doubler()], range(11, 20))
    assert [next(found), next(found)] == [22, 24]
    with pytest.raises(ValueError, match="thirteen"):
        next(found)


def test_one_more_item_than_workers_is_taken() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for i in range(100):
            taken.append(i)
            yield i

    with closing(map_parallel([Doubler(), Doubler()], items())) as found:
        for number in range(3):
            assert next(found) == 2 * number
            assert len(taken) == number + 3, "one for each worker, and one queued"


class Patient:
    """A worker that waits for `release`, and records the items that it began and finished."""

    def __init__(self) -> None:
        self.started, self.release = threading.Event(), threading.Event()
        self.threads: set[threading.Thread] = set()
        self.begun: list[int] = []
        self.finished: list[int] = []

    def __call__(self, x: int) -> int:
        self.threads.add(threading.current_thread())
        self.begun.append(x)
        self.started.set()
        for _ in range(6000):  # returns to Python often, as a network does between operations
            if x == 0 or self.release.wait(0.01):
                break
        self.finished.append(x)
        return x


def test_closing_the_iterator_interrupts_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CAMCLI_NO_SPEEDUPS", raising=False)
    workers = [Patient(), Patient()]
    with closing(map_parallel(workers, [0, 1, 2, 3])) as found:
        assert next(found) == 0
        assert all(worker.started.wait(20) for worker in workers)
    for worker in workers:
        assert {*worker.finished} <= {0}
        assert not any(thread.is_alive() for thread in worker.threads)


def test_without_speedups_the_workers_finish_their_items(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMCLI_NO_SPEEDUPS", "1")
    workers = [Patient(), Patient()]

    def interrupt(thread: threading.Thread) -> None:
        speed.interrupt(thread)
        for worker in workers:
            worker.release.set()

    monkeypatch.setattr(parallel, "interrupt", interrupt)
    with closing(map_parallel(workers, [0, 1, 2, 3])) as found:
        assert next(found) == 0
        assert all(worker.started.wait(20) for worker in workers)
    for worker in workers:
        assert worker.finished == worker.begun
        assert not any(thread.is_alive() for thread in worker.threads)


@pytest.fixture
def interrupted() -> Iterator[threading.Event]:
    """Set by the first SIGINT, which raises KeyboardInterrupt; later ones do nothing."""
    event = threading.Event()

    def handle(*_: object) -> None:
        if not event.is_set():
            event.set()
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, handle)
    yield event
    signal.signal(signal.SIGINT, before)


def test_an_interruption_does_not_wait_for_the_last_item(
    interrupted: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CAMCLI_NO_SPEEDUPS", raising=False)
    worker, main = Patient(), threading.main_thread().ident
    assert main is not None

    def interrupt(x: int) -> int:
        while not interrupted.wait(0.01):  # a signal just before the main thread waits is lost
            signal.pthread_kill(main, signal.SIGINT)
        return worker(x)

    with pytest.raises(KeyboardInterrupt):
        list(map_parallel([interrupt, interrupt], [1]))
    assert worker.finished == []


def test_a_twin_shares_the_weights_but_not_the_modules() -> None:
    model = load("squeezenet1_1", "none")
    other = copy_sharing_weights(model)
    assert other is not None
    pairs = list(zip(model.module.parameters(), other.module.parameters(), strict=True))
    assert all(a.data_ptr() == b.data_ptr() and a is not b for a, b in pairs)
    assert all(a.requires_grad and not b.requires_grad for a, b in pairs)
    assert {*map(id, model.module.modules())}.isdisjoint(map(id, other.module.modules()))
    assert model.head is not None
    assert other.head is not None
    assert other.head.linear is other.module.get_submodule("classifier.1")
    images = torch.randn(2, 3, 64, 64)
    for a, b in zip(*(explain(m, images, ["cam", "guided"]) for m in (model, other)), strict=True):
        assert torch.equal(a.maps, b.maps)


class Locked(GapNet):
    """A network that cannot be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()
        self.threads: set[int] = set()

    def forward(self, x: Tensor) -> Tensor:
        self.threads.add(threading.get_ident())
        return super().forward(x)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """Thirteen photos of two shapes, one of them damaged, for batches of four."""
    photos = {f"{i:02}.jpg": (60 + 10 * (i % 2), 50) for i in range(13)} | {"10.jpg": None}
    Threads.seen.clear()
    Threads.second.clear()
    methods = ("gradcam++", "guided", "occlusion")
    job = make_job(tmp_path, photos, methods=methods, targets=("pred", "2"))
    return with_network(changed(job, batch_size=4, fit="full"), Threads())


def maps_of(job: Job) -> list[tuple[str, np.ndarray | None]]:
    list(pipeline.run(job))
    rows = manifest(job.output)
    return [
        (row["image"], np.load(job.output / row["map"]) if row["map"] else None) for row in rows
    ]


def test_a_parallel_run_equals_a_run_with_one_thread(job: Job, tmp_path: Path) -> None:
    several = maps_of(job)
    net = job.model.module
    assert isinstance(net, Threads)
    here = (threading.get_ident(), 4)  # finds the layer, and runs the last image
    assert here in net.seen
    assert len(net.seen - {here}) == 2
    assert {share for _, share in net.seen - {here}} == {2}
    torch.set_num_threads(1)
    alone = maps_of(replace(job, output=tmp_path / "alone"))
    torch.set_num_threads(4)
    assert [name for name, _ in several] == [name for name, _ in alone]
    for (_, values), (_, expected) in zip(several, alone, strict=True):
        if expected is None or values is None:
            assert values is expected
        else:
            np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("change", [{"batch_size": 1}, {"sources": 1}, {"net": Locked}])
def test_a_single_stream_has_every_thread(job: Job, change: dict[str, object]) -> None:
    net = Locked() if "net" in change else job.model.module
    if "sources" in change:
        change = {"sources": job.sources[:1]}
    change = {name: value for name, value in change.items() if name != "net"}
    list(pipeline.run(changed(job, model=replace(job.model, module=net), **change)))  # type: ignore[arg-type]
    if isinstance(net, Locked):
        assert net.threads == {threading.get_ident()}
    else:
        assert isinstance(net, Threads)
        assert net.seen == {(threading.get_ident(), 4)}


def test_stopping_a_run_ends_its_threads(job: Job) -> None:
    before = {*threading.enumerate()}
    run = pipeline.run(job)
    next(run)
    run.close()
    assert {*threading.enumerate()} <= before
    recorded = [row for row in manifest(job.output) if row["status"] != "error"]
    assert all((job.output / row["map"]).is_file() for row in recorded)


def test_the_given_network_is_unchanged(job: Job) -> None:
    net = job.model.module.train()
    list(pipeline.run(job))
    assert all(part.training for part in net.modules())
    assert all(weight.requires_grad for weight in net.parameters())
    assert not any(part._forward_hooks for part in net.modules())


def test_a_network_that_cannot_be_copied_has_no_twin() -> None:
    assert copy_sharing_weights(Model(nn.Sequential(Locked()))) is None
