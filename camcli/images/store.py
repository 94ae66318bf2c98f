"""Paths on remote stores that pyarrow can reach: s3://, gs://, abfs://, hdfs://, file://, ...

This is the only module that imports pyarrow. It does so when a remote path is first used. The
paths of web servers do not need it (see `web`).
"""

from __future__ import annotations

import contextlib
import io
import mimetypes
import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias
from urllib.parse import parse_qsl

from camcli.errors import CamcliError, one_line
from camcli.images.hub import Hub
from camcli.images.store_errors import Stream, as_os_errors
from camcli.images.web import SCHEMES, Web

_ATOMIC = ("s3", "gcs", "abfs")
"""Stores on which an object appears only once it is complete. On others, a temporary file is
written first and then renamed."""
_TIMEOUTS = {"connect_timeout": 5.0, "request_timeout": 10.0}
"""The seconds that S3 may take to connect, and to send the next bytes. A URL may name others."""
_RETRIES = 10
"""How often a request to S3 is repeated. The pauses double, and take 25 seconds in all."""
_UNREAD, _PAUSES = "Failed to flush response stream", tuple(0.1 * 2**n for n in range(8))
"""The error of pyarrow for an answer that is longer than the file, as 503 may be for a small one,
and the pauses before the file is read again, as pyarrow does not."""
_READ_BYTES = 1 << 23
"""The most bytes of a stream that are read by one request."""


