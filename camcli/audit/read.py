"""Read the samples of an output folder of any size.

Memory keeps some numbers for each image. Heat goes to a temporary file, and a row that is needed
later is read again from its place in the manifest.
"""

from __future__ import annotations

import contextlib
import math
import tempfile
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from types import MappingProxyType
from typing import BinaryIO, TypeAlias

import numpy as np

from camcli.audit.places import SHARES, shares_of
from camcli.audit.samples import Grids, Numbers, Samples
from camcli.errors import CamcliError, printable
from camcli.images.geometry import Crop, Floats
from camcli.images.regular import open_seekable
from camcli.images.store import AnyPath, RemotePath
from camcli.runs.ahead import read_from
from camcli.runs.files import path_inside
from camcli.runs.grids import SIDE, crop_of, heat_of, on_grid
from camcli.runs.manifest import MANIFEST, Row, rows_in
from camcli.runs.maps import read_map

Coverage: TypeAlias = Callable[[Row, Crop], Floats | None]
"""Returns how much of each cell (side,side) of the network's frame lies in objects of a row's true
class; None if the image has no such object. Raises CamcliError."""

Placed: TypeAlias = tuple[int, Row]
"""The place of a row in the manifest, and the row."""

NO_TRUTH, FAILED = "no true class", "failed"
NO_HEAT, NO_OBJECT = "no positive heat", "no object of the true class"


@dataclass(frozen=True)
class Selection:
    """The method, target and layer of the results to read. None stands for the only one."""

    method: str | None = None
    target: str | None = None
    layer: str | None = None

    def includes(self, row: Row) -> bool:
        """Return whether a row is selected. A failed one has no layer."""
        fields = ("method", "target") if row["status"] == "error" else ("method", "target", "layer")
        wanted = ((getattr(self, name), row.get(name) or "") for name in fields)
        return all(name in (None, found) for name, found in wanted)


def read_samples(
    folder: AnyPath,
    selection: Selection = Selection(),
    coverage: Coverage | None = None,
    labels: Mapping[int, str] = MappingProxyType({}),
) -> Samples:
    """Read the results of an output folder that have true classes. Raises CamcliError.

    `labels` are other names for some of the model's classes, by index.
    """
    with contextlib.ExitStack() as stack:
        manifest = stack.enter_context(_opened(folder))
        files = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(2)]
        found = _Reader(folder, selection, coverage, labels, manifest, *files)
        found.read()
        return found.samples()


def _opened(folder: AnyPath) -> BinaryIO:
    """Open the manifest of a folder; one on a store is copied. Raises CamcliError."""
    try:
        return open_seekable(folder / MANIFEST)
    except OSError as error:
        raise CamcliError(
            f"'{folder}' has no readable {MANIFEST} ({error.strerror}): expected a folder that "
            f"camcli explain wrote"
        ) from None


