"""Read the maps of output folders, as long as a store gives them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from camcli.errors import CamcliError
from camcli.images.store import AnyPath, RemotePath
from camcli.images.tars import is_member
from camcli.runs.ahead import Fetcher, Out
from camcli.runs.maps import FloatMap, read_map


class MapReader:
    """Reads maps in any thread, until a store has stopped."""

    def __init__(self) -> None:
        self._fetcher = Fetcher()

    def read(self, file: AnyPath) -> FloatMap:
        """Return the map in a file. Raises CamcliError."""
        if isinstance(file, RemotePath) and not is_member(file):  # read_map refuses members
            try:
                file = self._fetcher.fetch(file)
            except OSError as error:
                raise CamcliError(str(error.strerror)) from None
        return read_map(file)

    def until_stopped(self, results: Iterable[Out]) -> Iterator[Out]:
        """Yield results of maps. Raises CamcliError if a store gives none of many in a row."""
        for one in results:
            if why := self._fetcher.stopped:
                raise CamcliError(why)
            yield one
