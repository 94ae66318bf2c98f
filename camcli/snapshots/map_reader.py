"""Read the maps of output folders, as long as a store gives them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from camcli.errors import CamcliError
from camcli.images.store import AnyPath, RemotePath
from camcli.images.tars import is_member
from camcli.runs.ahead import STORE_THREADS, Out
from camcli.runs.maps import FloatMap, read_map

MOST_FAILURES = STORE_THREADS
"""The maps in a row that a store may fail to give. S3 has repeated each request for 25 seconds
then, so that ten thousand maps of a store that has stopped would take hours."""


class MapReader:
    """Reads maps in any thread, and remembers those in a row that a store failed to give."""

    def __init__(self) -> None:
        self._failures = list[str]()

    def read(self, file: AnyPath) -> FloatMap:
        """Return the map in a file. Raises CamcliError."""
        if isinstance(file, RemotePath) and not is_member(file):  # read_map refuses members
            file = self._fetched(file)
        return read_map(file)

    def _fetched(self, file: RemotePath) -> RemotePath:
        try:
            found = file.fetch()
        except OSError as error:
            if not isinstance(error, FileNotFoundError):  # which is an answer
                self._failures.append(f"{file} ({error.strerror})")
            raise CamcliError(str(error.strerror)) from None
        self._failures.clear()
        return found

    def until_stopped(self, results: Iterable[Out]) -> Iterator[Out]:
        """Yield results of maps. Raises CamcliError if a store gives none of many in a row."""
        for one in results:
            if len(found := [*self._failures]) >= MOST_FAILURES:
                raise CamcliError(f"the store gives no more maps, none of {len(found)}: {found[0]}")
            yield one
