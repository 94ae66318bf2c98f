"""Merge the records of shards into those of an unsharded run, byte for byte."""

from __future__ import annotations

import filecmp
import os
import shutil
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import chain, groupby, islice
from pathlib import Path
from typing import Any

from camcli.errors import CamcliError, OutputError
from camcli.images.regular import read_regular
from camcli.images.store import AnyPath, canonical
from camcli.runs import resume
from camcli.runs.accuracy import ACCURACY
from camcli.runs.files import prepare, to_json, write
from camcli.runs.lock import locked
from camcli.runs.manifest import (
    MANIFEST,
    RUN,
    SHARDS,
    Row,
    numbered_rows,
    record_name,
    write_manifest,
)
from camcli.runs.records import SHARD_RECORD, STATUSES
from camcli.runs.rows import Rows, counted
from camcli.runs.shards import Shard
from camcli.schema import RECORD_BYTES, shortened

OWN = ("shard", "counts", "accuracy", "started", "seconds", "executor")
"""The fields in which the records of shards may differ."""


@dataclass(frozen=True)
class Part:
    """A shard, its output folder, and its record."""

    folder: AnyPath
    shard: Shard
    record: Row

    @property
    def manifest(self) -> AnyPath:
        return self.folder / record_name(MANIFEST, self.shard.name)

    @property
    def where(self) -> str:
        """The shard's name in messages."""
        return f"shard {self.shard.number}/{self.shard.count} in '{self.folder}'"


def merge(folders: Sequence[AnyPath], output: AnyPath) -> tuple[int, Counter[str]]:
    """Merge the shards in these folders, and return their number and the counts of the whole run.

    The manifest equals that of an unsharded run. Files in other folders than `output` are linked or
    copied there. Raises CamcliError, before anything is written, where shards are missing or
    incomplete, or belong to different runs.
    """
    parts = _in_order([part for folder in folders for part in _read_parts(folder)], folders)
    for part in parts:
        _check_whole(part)
    prepare(output)
    _check_tars(folders, output)
    with locked(output / MANIFEST):
        rows, settings = _all_rows(parts, output)
        for folder in folders:
            if canonical(folder) != canonical(output):
                _link(folder, output)
        written = Counter[str]()
        write_manifest(output / MANIFEST, settings, counted(rows.by_image(), written))
        counts = _counts(parts, written)
        started = min(part.record["started"] for part in parts)
        seconds = round(sum(part.record["seconds"] for part in parts), 3)
        whole = {"shard": None, "counts": dict(counts), "started": started, "seconds": seconds}
        whole["accuracy"] = _accuracy(parts)
        record = {"only": None, **parts[0].record, **whole}
        record["only"] = resume.with_earlier(record, resume.selection_of(output / RUN))
        write(output / RUN, to_json(record, indent=2))
    return len(parts), counts


def _read_parts(folder: AnyPath) -> Iterator[Part]:
    found: Iterable[AnyPath] = (folder / SHARDS).glob(f"[0-9]*.{RUN}")
    for file in sorted(found, key=str):
        try:
            record = SHARD_RECORD.parse(read_regular(file, RECORD_BYTES))
            shard = Shard(*(record["shard"][field.name] for field in fields(Shard)))
        except OSError as error:
            raise CamcliError(f"'{file}': {error.strerror}") from None
        except ValueError as error:
            raise CamcliError(f"'{file}' is not a shard's record: {error}") from None
        if shard.number > shard.count:
            raise CamcliError(
                f"'{file}' is of shard {shard.name}: expected a number up to {shard.count}"
            )
        yield Part(folder, shard, record)


def _in_order(parts: Sequence[Part], folders: Sequence[AnyPath]) -> list[Part]:
    """Return the parts in order, after checking that each is there once, and all are of one run."""
    if not parts:
        where = ", ".join(f"'{folder}'" for folder in folders)
        raise CamcliError(f"no shards in {where}: expected what camcli explain --shard wrote")
    first, by_number = parts[0], dict[int, Part]()
    for part in parts:
        _check_alike(first, part)
        other = by_number.setdefault(part.shard.number, part)
        if other is not part:
            raise CamcliError(f"{other.where} is also in '{part.folder}': name one of them")
    count = first.shard.count
    if missing := count - len(by_number):
        numbers = (str(n) for n in range(1, count + 1) if n not in by_number)
        listed = ", ".join(islice(numbers, 10)) + (", ..." if missing > 10 else "")
        raise CamcliError(f"{missing} of {count} shards missing: {listed}")
    return [by_number[number] for number in sorted(by_number)]


