"""Apply a function to items in threads, in order, and fetch files of a store in threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeAlias, TypeVar

from camcli.images.store import AnyPath, RemotePath

In = TypeVar("In")
Out = TypeVar("Out")
Queue: TypeAlias = deque[Future[Out]]
Submit: TypeAlias = Callable[[Callable[[In], Out], In], Future[Out]]
"""Calls a function with an item in another thread, as `ThreadPoolExecutor.submit`."""
STORE_THREADS = 24
"""The threads that read from a store. pyarrow keeps up to 25 connections to S3."""
MOST_FAILURES = STORE_THREADS
"""The files in a row that a store may fail to give before it has stopped. S3 has repeated each
request for 25 seconds then, so that ten thousand files would take hours."""


def read_ahead(
    submit: Submit[In, Out], function: Callable[[In], Out], items: Iterable[In], ahead: int
) -> Iterator[Out]:
    """Apply a function in threads, up to `ahead` items in advance, and yield results in order."""
    waiting: Queue[Out] = deque()
    for item in items:
        waiting.append(submit(function, item))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def threads_for(folders: Iterable[AnyPath]) -> int:
    """Return the number of threads to read from folders: more than one if one is on a store."""
    return STORE_THREADS if any(isinstance(one, RemotePath) for one in folders) else 1


def read_from(
    folders: Iterable[AnyPath], function: Callable[[In], Out], items: Iterable[In], workers: int = 1
) -> Iterator[Out]:
    """Apply a function that reads from folders, and yield results in order.

    It runs in `workers` threads, and in more if one of the folders is on a store, where each file
    takes a while.
    """
    if (threads := max(workers, threads_for(folders))) == 1:
        yield from map(function, items)
        return
    executor = ThreadPoolExecutor(threads)
    try:
        yield from read_ahead(executor.submit, function, items, 2 * threads)
    finally:
        executor.shutdown(cancel_futures=True)


class Fetcher:
    """Fetches files in any thread, and remembers those in a row that a store failed to give."""

    def __init__(self) -> None:
        self._failures = list[str]()

    def fetch(self, file: RemotePath) -> RemotePath:
        """Return a file with its content. Raises OSError."""
        try:
            found = file.fetch()
        except FileNotFoundError:  # which is an answer
            self._failures.clear()
            raise
        except OSError as error:
            self._failures.append(f"{file} ({error.strerror})")
            raise
        self._failures.clear()
        return found

    @property
    def stopped(self) -> str | None:
        """The line of a store that has stopped, else None."""
        found = [*self._failures]
        if len(found) < MOST_FAILURES:
            return None
        return f"the store gives no more files, none of {len(found)}: {found[0]}"
