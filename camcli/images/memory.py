"""Limit the memory of decoded images, in bytes."""

from __future__ import annotations

import contextlib
import math
import os
import re
import threading
import weakref
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from camcli.images.geometry import Pixels, Size
from camcli.speed import return_freed_memory

DECODING, DRAWING = 10, 20
"""The bytes for each pixel of an image while it is decoded, and while pictures of it are drawn."""

_GROUPS, _OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
_FILES = {
    "": ("memory.max", "memory.current"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes"),
}
"""The limit and the use of a control group, by the controller in version 2 and in version 1."""
_LEAST = 2**28
"""The smallest budget that is chosen, in bytes."""
_UNKNOWN = 4 * 2**30
"""The available memory that is assumed where the system does not say it."""


class Budget:
    """The memory that a run may use for decoded images: `limit` bytes.

    Up to half of it holds the pixels of images that wait to be explained or written. The rest is
    for images that are being decoded or drawn on. A thread waits until there is room for its
    image. An image for which there is never enough room goes on alone.

    Once the room was too small, memory that becomes free is returned to the system: a thread of the
    C library would keep it for itself, and every thread as much as its largest image needed.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit or max(_LEAST, available_memory() // 4)
        self._changed = threading.Condition()
        self._held = self._working = 0
        self._freed: deque[int] = deque()
        self._scarce = False

    def decoding(self, size: Size) -> contextlib.AbstractContextManager[None]:
        """Wait for the memory to decode an image, and use it within the context."""
        return self._using(DECODING * math.prod(size))

    def drawing(self, size: Size) -> contextlib.AbstractContextManager[None]:
        """Wait for the memory to draw on an image, and use it within the context."""
        return self._using(DRAWING * math.prod(size))

    def held(self, pixels: Pixels) -> Pixels | None:
        """Return the pixels, which count until they are freed, or None if there is no room.

        It never waits: the images that hold the memory may themselves wait for this one.
        """
        with self._changed:
            if self._used + pixels.nbytes > self.limit // 2:
                self._scarce = True
                return None
            self._held += pixels.nbytes
        # Without a lock, as an array may be freed anywhere, also while its thread has the lock.
        weakref.finalize(pixels, self._freed.append, pixels.nbytes).atexit = False
        return pixels

    @property
    def _used(self) -> int:
        while self._freed:
            self._held -= self._freed.popleft()
        return self._held

    @contextlib.contextmanager
    def _using(self, cost: int) -> Iterator[None]:
        with self._changed:
            while self._working and self._used + self._working + cost > self.limit:
                self._scarce = True
                self._changed.wait()
            self._working += cost
        try:
            yield
        finally:
            if self._scarce:
                return_freed_memory()
            with self._changed:
                self._working -= cost
                self._changed.notify_all()


def available_memory() -> int:
    """Return the bytes that this process may still take, of its machine and its control group."""
    return min([_of_machine(), *_of_groups()])


def _of_machine() -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    with contextlib.suppress(OSError, ValueError, AttributeError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return _UNKNOWN


def _of_groups() -> Iterator[int]:
    """Yield what is left in the control groups of this process that have a limit."""
    with contextlib.suppress(OSError):
        for line in _OWN_GROUPS.read_text().splitlines():
            _, controller, name = line.split(":", 2)
            if controller in _FILES:
                group = _GROUPS / controller / name.lstrip("/")
                for folder in (group, *group.parents):
                    yield from _left(folder, *_FILES[controller])


def _left(group: Path, limit: str, used: str) -> Iterator[int]:
    """Yield the bytes left in a group, if it has a limit. Cached files make room where needed."""
    with contextlib.suppress(OSError, ValueError):  # "max" is no limit
        left = int((group / limit).read_text()) - int((group / used).read_text())
        cached = re.search(r"^inactive_file (\d+)", (group / "memory.stat").read_text(), re.M)
        yield max(1, left + int(cached[1] if cached else 0))
