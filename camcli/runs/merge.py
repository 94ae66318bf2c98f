"""The records of a run's shards joined to those of a run of all, byte for byte."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from camcli.errors import CamcliError, OutputError, one_line
from camcli.images.store import AnyPath, canonical
from camcli.runs.files import prepare, to_json, write
from camcli.runs.manifest import MANIFEST, RUN, SHARDS, manifest, record_name
from camcli.runs.shards import Shard

Row: TypeAlias = dict[str, Any]

OWN = ("shard", "counts", "started", "seconds", "engine")
"""What the records of shards may differ in."""


@dataclass(frozen=True)
class Part:
    """A shard, the folder that it wrote to, and its record."""

    folder: AnyPath
    shard: Shard
    record: Row

    @property
    def manifest(self) -> AnyPath:
        """The shard's rows."""
        return self.folder / record_name(MANIFEST, self.shard.name)

    @property
    def where(self) -> str:
        """For people."""
        return f"shard {self.shard.number}/{self.shard.count} in '{self.folder}'"


def merged(folders: Sequence[AnyPath], output: AnyPath) -> tuple[int, Counter[str]]:
    """Join the shards in these folders: their number, and the counts of the whole.

    The manifest is that of a run of all. Files in another folder than `output` are linked or copied
    there. Raises CamcliError, before anything is written, where the shards are not those of one
    run, or not all and whole.
    """
    parts = _checked([part for folder in folders for part in _parts(folder)], folders)
    for part in parts:
        _check_whole(part)
    prepare(output)
    for folder in folders:
        if canonical(folder) != canonical(output):
            _bring(folder, output)
    with manifest(output / MANIFEST) as add:
        for rows in _in_turns(parts):
            add(rows)
    counts = sum((Counter(part.record["counts"]) for part in parts), Counter[str]())
    started = min(part.record["started"] for part in parts)
    seconds = round(sum(part.record["seconds"] for part in parts), 3)
    whole = {"shard": None, "counts": dict(counts), "started": started, "seconds": seconds}
    write(output / RUN, to_json({**parts[0].record, **whole}, indent=2))
    return len(parts), counts


def _parts(folder: AnyPath) -> Iterator[Part]:
    found: Iterable[AnyPath] = (folder / SHARDS).glob(f"[0-9]*.{RUN}")
    for file in sorted(found, key=str):
        try:
            record = json.loads(file.read_bytes())
            yield Part(folder, Shard(**record["shard"]), record)
        except OSError as error:
            raise CamcliError(f"'{file}': {error.strerror}") from None
        except (ValueError, KeyError, TypeError) as error:
            raise CamcliError(f"'{file}' is not a shard's record ({one_line(error)})") from None


def _checked(parts: Sequence[Part], folders: Sequence[AnyPath]) -> list[Part]:
    """The parts in order, each there once, and all of one run."""
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
    missing = [str(n) for n in range(1, count + 1) if n not in by_number]
    if missing:
        told = ", ".join(missing[:10]) + (", ..." if len(missing) > 10 else "")
        raise CamcliError(f"{len(missing)} of {count} shards missing: {told}")
    return [by_number[number] for number in sorted(by_number)]


def _check_alike(first: Part, part: Part) -> None:
    """Refuse two parts of different runs, saying what they differ in."""
    facts = {"count": "shards", "images": "images in all", "names": "names of images, by digest"}
    for name, told in facts.items():
        ours, theirs = getattr(first.shard, name), getattr(part.shard, name)
        if ours != theirs:
            raise CamcliError(f"{first.where} is of {ours} {told}, {part.where} of {theirs}")
    for name in (first.record.keys() | part.record.keys()) - set(OWN):
        ours, theirs = (_comparable(record.get(name)) for record in (first.record, part.record))
        if ours != theirs:
            raise CamcliError(
                f"{first.where} was made with {name} {ours}, {part.where} with {theirs}"
            )


def _comparable(value: Any) -> Any:
    """A value without what decides no byte: versions without Python's."""
    return {k: v for k, v in value.items() if k != "python"} if isinstance(value, dict) else value


def _check_whole(part: Part) -> None:
    """Refuse a shard that was stopped."""
    expected = part.shard.share(part.record["batch_size"])
    found = sum(1 for _ in _images(part))
    if found != expected:
        raise CamcliError(
            f"{part.where} has {found} of its {expected} images: run it again with --skip-existing"
        )


def _images(part: Part) -> Generator[list[Row], None, None]:
    """A shard's rows, image by image."""
    try:
        with part.manifest.open("rb") as stream:
            rows = map(json.loads, stream)
            for _, of_image in itertools.groupby(rows, key=lambda row: row["image"]):
                yield list(of_image)
    except OSError as error:
        raise CamcliError(f"'{part.manifest}': {error.strerror}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise CamcliError(f"'{part.manifest}' is no manifest ({one_line(error)})") from None


def _in_turns(parts: Sequence[Part]) -> Iterator[list[Row]]:
    """The rows of all in the order of the list: a batch of each shard in turn."""
    batch = parts[0].record["batch_size"]
    with ExitStack() as after:
        streams = [_images(part) for part in parts]
        for stream in streams:
            after.callback(stream.close)
        while True:
            turn = [rows for stream in streams for rows in itertools.islice(stream, batch)]
            if not turn:
                return
            yield from turn


def _bring(folder: AnyPath, output: AnyPath) -> None:
    """Link or copy a folder's files, but for hidden ones and the records of a whole run."""
    if not (isinstance(folder, Path) and isinstance(output, Path)):
        raise CamcliError(f"'{folder}': on a store, shards are joined in the folder they share")
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
