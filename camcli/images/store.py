"""Places on stores that pyarrow's file systems know: s3://, gs://, abfs://, hdfs://, file://, ...

The only module that imports pyarrow, and only when such a place is used.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from camcli.errors import CamcliError, one_line

_AT_ONCE = ("s3", "gcs", "abfs")
"""Stores whose objects appear whole when they are closed; others get a file renamed."""


@dataclass(frozen=True)
class Remote:
    """A file or folder on a store: of `pathlib.Path`, what camcli uses.

    `root` is the URL's scheme, authority and query (`s3://bucket?region=eu-west-1`), `key` what
    lies between, as it stands: `%20` is not a space. What a store refuses is an OSError whose
    `strerror` is one line. `content` is that of a file that was fetched.
    """

    root: str
    key: str
    content: bytes | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        """The URL without its query and without a user's name and password."""
        scheme, _, authority = self.root.partition("?")[0].partition("://")
        return f"{scheme}://{authority.rpartition('@')[2]}/{self.key}"

    def __truediv__(self, name: str | os.PathLike[str]) -> Remote:
        return Remote(self.root, f"{self.key.rstrip('/')}/{os.fspath(name)}".lstrip("/"))

    @property
    def name(self) -> str:
        """The last part of the key."""
        return self.key.rstrip("/").rpartition("/")[2]

    @property
    def parent(self) -> Remote:
        """The folder that it lies in."""
        return Remote(self.root, self.key.rstrip("/").rpartition("/")[0])

    def fetched(self) -> Remote:
        """The same with its content, for who reads it more than once."""
        return replace(self, content=self.read_bytes())

    def open(self, mode: str = "rb") -> BinaryIO:
        """The content as a stream of bytes, which comes as it is read."""
        if self.content is not None:
            return io.BytesIO(self.content)
        system, path = self._there
        with _refusals():
            return io.BufferedReader(system.open_input_stream(path), 1 << 20)

    def read_bytes(self) -> bytes:
        """The content."""
        if self.content is not None:
            return self.content
        system, path = self._there
        with _refusals(), system.open_input_stream(path) as stream:
            return bytes(stream.read())

    def write_bytes(self, data: bytes) -> None:
        """Write the whole file or none, as far as the store can."""
        self.write_from(io.BytesIO(data))

    def write_from(self, stream: BinaryIO) -> None:
        """The same of what is left in a stream."""
        system, path = self._there
        at_once = system.type_name in _AT_ONCE
        written = path if at_once else f"{path}.camcli-{os.getpid()}-{os.urandom(4).hex()}.tmp"
        with _refusals():
            if not at_once:
                system.create_dir(path.rpartition("/")[0], recursive=True)
            try:
                with system.open_output_stream(written) as sink:
                    shutil.copyfileobj(stream, sink, 1 << 20)
                if not at_once:
                    system.move(written, path)
            except BaseException:
                with contextlib.suppress(OSError):
                    system.delete_file(written)
                raise

    def is_file(self) -> bool:
        """Whether a file is there."""
        return bool(self._info.is_file)

    def is_dir(self) -> bool:
        """Whether anything lies below."""
        return not self._info.is_file and self._info.type.name == "Directory"

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove the file."""
        system, path = self._there
        try:
            with _refusals():
                system.delete_file(path)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def glob(self, pattern: str) -> Iterator[Remote]:
        """The files right in this folder whose names match; none where there is no folder."""
        return (file for file in self.files(recursive=False) if fnmatchcase(file.name, pattern))

    def files(self, *, recursive: bool) -> Iterator[Remote]:
        """The files below, in no order; none where there is no folder."""
        fs, (system, path) = _pyarrow_fs(), self._there
        selector = fs.FileSelector(path, allow_not_found=True, recursive=recursive)
        with _refusals():
            found = system.get_file_info(selector)
        top = path.strip("/")  # some systems give paths with a slash before them
        names = (info.path.strip("/").removeprefix(top) for info in found if info.is_file)
        return (self / name.lstrip("/") for name in names)

    @property
    def _there(self) -> tuple[Any, str]:
        system, base = _system(self.root)
        return system, f"{base.rstrip('/')}/{self.key}" if base else self.key

    @property
    def _info(self) -> Any:
        system, path = self._there
        with _refusals():
            return system.get_file_info(path)


Place: TypeAlias = Path | Remote


def place(text: str) -> Place:
    """A path, or what a URL stands for."""
    if not is_remote(text):
        return Path(text)
    address, _, query = text.partition("?")
    scheme, _, rest = address.partition("://")
    authority, _, key = rest.partition("/")
    return Remote(f"{scheme}://{authority}" + (f"?{query}" if query else ""), key)


def is_remote(text: str) -> bool:
    """Whether a text is a URL; a folder named `a:` would have to be given as `./a:`."""
    return "://" in text


def real(where: Place) -> str:
    """What two names of one place have in common."""
    return str(where) if isinstance(where, Remote) else os.path.realpath(where)


@lru_cache(maxsize=64)
def _system(root: str) -> tuple[Any, str]:
    """The file system of a root, and the path that it has there. Raises CamcliError."""
    address, mark, query = root.partition("?")
    try:
        system, base = _pyarrow_fs().FileSystem.from_uri(f"{address}/{mark}{query}")
    except (OSError, ValueError, ImportError) as error:
        raise CamcliError(f"'{Remote(root, '')}': {one_line(error)}") from None
    return system, str(base)


def _pyarrow_fs() -> Any:
    try:
        return import_module("pyarrow.fs")
    except ImportError:
        raise CamcliError(
            "files on a store need pyarrow, which is not installed: pip install 'camcli[ray]'"
        ) from None


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """A store's refusal as an OSError whose `strerror` is one line."""
    try:
        yield
    except FileNotFoundError:
        raise FileNotFoundError(2, os.strerror(2)) from None
    except OSError as error:
        number = error.errno or 5
        raise OSError(number, os.strerror(number) if error.errno else one_line(error)) from None
    except ValueError as error:  # Arrow's, of what it cannot read at all
        raise OSError(22, one_line(error)) from None
