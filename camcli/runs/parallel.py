"""Run batches in parallel, each in its own thread, with a share of torch's threads.

On a CPU two workers run the halves of a batch in parallel. On a GPU one worker in the calling
thread runs whole batches, which keep it busy.

If torch's threads share the layers of one batch, they wait for each other at the end of each layer,
and longer while a core is busy reading images or writing pictures. Two batches in parallel do not
wait for each other.
"""

from __future__ import annotations

import contextlib
import copy
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future

import torch
from torch import nn

from camcli.engine.survey import share_lines
from camcli.models.exclusive import exclusive
from camcli.models.model import Model
from camcli.runs.ahead import In, Out
from camcli.speed import Interrupted, interrupt, quiet_interrupts

COUNT = 2
"""The number of workers, if torch has as many threads. More would need more memory."""


def models_for(model: Model, images: int, threads: int = 1) -> list[Model]:
    """Return the network of each worker, for a run whose first window has a number of images.

    They are copies that share the weights, or `model` itself for one worker. Several workers have
    at least as many `threads` each.
    """
    many = model.device.type == "cpu" and images > 1
    count = min(COUNT, torch.get_num_threads() // threads) if many else 1
    copies = [copy_sharing_weights(model) for _ in range(count)] if count > 1 else []
    found = [copied for copied in copies if copied]
    for copied in found:
        share_lines(model.module, copied.module)
    return found or [model]


def run_windows(
    workers: Sequence[Callable[[Sequence[In]], Out]], windows: Iterable[Sequence[In]]
) -> Generator[Out, None, None]:
    """Apply workers to windows, in equal parts if there are several, and yield results in order.

    Windows have the size of a batch, so that the batches of a run are always the same. The last
    window, if it holds one item, gets all threads.
    """
    alone: list[Sequence[In]] = []

    def parts() -> Iterator[Sequence[In]]:
        for window in windows:
            size = -(-len(window) // len(workers))
            if len(window) == 1 < len(workers):
                alone.append(window)
            else:
                yield from (window[at : at + size] for at in range(0, len(window), size))

    with contextlib.closing(map_parallel(workers, parts())) as found:
        yield from found
    yield from map(workers[0], alone)


def map_parallel(
    workers: Sequence[Callable[[In], Out]], items: Iterable[In]
) -> Generator[Out, None, None]:
    """Apply workers to items in parallel threads, and yield the results in order.

    One more item is queued than there are workers. torch's threads are divided among the workers,
    and restored at the end. If the caller stops early, the workers are interrupted between two
    operations of torch. A single worker runs in the caller's thread.
    """
    if len(workers) == 1:
        yield from map(workers[0], items)
        return
    inbox: queue.SimpleQueue[tuple[Future[Out], In] | None] = queue.SimpleQueue()
    waiting: deque[Future[Out]] = deque()
    every = torch.get_num_threads()
    stopped = threading.Event()

    def serve(worker: Callable[[In], Out]) -> None:
        with contextlib.suppress(Interrupted):
            torch.set_num_threads(max(1, every // len(workers)))
            while (task := inbox.get()) and not stopped.is_set():
                future, item = task
                try:
                    future.set_result(worker(item))
                except Exception as error:  # noqa: BLE001 - raised again by Future.result
                    future.set_exception(error)
                del task, future, item  # do not keep its item in memory until the next one

    threads = [threading.Thread(target=serve, args=[worker], daemon=True) for worker in workers]
    for thread in threads:
        thread.start()
    try:
        for item in items:
            waiting.append(Future())
            inbox.put((waiting[-1], item))
            if len(waiting) > len(workers):
                yield pop_result(waiting)
        while waiting:
            yield pop_result(waiting)
    finally:
        with quiet_interrupts():
            if not all(future.done() for future in waiting):
                for thread in threads:
                    interrupt(thread)
            stopped.set()  # later, so that no thread ends before it is interrupted
            for _ in threads:
                inbox.put(None)
            for thread in threads:
                thread.join()
        torch.set_num_threads(every)


def pop_result(waiting: deque[Future[Out]]) -> Out:
    """Wait for the first future, remove it and return its result."""
    result = waiting[0].result()  # removed afterwards, so that an interruption does not lose it
    waiting.popleft()
    return result


def copy_sharing_weights(model: Model) -> Model | None:
    """Return a copy of a model that shares the weights, for another thread.

    Two threads cannot use one network at once, since each pass registers hooks on it. Return None
    if the network cannot be copied.
    """
    with exclusive(model.module):
        weights = {
            id(weight): nn.Parameter(weight.detach(), requires_grad=False)
            for weight in model.module.parameters()
            if type(weight) is nn.Parameter
        }
        try:
            return copy.deepcopy(model, weights)
        except Exception:  # noqa: BLE001 - any network may hold objects that cannot be copied
            return None