@dataclass(frozen=True)
class RemotePath:
    """A file or folder on a remote store, with the part of `pathlib.Path`'s interface in use.

    `root` is the scheme, authority and query of the URL (`s3://bucket?region=eu-west-1`). `key` is
    the path between them, without percent-decoding: `%20` is not a space. `content` holds the bytes
    of a file after `fetch`. Store errors are raised as OSError with one line in `strerror`.
    """

    root: str
    key: str
    content: bytes | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        """Return the URL without its query, user name and password."""
        return f"{self.bucket}/{self.key}"

    def __truediv__(self, name: str | os.PathLike[str]) -> RemotePath:
        return RemotePath(self.root, f"{self.key.rstrip('/')}/{os.fspath(name)}".lstrip("/"))

    @property
    def bucket(self) -> str:
        """Return the scheme and the authority, without user name and password."""
        scheme, _, authority = self.root.partition("?")[0].partition("://")
        return f"{scheme}://{authority.rpartition('@')[2]}"

    @property
    def name(self) -> str:
        """Return the last component of the key."""
        return self.key.rstrip("/").rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """Return the ending of the name, with its dot."""
        return Path(self.name).suffix

    @property
    def parent(self) -> RemotePath:
        """Return the folder that contains this file or folder."""
        return RemotePath(self.root, self.key.rstrip("/").rpartition("/")[0])

    def fetch(self) -> RemotePath:
        """Return this path with its content, so that later reads do not access the store."""
        return replace(self, content=self.read_bytes())

    def open(self, mode: str = "rb") -> BinaryIO:
        """Open the file as a stream of bytes."""
        if self.content is not None:
            return io.BytesIO(self.content)
        system, path = self._location
        with as_os_errors():
            return io.BufferedReader(Stream(system.open_input_stream(path)), _READ_BYTES)

    def read_bytes(self) -> bytes:
        """Read the whole file."""
        if self.content is not None:
            return self.content
        system, path = self._location
        with as_os_errors():
            for pause in _PAUSES:
                try:
                    return _read(system, path)
                except OSError as error:
                    if _UNREAD not in str(error):
                        raise
                time.sleep(pause)
            return _read(system, path)

    def write_bytes(self, data: bytes) -> None:
        """Write the file as `write_from` does."""
        self.write_from(io.BytesIO(data))

    def write_from(self, stream: BinaryIO) -> None:
        """Write the rest of a stream to the file: all of it or, if the store allows, nothing."""
        system, path = self._location
        atomic = system.type_name in _ATOMIC
        written = path if atomic else f"{path}.camcli-{os.getpid()}-{os.urandom(4).hex()}.tmp"
        with as_os_errors():
            if not atomic:
                system.create_dir(path.rpartition("/")[0], recursive=True)
            try:
                # A thread, since an interruption would end the file where it is.
                with ThreadPoolExecutor(1) as thread:
                    thread.submit(_upload, stream, system, written).result()
                if not atomic:
                    system.move(written, path)
            except BaseException:
                if not atomic:
                    with contextlib.suppress(OSError):
                        system.delete_file(written)
                raise

    def is_file(self) -> bool:
        """Return whether the file exists."""
        return bool(self._info.is_file)

    def is_dir(self) -> bool:
        """Return whether the folder exists."""
        return not self._info.is_file and self._info.type.name == "Directory"

    def version(self) -> tuple[int | None, ...]:
        """Return the size and the time of the last change, None where the store does not say."""
        return (info := self._info).size, info.mtime_ns

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove the file."""
        system, path = self._location
        try:
            with as_os_errors():
                system.delete_file(path)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def glob(self, pattern: str) -> Iterator[RemotePath]:
        """Yield the files directly in this folder whose names match a pattern."""
        return (file for file in self.files(recursive=False) if fnmatchcase(file.name, pattern))

    def files(self, *, recursive: bool) -> Iterator[RemotePath]:
        """Yield the files in this folder in no particular order; none if it does not exist."""
        return self._below("File", recursive=recursive)

    def folders(self) -> Iterator[RemotePath]:
        """Yield the folders directly in this one in no particular order, by one listing."""
        return self._below("Directory", recursive=False)

    def _below(self, kind: str, *, recursive: bool) -> Iterator[RemotePath]:
        system, path = self._location
        with as_os_errors():
            found = _paths_in(system, path, kind, recursive=recursive)
        top = path.strip("/")  # some file systems return paths with a leading slash
        names = (one.strip("/").removeprefix(top) for one in found)
        return (self / name.lstrip("/") for name in names)

    @property
    def _location(self) -> tuple[Any, str]:
        system, base = _file_system(self.root)
        return system, f"{base.rstrip('/')}/{self.key}" if base else self.key

    @property
    def _info(self) -> Any:
        system, path = self._location
        with as_os_errors():
            return system.get_file_info(path)


AnyPath: TypeAlias = Path | RemotePath
"""A local or remote path."""


def parse_path(text: str) -> AnyPath:
    """Parse a local path or a URL."""
    if not is_remote(text):
        return Path(text)
    address, _, query = text.partition("?")
    scheme, _, rest = address.partition("://")
    authority, _, key = rest.partition("/")
    return RemotePath(f"{scheme}://{authority}" + (f"?{query}" if query else ""), key)


def is_remote(text: str) -> bool:
    """Return whether a text is a URL. A local folder named `a:` has to be given as `./a:`."""
    return "://" in text


def canonical(path: AnyPath) -> str:
    """Return the canonical name of a path. Two paths to one local file have the same name."""
    return str(path) if isinstance(path, RemotePath) else os.path.realpath(path)


def _paths_in(system: Any, path: str, kind: str, *, recursive: bool) -> list[str]:
    """Return the paths of the files or folders in a folder; none if it does not exist."""
    if isinstance(system, Web):  # where folders are not told from files
        return [*system.files(path, recursive=recursive)] if kind == "File" else []
    selector = _pyarrow_fs().FileSelector(path, allow_not_found=True, recursive=recursive)
    return [info.path for info in system.get_file_info(selector) if info.type.name == kind]


def _read(system: Any, path: str) -> bytes:
    with system.open_input_file(path) as file:  # a stream would be read in pieces
        return bytes(file.read())


def _upload(stream: BinaryIO, system: Any, path: str) -> None:
    """Write a stream to a file, and remove the file if the stream cannot be read.

    S3 and Google note the type of a page and of a picture, which browsers save to disk otherwise.
    """
    kind = mimetypes.guess_type(path)[0]
    sink = system.open_output_stream(path, metadata={"Content-Type": kind} if kind else None)
    try:
        shutil.copyfileobj(stream, sink, 1 << 20)
    except BaseException:
        with contextlib.suppress(OSError):
            sink.close()  # which completes the file, unless it is the store that failed
            system.delete_file(path)
        raise
    sink.close()


@lru_cache(maxsize=64)
def _file_system(root: str) -> tuple[Any, str]:
    address, mark, query = root.partition("?")
    if address.startswith(SCHEMES):
        return Web(query), address
    own = _TIMEOUTS if address.startswith("s3:") else {}
    others = "&".join(part for part in query.split("&") if part.partition("=")[0] not in own)
    uri, shown = f"{address}/{mark}{others}", str(RemotePath(root, ""))
    try:
        system, base = _pyarrow_fs().FileSystem.from_uri(uri)
        if system.type_name == "s3":
            system = _patient(system, dict(parse_qsl(query)))
        elif system.type_name == "py::fsspec+hf":
            system = Hub(system)
    except (OSError, ValueError, ImportError) as error:
        raise CamcliError(f"'{shown}': {one_line(error).replace(uri, shown)}") from None
    return system, str(base)


def _patient(system: Any, options: dict[str, str]) -> Any:
    """Return S3 with time-outs and more retries, where a small file takes one request.

    With an option that pyarrow takes in a URL only, such as `tls_verify_certificates`, the file
    system stays as it is, with the retries of pyarrow.
    """
    fs, known = _pyarrow_fs(), system.__reduce__()[1][0]
    if lost := sorted(options.keys() - known.keys()):
        if mine := sorted(options.keys() & _TIMEOUTS.keys()):
            raise ValueError(f"{mine[0]} cannot be combined with {lost[0]}")
        return system
    times = {name: float(options.get(name, value)) for name, value in _TIMEOUTS.items()}
    retry = fs.AwsDefaultS3RetryStrategy(max_attempts=_RETRIES)
    return fs.S3FileSystem(**known | times | {"allow_delayed_open": True, "retry_strategy": retry})


def _pyarrow_fs() -> Any:
    try:
        return import_module("pyarrow.fs")
    except ImportError:
        raise CamcliError(
            "files on a store need pyarrow, which is not installed: pip install 'camcli[ray]'"
        ) from None
