"""Results of earlier runs that --skip-existing keeps, and those that --overwrite removes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeAlias

from camcli.images.decode import STDIN
from camcli.images.find import Source
from camcli.images.store import AnyPath
from camcli.runs import resume
from camcli.runs.job import Existing, Explained, Job
from camcli.runs.manifest import Row
from camcli.runs.names import name_of
from camcli.runs.outputs import named_files

KeptRows: TypeAlias = dict[str, list[Row]]
"""The rows of images that need not be explained again, by the images' names."""


def digest_of(job: Job, path: AnyPath) -> str:
    """Return the digest of a result: of the run's settings, and of the image and versions."""
    own = resume.input_digest(path, job.environment) if path != STDIN else ""
    return f"{job.settings}-{own}"


def kept_rows(job: Job, earlier: Iterable[Row], executor: ThreadPoolExecutor) -> KeptRows:
    """Return the rows of images all of whose results exist and were made in the same way."""
    known: dict[resume.Key, dict[str | None, Row]] = defaultdict(dict)
    for row in earlier:  # all runs of a folder have the same layers in the same order
        if row["status"] != "error":
            known[resume.key(row)][row.get("layer")] = row
    layers = Counter((wanted.method, wanted.target) for wanted in job.results)

    def rows_of(source: Source) -> list[Row] | None:
        found = [known.get((source.name.as_posix(), *one), {}) for one in layers]
        if source.path == STDIN or [*map(len, found)] != [*layers.values()]:
            return None
        rows, digest = [row for one in found for row in one.values()], digest_of(job, source.path)
        if any(row.get("digest") != digest for row in rows):
            return None
        # A file that no row names may come from an earlier run, and from another image.
        named = {name for row in rows for name in named_files(row).values()}
        files = [
            name_of(source, wanted, output)
            for wanted in job.results
            for output in job.saves_of(wanted)
        ]
        complete = all(f.as_posix() in named and (job.output / f).is_file() for f in files)
        return rows if complete else None

    found = zip(job.sources, executor.map(rows_of, job.sources), strict=True)
    return {source.name.as_posix(): rows for source, rows in found if rows}


def to_read(job: Job, kept: KeptRows) -> Iterator[Source | Existing]:
    """Yield the sources to read, and for windows that are complete the rows instead.

    In a window with an image to explain all images are read, since a batch of another size would
    change the last digits. The results that are kept are not written again.
    """
    size = job.inputs.batch_size
    for start in range(0, len(job.sources), size):
        window = job.sources[start : start + size]
        known = [kept.get(source.name.as_posix()) for source in window]
        yield from window if None in known else map(Existing, filter(None, known))


def clear_earlier(
    job: Job, explained: Iterable[Explained], earlier: Sequence[Row], kept: KeptRows
) -> Iterator[Explained]:
    """Pass results on; with --overwrite, remove earlier files before the first result.

    A run that is refused before it explains anything thus leaves earlier files as they are.
    """
    for number, item in enumerate(explained):
        if number == 0 and job.options.overwrite:
            keep = {resume.key(row) for rows in kept.values() for row in rows}
            resume.clear(job.output, earlier, partial(_is_kept, keep))
        known = kept.get(item[0].source.name.as_posix()) if isinstance(item, tuple) else None
        yield Existing(known) if known else item


def _is_kept(keep: Collection[resume.Key], row: Row, _: str) -> bool:
    return resume.key(row) in keep
