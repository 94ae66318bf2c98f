"""SIGINT and SIGTERM end the command within a second, with one line and exit code 130 or 143.

The first signal raises Stopped in the main thread, so that a run records its finished results. The
process ends at once if there is nothing to record: while the command is imported, and after it. A
thread ends the process if it has not ended GRACE seconds after the signal: Python's handlers wait
for the main thread, which may be in a long operation or wait for a file.

`camcli.__main__` imports this module before anything else, so it imports little itself.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any, NoReturn

ENDINGS = {signal.SIGINT: (130, "Interrupted."), signal.SIGTERM: (143, "Terminated.")}
"""The exit code and the line for each signal."""
GRACE = 0.7
"""The seconds from a signal to the end, at most. Rows that are not recorded until then stay in the
journal, where the next run finds them."""


class Stopped(BaseException):
    """Raised in the main thread by the first signal."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.code, self.line = ENDINGS[signal.Signals(number)]


def install() -> None:
    """Let the signals end this process. Call it first of all, and in the process of a command."""
    global _stderr
    _stderr = os.dup(2)  # which stays the user's while Ray's messages are redirected
    shown = sys.unraisablehook
    sys.unraisablehook = lambda lost: None if lost.exc_type is Stopped else shown(lost)
    _set_handlers()
    if sys.platform != "win32":
        received, sent = os.pipe()
        os.set_blocking(sent, False)
        signal.set_wakeup_fd(sent, warn_on_full_buffer=False)
        threading.Thread(target=_end_late, args=[received], daemon=True).start()


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Raise Stopped on the first signal inside, and ignore further ones.

    Without `install`, the former handlers are restored on leaving.
    """
    global _inside, _first
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread can set a handler
        return
    _inside, _first, before = True, None, _set_handlers()
    try:
        yield
    except SystemExit:  # raised by the handler of a library
        _noticed.wait(0.1)
        raise
    finally:
        if _stderr is None:
            for number, handler in before.items():
                signal.signal(number, handler or signal.SIG_DFL)  # None is one that C has set
        _inside = False
        stopped_by = _first or _seen
        if _stderr is not None and stopped_by:  # whatever has become of the exception
            end(stopped_by)


_stderr: int | None = None
"""A copy of the file descriptor of standard error; None without `install`."""
_inside = False
_first: int | None = None
"""The first signal inside `stoppable`."""
_seen: int | None = None
"""The signal that `_end_late` has seen, also where a library has set a handler of its own."""
_noticed = threading.Event()
_ending = threading.Lock()


def _set_handlers() -> dict[signal.Signals, Any]:
    """Set the handlers, but not of a signal that the caller of the process ignores."""
    before = {number: signal.getsignal(number) for number in ENDINGS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, _handle)
    return before


def _handle(number: int, _: FrameType | None) -> None:
    global _first
    if _ending.locked():
        return
    if not _inside:
        end(number)
    if _first is None:
        _first = number
        raise Stopped(number)


def _end_late(received: int) -> None:
    """Wait for a signal, whatever the main thread does, and end the process GRACE seconds later."""
    global _seen
    while (number := os.read(received, 1)[0]) not in ENDINGS:
        pass
    _seen = number
    _noticed.set()
    time.sleep(GRACE)
    end(number)


def end(number: int) -> NoReturn:
    """End this process with the line and the exit code of a signal."""
    code, line = ENDINGS[signal.Signals(number)]
    to = 2 if _stderr is None else _stderr
    _ending.acquire()  # for ever: the line is written once
    with contextlib.suppress(OSError):
        bar = b"\r\x1b[K" if os.isatty(to) else b""  # which the line replaces
        # A pipe that nobody reads must not keep the process.
        if sys.platform == "win32" or select.select([], [to], [], 0)[1]:
            os.write(to, bar + line.encode() + b"\n")
    os._exit(code)
