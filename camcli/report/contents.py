"""Gather what a report shows: an output folder, its originals, an evaluation and a check."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TypeAlias

from camcli.images.store import AnyPath, RemotePath
from camcli.images.tars import is_member
from camcli.report.changes import Changes, change_of, find_changes
from camcli.report.evaluation import Evaluation, find_evaluation
from camcli.report.folder import Limit, OutputFolder, SavedResult, read_output_folder
from camcli.report.maps import cells_per_map
from camcli.report.originals import (
    MAX_SIDE,
    Original,
    find_originals,
    most_thumbnails,
    thumbnail_side,
)
from camcli.runs.ahead import threads_for
from camcli.snapshots.map_reader import MapReader

ShowProgress: TypeAlias = Callable[[Iterator[Original], int], Iterator[Original]]
"""Wraps an iterator of a known length to show its progress."""
_BYTES_PER_RESULT = 640
"""The size of a result in the page, without its map. All together take at most the size again."""


@dataclass(frozen=True)
class ReportOptions:
    """The options of a report.

    `images` are folders to search for originals, `evaluation` is a folder of `camcli evaluate` and
    `check` a file of `camcli check --json`. `size` limits thumbnails and maps together, in MB.
    """

    images: Sequence[AnyPath] = ()
    evaluation: AnyPath | None = None
    check: AnyPath | None = None
    title: str | None = None
    size: int = 64
    workers: int | None = None


@dataclass(frozen=True)
class Contents:
    """The contents of a page that will be written to `file`.

    Maps with more than `max_cells` cells are reduced, and so are pictures above `picture_side`
    pixels that the page holds itself.
    """

    folder: OutputFolder
    originals: Sequence[Original]
    file: AnyPath
    max_cells: int
    picture_side: int = MAX_SIDE
    title: str | None = None
    evaluation: Evaluation | None = None
    changes: Changes = field(default_factory=Changes)
    reader: MapReader = field(default_factory=MapReader)

    @property
    def same_model_evaluation(self) -> Evaluation | None:
        """The evaluation if it measured the weights that made the maps, else None."""
        found, weights_hash = self.evaluation, self.folder.run.get("weights_hash")
        return found if found and found.weights_hash == weights_hash else None

    def notes(self) -> Iterator[str]:
        """Yield a line for each kind of content that is missing from the page."""
        images, originals = self.folder.images, self.originals
        # A failed image may not exist at all.
        explained = [o for o in originals if any(r.status != "error" for r in images[o.name])]
        if self.folder.unread:
            yield f"unreadable lines in the manifest: {self.folder.unread} (is the run unfinished?)"
        if self.folder.run_error:
            yield f"unreadable {self.folder.run_error}"
        if hidden := self.folder.hidden.total():
            yield (
                f"not shown: {hidden} results and {self.folder.hidden_images} images (the page is "
                f"full: a larger --size shows more)"
            )
        if lost := sum(one.thumbnail is None for one in explained):
            yield f"originals not found in --images or near the folder: {lost} of {len(explained)}"
        if other := sum(one.thumbnail is not None and one.note is not None for one in explained):
            yield f"originals that differ from the explained files: {other} of {len(explained)}"
        if missing := sum(len(result.missing) for result in self.folder.results):
            yield f"missing files that the manifest names: {missing}"
        files = chain.from_iterable(one.files.values() for one in self.folder.results)
        if packed := sum(isinstance(one, RemotePath) and is_member(one) for one in files):
            yield f"not readable in tars on a store: {packed} files (copy the tars to this machine)"
        if self.evaluation and not self.same_model_evaluation:
            yield "the evaluation used other weights than the maps"


def collect(
    folder: AnyPath, file: AnyPath, options: ReportOptions, progress: ShowProgress
) -> Contents:
    """Read everything that the report of an output folder shows. Raises CamcliError.

    Thumbnails and maps each get half of the size. `progress` shows how many originals are read.
    """
    budget = options.size * 1_000_000 // 2
    found = read_output_folder(
        folder, Limit(most_thumbnails(budget), 2 * budget // _BYTES_PER_RESULT)
    )
    side = thumbnail_side(len(found.images), budget)
    workers = options.workers or max(os.cpu_count() or 1, threads_for([folder, *options.images]))
    originals = find_originals(found, options.images, side, workers)
    changes = find_changes(found, options.check)
    maps = [*found.results, *(one for one in found.results if _has_baseline(one, changes))]
    shapes = [one.map_shape for one in maps if len(one.map_shape) == 2]
    return Contents(
        folder=found,
        originals=list(progress(originals, len(found.images))),
        file=file,
        max_cells=cells_per_map([rows * columns for rows, columns in shapes], budget),
        picture_side=thumbnail_side(len(found.results), budget),
        title=options.title,
        evaluation=find_evaluation(found, options.evaluation),
        changes=changes,
    )


def _has_baseline(result: SavedResult, changes: Changes) -> bool:
    """Return whether the page holds a second map, that of the result's baseline."""
    change = change_of(result, changes.by_image.get(result.image, ()))
    return change is not None and change.baseline is not None
