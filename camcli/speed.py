"""Speedups that change no result but for last digits. `CAMCLI_NO_SPEEDUPS=1` disables them.

Everything that exists only for speed is in this module, so that one switch answers whether a
speedup is the cause of a problem. Each gain below is a median of ratios of runs that took turns,
on 2 cores of an AMD EPYC (Zen 4) without a GPU, with torch 2.14 and Python 3.11.

`camcli --help` imports this module, so it imports nothing but the standard library, and `ctypes`
and `gc` only where they are used.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib
import os
import sys
import threading
from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or sys.version_info >= (3, 12):
    from functools import cached_property as cached_property
else:
    # Gain: the results of two workers come one after the other without it: Score-CAM of four photos
    # took 93 and 140 s without it, and 80 and 55 s with it, in runs that took turns.
    class cached_property(functools.cached_property):  # noqa: N801 - in the place of the original
        """A property that is computed once for each object, without a lock.

        Before Python 3.12, all objects of a class share a lock while the property of one of them is
        computed, so that threads with batches of their own wait for each other.
        """

        def __get__(self, instance: Any, owner: Any = None) -> Any:
            if instance is None:
                return self
            return vars(instance).setdefault(self.attrname, self.func(instance))


_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""Parameters of mallopt (malloc.h): the free memory to keep, the number of mapped blocks."""


def enabled() -> bool:
    """Return whether speedups are enabled: CAMCLI_NO_SPEEDUPS is unset, empty or 0."""
    return os.environ.get("CAMCLI_NO_SPEEDUPS", "") in ("", "0")


# Gain: the explain command took 10 % (squeezenet1_0), 8 % (mobilenet_v2) and 2 % (resnet50) more
# processor time without it, on 160 photos; peak memory is up to 10 % larger with it.
def keep_freed_memory() -> None:
    """Make the C library keep freed memory. Call once per process, before the first network runs.

    Each layer allocates and frees tens of megabytes. By default, glibc maps blocks of that size
    anew each time, and every first write to a page is then a page fault. Does nothing where the C
    library is not glibc.
    """
    if enabled() and sys.platform == "linux":
        import ctypes

        with contextlib.suppress(AttributeError, OSError):
            adjust = ctypes.CDLL(None).mallopt
            adjust(_MMAP_MAX, 0)
            adjust(_TRIM_THRESHOLD, 2**31 - 1)


def return_freed_memory() -> None:
    """Return the freed memory to the system that `keep_freed_memory` makes the C library keep."""
    if sys.platform == "linux":
        import ctypes

        with contextlib.suppress(AttributeError, OSError):
            ctypes.CDLL(None).malloc_trim(0)


# Gain: guided backpropagation took 20 % (squeezenet1_0), 4 % (squeezenet1_1) and 2 % (resnet50)
# more processor time without it.
def strided_gradients(device: str) -> bool:
    """Return whether `capture/strided.py` computes gradients at images, on a CPU alone.

    They differ in their last digits from those of autograd.
    """
    return enabled() and device == "cpu"


# Gain: explaining one photo took 93 % more processor time and 18 % more memory without it.
@contextlib.contextmanager
def deferred_import(module: str, function: str) -> Iterator[None]:
    """Defer the import of a module of which code inside the context imports one function.

    The function that is imported inside loads the module on its first call. torchvision's
    operators import one function of `torch._dynamo`, which takes as long to import as torch.
    """
    stand_in = _Deferred(module, function)
    if enabled():
        sys.modules.setdefault(module, stand_in)
    try:
        yield
    finally:
        stand_in.remove()


class _Deferred(ModuleType):
    """A stand-in for a module that is imported on the first call of one function."""

    def __init__(self, name: str, function: str) -> None:
        super().__init__(name)
        self._function = function

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):  # `inspect`, for one, reads these of every module
            raise AttributeError(attribute)
        if attribute != self._function:
            return getattr(self._load(), attribute)
        return lambda *args, **kwargs: getattr(self._load(), attribute)(*args, **kwargs)

    def _load(self) -> ModuleType:
        self.remove()
        return importlib.import_module(self.__name__)

    def remove(self) -> None:
        """Remove the stand-in from `sys.modules`, if it is there."""
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]


class Interrupted(BaseException):
    """Raised by `interrupt` in a thread whose results are no longer needed."""


# Gain: after Ctrl-C, a run of Grad-CAM on resnet50 ended in 1.0 s instead of 3.4 s, and a run of
# Score-CAM on squeezenet1_0 in 0.9 s instead of more than 100 s, the time of its batch.
def interrupt(thread: threading.Thread) -> None:
    """Raise Interrupted in a thread, as soon as the thread runs Python code again."""
    if enabled():
        import ctypes

        assert thread.ident is not None
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident), ctypes.py_object(Interrupted)
        )


@contextlib.contextmanager
def quiet_interrupts() -> Iterator[None]:
    """Suppress Python's report of an Interrupted that arrives in a destructor, where it is lost.

    The thread then runs to the end of its batch.
    """
    hook = sys.unraisablehook

    def report(unraisable: sys.UnraisableHookArgs) -> None:
        if unraisable.exc_type is not Interrupted:
            hook(unraisable)

    sys.unraisablehook = report
    try:
        yield
    finally:
        sys.unraisablehook = hook


# Gain: `import torch, torchvision.models` takes 23 % more processor time with collections.
@contextlib.contextmanager
def without_collections() -> Iterator[None]:
    """Suspend the garbage collector while torch is imported and a network is built.

    It would search all that is there again and again. In a process of the command's own, what is
    there at the end is never garbage, and later collections do not search it. In that of another
    program, such as a test, they do: other code may look for its own objects.
    """
    import gc

    if not (enabled() and gc.isenabled()):
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        if _own_process.is_set():
            gc.freeze()
        gc.enable()


_own_process = threading.Event()
"""Whether the process ends with the command."""


# Gain: explaining one photo took 17 % more processor time without it, `camcli --help` 8 %.
def skip_last_collection() -> None:
    """Skip the garbage collection at the exit of the interpreter, which searches all of torch.

    Call it in a process that ends with the command.
    """
    _own_process.set()
    if enabled():
        atexit.register(_freeze)


def _freeze() -> None:
    if "triton" not in sys.modules:  # triton reports objects that are alive at exit
        import gc

        gc.freeze()