class _Reader:
    def __init__(
        self,
        folder: AnyPath,
        selection: Selection,
        coverage: Coverage | None,
        labels: Mapping[int, str],
        manifest: BinaryIO,
        heat: BinaryIO,
        covered: BinaryIO,
    ) -> None:
        self.folder, self.selection = folder, selection
        self.coverage, self.labels = coverage, labels
        self.manifest, self.heat, self.covered = manifest, heat, covered
        self.keys = Counter[tuple[str, str, str]]()
        self.classes, self.names = _Names(), _Names()
        self.indices = defaultdict[str, set[int]](set)
        self.values = {name: array("d") for name in _VALUES}
        self.places = array("q")
        self.left_out = Counter[str]()
        self.map_side = SIDE

    def read(self) -> None:
        """Read all rows. Raises CamcliError if they are not the results of one method."""
        for place, row, crop, heat, side in read_from([self.folder], self._seen, self._rows()):
            self.places.append(place)
            self._add(row, crop, heat, side)
        if len(self.keys) > 1:
            listed = printable("; ".join(" ".join(filter(None, key)) for key in [*self.keys][:4]))
            raise CamcliError(
                f"'{self.folder}' has results of {len(self.keys)} methods, targets or layers "
                f"({listed}): choose one with --method, --target and --layer"
            )
        if not self.keys:
            known = ", ".join(f"{count} {why}" for why, count in self.left_out.items())
            raise CamcliError(
                f"'{self.folder}' has no result with a true class{f' ({known})' if known else ''}: "
                f"expected a folder of camcli explain --truth ... --save map"
            )

    def samples(self) -> Samples:
        """Return what was read."""
        values = {name: np.frombuffer(column) for name, column in self.values.items()}
        shares = {name: values[name] for name in (*SHARES, *(["inside"] if self.coverage else []))}
        (classes, labels), (names, predicted) = self.classes.ordered(), self.names.ordered()
        return Samples(
            folder=self.folder,
            key=next(iter(self.keys)),
            cell=math.ceil(SIDE / self.map_side),
            classes=classes,
            indices=[frozenset(self.indices[name]) for name in classes],
            labels=labels,
            names=names,
            predicted=predicted,
            correct=values["correct"].astype(bool),
            top5=values["top5"],
            confidence=values["confidence"],
            heated=values["heated"].astype(bool),
            heat=self._grids(self.heat),
            peak=np.nan_to_num(values["peak"], nan=-1).astype(np.intp),
            covered=self._grids(self.covered) if self.coverage else None,
            shares=shares,
            left_out=+self.left_out,
            places=np.frombuffer(self.places, np.int64),
            copy=_mapped(self.manifest) if isinstance(self.folder, RemotePath) else None,
        )

    def _rows(self) -> Iterator[Placed]:
        """Yield the rows to audit, and their places. Raises CamcliError."""
        for place, row in rows_in(self.manifest, self.folder / MANIFEST):
            if not self.selection.includes(row):
                continue
            if row["status"] == "error":
                self.left_out[FAILED] += 1
            elif row.get("true_name") is None or row.get("correct") is None:
                self.left_out[NO_TRUTH] += 1
            else:
                self.keys[row["method"], row["target"], row.get("layer") or ""] += 1
                yield place, row

    def _add(self, row: Row, crop: Crop, heat: Floats | None, side: int) -> None:
        self.classes.add(row["true_name"])
        known = [row.get("true_index"), row.get("predicted_index") if row["correct"] else None]
        self.indices[row["true_name"]] |= {one for one in known if one is not None}
        self.names.add(self.labels.get(_index(row), _predicted_name(row)))
        self.map_side = min(self.map_side, side)
        covered = self.coverage(row, crop) if self.coverage else None
        self.left_out[NO_HEAT] += heat is None
        self.left_out[NO_OBJECT] += self.coverage is not None and covered is None
        inside = None if heat is None or covered is None else float((heat * covered).sum())
        facts = [row["correct"], row.get("top5"), row.get("confidence")]
        facts += [heat is not None, None if heat is None else heat.argmax(), inside]
        facts += shares_of(heat).values()
        for column, value in zip(self.values.values(), facts, strict=True):
            column.append(np.nan if value is None else value)
        self.heat.write(_bytes(heat))
        if self.coverage:
            self.covered.write(_bytes(covered))

    def _seen(self, placed: Placed) -> tuple[int, Row, Crop, Floats | None, int]:
        """Return a row with what the network saw, the heat, and the map's shorter side.

        Raises CamcliError.
        """
        place, row = placed
        crop, name = crop_of(row), row.get("map")
        if not crop or not name:
            where = f"'{self.folder}' has no map of {printable(row['image'])}"
            raise CamcliError(f"{where}: expected camcli explain --save map")
        try:
            values = read_map(path_inside(self.folder, name))
            return place, row, crop, heat_of(on_grid(values, crop)), min(values.shape[-2:])
        except CamcliError as error:
            raise CamcliError(
                f"'{self.folder}': map '{printable(name)}' not readable ({error})"
            ) from None

    def _grids(self, file: BinaryIO) -> Grids:
        file.flush()
        return np.memmap(file, np.float16, "r", shape=(len(self.places), SIDE, SIDE))


def _mapped(file: BinaryIO) -> mmap:
    """Return the content of a temporary file, which stays after the file is closed."""
    return mmap(file.fileno(), 0, access=ACCESS_READ)


_VALUES = ("correct", "top5", "confidence", "heated", "peak", "inside", *SHARES)
"""The numbers that are kept of each sample, in order."""


class _Names:
    """The names of samples, each kept once."""

    def __init__(self) -> None:
        self._numbers = dict[str, int]()
        self._of_samples = array("q")

    def add(self, name: str) -> None:
        """Add the name of the next sample."""
        self._of_samples.append(self._numbers.setdefault(name, len(self._numbers)))

    def ordered(self) -> tuple[list[str], Numbers]:
        """Return the names in alphabetical order, and the number of each sample's name."""
        names = sorted(self._numbers)
        places = np.empty(len(names), np.intp)
        places[[self._numbers[name] for name in names]] = range(len(names))
        return names, places[np.frombuffer(self._of_samples, np.int64)]


def _index(row: Row) -> int:
    """Return the index of the best class, -1 if it is not known."""
    index = row.get("predicted_index")
    return -1 if index is None else int(index)


def _predicted_name(row: Row) -> str:
    index = _index(row)
    return row.get("predicted_name") or ("unknown" if index < 0 else f"class {index}")


def _bytes(grid: Floats | None) -> bytes:
    return (np.zeros((SIDE, SIDE)) if grid is None else grid).astype(np.float16).tobytes()
