"""One run at a time writes a manifest."""

from __future__ import annotations

import contextlib
import os
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

from camcli.errors import CamcliWarning, OutputError
from camcli.images.store import AnyPath, RemotePath
from camcli.runs.files import JOURNALS, is_dead, process_mark, write_errors

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def locked(manifest: AnyPath) -> Iterator[None]:
    """Hold the lock of a manifest inside. Wait for the run that holds it, with a warning.

    The system releases the lock of a killed process. Where there are no locks, as on a store,
    another run is only warned of. Raises WriteError, and OutputError if this process holds it,
    which could wait for itself for ever.
    """
    with _marked(manifest) if isinstance(manifest, RemotePath) else _alone(manifest):
        yield


@contextlib.contextmanager
def _alone(manifest: Path) -> Iterator[None]:
    file = manifest.with_name(f".camcli-{manifest.name}.lock")
    with write_errors(manifest):
        file.parent.mkdir(parents=True, exist_ok=True)
        while not _is_at(number := _locked(file), file):
            os.close(number)  # removed by the run that held it
        os.truncate(number, 0)
        os.write(number, process_mark().encode())
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # the error of the run is reported, not this one
            file.unlink()
        os.close(number)


def _locked(file: Path) -> int:
    """Open and lock a file, and return its descriptor."""
    number = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if fcntl:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = file.read_text()
        if holder == process_mark():
            os.close(number)
            raise OutputError(f"this process is writing to '{file.parent}' already") from None
        _warn(f"{_process(holder)} is writing to '{file.parent}': waiting for its end")
        fcntl.flock(number, fcntl.LOCK_EX)
    except OSError as error:
        _warn(f"'{file.parent}' has no locks ({error.strerror}): run one command at a time there")
    except BaseException:
        os.close(number)
        raise
    return number


def _is_at(number: int, file: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(number), os.stat(file))
    return False


@contextlib.contextmanager
def _marked(manifest: RemotePath) -> Iterator[None]:
    folder, ending = manifest.parent / JOURNALS, f".{manifest.name}.running"
    mark = folder / f".camcli-{process_mark()}{ending}"
    with write_errors(manifest):
        for other in folder.glob(f".camcli-*{ending}"):
            try:
                written = float(other.read_bytes())
            except FileNotFoundError:  # that run has ended
                continue
            if is_dead(other, written):
                other.unlink(missing_ok=True)
            else:
                process = _process(other.name.removeprefix(".camcli-").removesuffix(ending))
                _warn(
                    f"{process} may be writing to '{manifest.parent}': the rows of the run that "
                    f"ends first may be lost"
                )
        mark.write_bytes(str(time.time()).encode())
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            mark.unlink(missing_ok=True)


def _process(mark: str) -> str:
    """Return the process of a mark in words."""
    number, _, host = mark.partition("@")
    return " on ".join(filter(None, [f"process {number}" if number else "another run", host]))


def _warn(message: str) -> None:
    warnings.warn(message, CamcliWarning, stacklevel=2)
