"""Record a run in its output folder: manifest.jsonl, which keeps earlier rows, and run.json.

An earlier row stays while its files exist and its settings are those of the run, unless the run has
a row for the same image, method, target and layer.
"""

from __future__ import annotations

import contextlib
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone

from camcli.capture.parted import PartedTarget
from camcli.errors import CamcliWarning
from camcli.images.store import AnyPath
from camcli.runs import resume
from camcli.runs.accuracy import accuracy, counts_of, is_chance
from camcli.runs.earlier import earlier_rows
from camcli.runs.files import to_json, write
from camcli.runs.index import ImageLines
from camcli.runs.items import LeftOut, Unchanged
from camcli.runs.job import Job, record_of
from camcli.runs.lock import locked
from camcli.runs.manifest import MANIFEST, RUN, Adder, Row, manifest
from camcli.runs.names import check_inputs, unique_stems
from camcli.runs.outputs import OUTPUTS
from camcli.runs.predictions import TRUTH
from camcli.runs.rows import Rows, counted

_FILES = (*(kind.field for kind in OUTPUTS.values()), "boxes")
"""The fields of a row that depend on the files to save."""
_NAMED = 3
"""The number of images that a warning names."""


class Recorder:
    """Records the rows of a run, and is called with those of one image at a time.

    `job` gives each image file names of its own in the folder. `rows` are those of the folder.
    `add` adds rows to the journal.
    """

    add: Adder

    def __init__(self, job: Job, rows: Rows) -> None:
        self.job = job
        self.rows = rows
        self.counts = Counter[str]()
        self.right = Counter[str]()
        self.left_out = 0
        self.replaced: list[str] = []
        self.written = Counter[str]()
        self._images = 0
        self._parted = [one for one in job.parsed if isinstance(one, PartedTarget)]

    def __call__(self, found: list[Row]) -> list[Row]:
        """Record the rows of an image, and return them with the files that are still valid."""
        if isinstance(found, LeftOut):
            self.left_out += 1
        elif self.job.part or not isinstance(found, Unchanged):
            found = self._changed(found)  # a shard adds rows of the whole run
        self.counts.update(row["status"] for row in found)
        self.right.update(accuracy(found))
        self._images += bool(found)
        return found

    def _changed(self, found: list[Row]) -> list[Row]:
        """Record new rows of an image, and return them with the files that are still valid."""
        image = found[0]["image"]
        earlier = {_key(row): row for row in self.rows.of_image(image)}
        pairs = [(row, earlier.get(_key(row), {})) for row in found]
        found = [_with_files(new, old) for new, old in pairs]
        if any(_is_replaced(old, new) for new, old in pairs):
            self.replaced.append(image)
        for method, target in dict.fromkeys((row["method"], row["target"]) for row in found):
            self.rows.remove(image, method, target)
            for one in self._parted:
                if target == one.spec or target.startswith(one.prefix):
                    self.rows.remove(image, method, one.spec, prefix=one.prefix)
        others = self._others(image, found)
        for row in (*found, *others):
            self.rows.add(row)
        self.add((*found, *others))
        return found

    def _others(self, image: str, found: Sequence[Row]) -> list[Row]:
        """Return the image's rows of other methods and targets, with the true class of `found`."""
        now = next((row for row in found if row["status"] != "error"), None)
        if now is None or not self.job.truth:
            return []
        known = {field: now[field] for field in TRUTH}
        alike = (row for row in self.rows.of_image(image) if row.get("digest") == now["digest"])
        return [row | known for row in alike if row["status"] != "error"]

    def total(self) -> Counter[str]:
        """Return the counts for run.json: results by status, and what only earlier runs made.

        The manifest has to be written before. `left_out` is the number of images that were not
        asked for.
        """
        more = Counter(
            earlier_images=self.written["images"] - self._images,
            earlier_results=self.written["rows"] - self.counts.total(),
            left_out=self.left_out,
        )
        return self.counts + more

    def images(self) -> Iterator[ImageLines] | None:
        """Return the images of the manifest and their lines, to be written and counted.

        Return None if the run has no result to record.
        """
        return counted(self.rows.by_image(), self.written) if self.is_due else None

    @property
    def is_due(self) -> bool:
        """Whether the run has something to record: results, or that there are none to write."""
        return bool(self.counts) or bool(self.left_out) or not self.job.sources


@contextlib.contextmanager
def recording(job: Job) -> Iterator[Recorder]:
    """Lock the output folder inside, read its rows, and write the manifest and run.json on leaving.

    They are also written where the caller stops early. A run without a result leaves those of an
    earlier run. Raises OutputError, before any work, for a folder with results of other settings.
    """
    with locked(job.record(MANIFEST)):
        rows = earlier_rows(job)
        job = job.with_sources(unique_stems(job.sources, rows))
        if job.save_to == "files":
            names = job.possible_results, job.picture_format, job.naming
            check_inputs(job.output, job.sources, *names)
        recorder, record = Recorder(job, rows), timed_record(job)
        before = resume.selection_of(job.record(RUN))

        def finish() -> None:
            found = record(recorder.total(), recorder.right)
            found["only"] = resume.with_earlier(found, before)
            write(job.record(RUN), to_json(found, indent=2))

        written = manifest(job.record(MANIFEST), job.settings, recorder.images, finish)
        with written as recorder.add:
            yield recorder
        resume.remove_leftovers(job.output, job.part)
    _warn_of(recorder.replaced, job.output)
    _warn_of_chance(job, recorder.right)


def timed_record(job: Job) -> Callable[[Counter[str], Counter[str]], Row]:
    """Start the clock of a run, and return a function from the final counts, and those of right
    predictions, to its record."""
    started, clock = datetime.now(timezone.utc), time.monotonic()
    return lambda counts, right: {
        **record_of(job),
        "counts": {"images": len(job.sources), **dict(sorted(counts.items()))},
        "accuracy": counts_of(right) if job.truth else None,
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - clock, 3),
    }


def _key(row: Row) -> tuple[str, str, str | None]:
    return row["method"], row["target"], row.get("layer")


def _is_replaced(old: Row, new: Row) -> bool:
    """Return whether a result replaces one of another file, or of other versions."""
    failed = not old.get("digest") or "error" in (old["status"], new["status"])
    return not failed and old["digest"] != new["digest"]


def _with_files(new: Row, old: Row) -> Row:
    """Return a row that also names the files of an earlier one with the same digest."""
    if new["status"] == "error" or new["digest"] != old.get("digest"):
        return new
    return new | {field: old.get(field) for field in _FILES if new[field] is None}


def _warn_of_chance(job: Job, right: Counter[str]) -> None:
    classes = len(job.model.class_names or ()) or job.model.num_classes
    if classes and is_chance(right, classes):
        warnings.warn(
            f"{right['top1']} of {right['images']} images are right, as by chance among {classes} "
            "classes: check the preprocessing, the order of --labels, and --truth",
            CamcliWarning,
            stacklevel=2,
        )


def _warn_of(replaced: Sequence[str], folder: AnyPath) -> None:
    if replaced:
        more = ", ..." if len(replaced) > _NAMED else ""
        warnings.warn(
            f"'{folder}': {len(replaced)} images have new results, since the file or the versions "
            f"changed: {', '.join(replaced[:_NAMED])}{more}",
            CamcliWarning,
            stacklevel=2,
        )