def _check_alike(first: Part, part: Part) -> None:
    """Raise CamcliError, with the difference, for two parts of different runs."""
    facts = {"count": "shards", "images": "images in all", "names": "names of images, by digest"}
    for name, noun in facts.items():
        ours, theirs = getattr(first.shard, name), getattr(part.shard, name)
        if ours != theirs:
            raise CamcliError(f"{first.where} is of {ours} {noun}, {part.where} of {theirs}")
    for name in (first.record.keys() | part.record.keys()) - set(OWN):
        ours, theirs = (_comparable(record.get(name)) for record in (first.record, part.record))
        if ours != theirs:
            raise CamcliError(
                f"{first.where} was made with {name} {shortened(ours)}, {part.where} with "
                f"{shortened(theirs)}"
            )


def _comparable(value: Any) -> Any:
    """Return a value without Python's version, which does not change the bytes written."""
    return {k: v for k, v in value.items() if k != "python"} if isinstance(value, dict) else value


def _check_whole(part: Part) -> None:
    counts = part.record["counts"]
    expected = part.shard.share(part.record["batch_size"])
    expected += counts.get("earlier_images", 0) - counts.get("left_out", 0)
    found = sum(1 for _ in _rows_by_image(part))
    if found != expected:
        raise CamcliError(
            f"{part.where} has {found} of its {expected} images: run it again with --skip-existing"
        )


def _rows_by_image(part: Part) -> Generator[list[Row], None, None]:
    """Yield a shard's rows, image by image."""
    try:
        rows = (row for _, row in numbered_rows(part.manifest))
        for _, of_image in groupby(rows, key=lambda row: row["image"]):
            yield list(of_image)
    except OSError as error:
        raise CamcliError(f"'{part.manifest}': {error.strerror}") from None


def _all_rows(parts: Sequence[Part], output: AnyPath) -> tuple[Rows, str | None]:
    """Return the rows of all shards, and those that the manifest of the output folder has.

    Also return the digest of their settings, None if rows have others. Raises OutputError for a
    manifest of other settings.
    """
    rows, with_existing, settings = Rows(), resume.existing_files(output), ""
    earlier = resume.parsed(resume.lines_of(output / MANIFEST))
    every = set[str]()
    for row in filter(None, map(with_existing, earlier)):
        settings = settings or row.get("digest") or ""
        every.add(resume.settings_of(row))
        rows.add(row)
    for row in chain.from_iterable(chain.from_iterable(map(_rows_by_image, parts))):
        if settings and not resume.has_settings(row, settings.partition("-")[0]):
            raise OutputError(
                f"'{output}' holds results of other settings than the shards: name another --output"
            )
        every.add(resume.settings_of(row))
        rows.add(row)
    known = every - {""}
    return rows, known.pop() if len(known) == 1 else None


def _counts(parts: Sequence[Part], written: Counter[str]) -> Counter[str]:
    """Return the counts of the shards together, with what only earlier runs made.

    `written` are the numbers of images and rows in the manifest.
    """
    counts = sum((Counter(part.record["counts"]) for part in parts), Counter[str]())
    own = Counter({name: n for name, n in counts.items() if not name.startswith("earlier_")})
    earlier = Counter(
        earlier_images=written["images"] - own["images"] + own["left_out"],
        earlier_results=written["rows"] - sum(own[status] for status in STATUSES),
    )
    return own + earlier


def _accuracy(parts: Sequence[Part]) -> dict[str, int] | None:
    """Return the counts of right predictions of all shards; None without true classes."""
    found = [part.record.get("accuracy") for part in parts]
    if not any(found):
        return None
    known = [one for one in found if one and one["images"]]
    names = [name for name in ACCURACY if all(name in one for one in known)]
    return {name: sum(one[name] for one in known) for name in names}


def _check_tars(folders: Sequence[AnyPath], output: AnyPath) -> None:
    """Raise CamcliError for two tars of one name and different results, of several folders."""
    found: dict[str, Path] = {}
    for folder in {canonical(one): one for one in (*folders, output)}.values():
        for tar in folder.glob("results-*.tar") if isinstance(folder, Path) else ():
            other = found.setdefault(tar.name, tar)
            if not (os.path.samefile(tar, other) or filecmp.cmp(tar, other, shallow=False)):
                raise CamcliError(f"'{other}' and '{tar}' differ: expected shards of one run")


def _link(folder: AnyPath, output: AnyPath) -> None:
    """Link or copy a folder's files, except hidden files and the records of a whole run."""
    if not (isinstance(folder, Path) and isinstance(output, Path)):
        raise CamcliError(
            f"'{folder}': shards on a store can be merged only in the folder that they share"
        )
    try:
        for file in sorted(folder.rglob("*")):
            name = file.relative_to(folder)
            hidden = any(part.startswith(".") for part in name.parts)
            if hidden or not file.is_file() or name.as_posix() in (MANIFEST, RUN):
                continue
            to = output / name
            to.parent.mkdir(parents=True, exist_ok=True)
            to.unlink(missing_ok=True)
            try:
                os.link(file, to)
            except OSError:  # another file system, or one without links
                shutil.copyfile(file, to)
    except OSError as error:
        raise OutputError(f"cannot write to '{output}': {error.strerror}") from None
