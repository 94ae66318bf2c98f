"""Batches side by side: each in a thread of its own, with a part of torch's threads.

Where torch's threads share the layers of one batch, they wait for each other at the end of each
layer, and longer where a core has something else to do: images to read, pictures to write. Two
batches at once do not wait for each other.
"""

from __future__ import annotations

import contextlib
import copy
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future
from typing import TypeVar

import torch
from torch import nn

from camcli.models.model import Model
from camcli.speed import Interrupted, interrupt

In = TypeVar("In")
Out = TypeVar("Out")

COUNT = 2
"""Streams where there are threads for them: more would take more memory at once."""


def map_parallel(
    workers: Sequence[Callable[[In], Out]], items: Iterable[In]
) -> Generator[Out, None, None]:
    """`map` in order, each worker in a thread of its own, with one more item at hand.

    torch's threads are shared out among them, and given back at the end. A caller that stops early
    has the workers stopped where they are, between two operations of torch. A single worker works
    in the caller's thread.
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
                _do(worker, *task)
                del task  # or it would keep its item until there is another

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
    """The result of the first of those that are waited for, which then is no longer one of them."""
    result = waiting[0].result()  # still there if waiting for it is interrupted
    waiting.popleft()
    return result


def _do(worker: Callable[[In], Out], future: Future[Out], item: In) -> None:
    try:
        future.set_result(worker(item))
    except Exception as error:  # noqa: BLE001 - raised again where the result is asked for
        future.set_exception(error)


def copy_sharing_weights(model: Model) -> Model | None:
    """The same model with a network of its own that shares the weights, for another thread.

    Each pass puts its hooks on the network, so that two threads cannot have one. None for a network
    that cannot be copied.
    """
    weights = {
        id(weight): nn.Parameter(weight.detach(), requires_grad=False)
        for weight in model.module.parameters()
        if type(weight) is nn.Parameter
    }
    try:
        return copy.deepcopy(model, weights)
    except Exception:  # noqa: BLE001 - anyone's network may hold what cannot be copied
        return None
