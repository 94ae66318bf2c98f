"""Find the images that paths, folders, globs and URLs refer to."""

from __future__ import annotations

import glob
import itertools
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from camcli.errors import CamcliError
from camcli.images.decode import STDIN
from camcli.images.formats import suffixes
from camcli.images.source import Source
from camcli.images.store import AnyPath, RemotePath, canonical, is_remote, parse_path

RUN_FILES = ("manifest.jsonl", "run.json")
"""The files by which the output folder of a run is recognised."""

EVALUATION_FILES = ("metrics.json", "scores.csv")
"""The files by which the output folder of an evaluation is recognised."""


def find(
    paths: Iterable[str], *, recursive: bool = True, skip: AnyPath | None = None
) -> list[Source]:
    """Return the images that files, folders, globs and URLs refer to, each path once.

    The order is stable. A folder yields its files with an image suffix, sorted. Hidden files,
    camcli's own output folders and the folder `skip` are left out. `-` is standard input. A path
    that does not exist is kept: the error is raised when it is read.

    An image is named by its path below the folder that was given, and a file that was given by its
    own name. If these are several folders, images are named by their paths below the folder that
    the folders have in common.
    """
    given = list(paths)
    every = itertools.chain.from_iterable(_expand(path, recursive, skip) for path in given)
    if len(given) == 1 and not glob.has_magic(given[0]):  # of one folder, and each found once
        return list(every)
    found: dict[str, Source] = {}
    for source in every:
        found.setdefault(_place(source), source)
    return _below_one_folder(found)


def _place(source: Source) -> str:
    """Return the absolute place of an image, where links are not followed.

    A link and its target thus have two places. Links before `..` are followed, as the system does.
    """
    path = str(source.path)
    if isinstance(source.path, RemotePath):
        return f"/{path.partition('://')[2]}"
    if ".." in path:
        folder, name = os.path.split(path)
        path = os.path.join(os.path.realpath(folder), name)
    return f"/{os.path.abspath(path).replace(os.sep, '/').lstrip('/')}"


def _below_one_folder(found: Mapping[str, Source]) -> list[Source]:
    """Return the sources by their places, with names below the folder common to all of them."""
    places = [re.sub("//+", "/", place) for place in found]  # keys on a store may have such
    pairs = [*zip(places, found.values(), strict=True)]
    folders = {place.removesuffix(source.image) for place, source in pairs if source.path != STDIN}
    if len(folders) < 2:
        return list(found.values())
    common = len(os.path.commonpath(folders).rstrip("/")) + 1
    return [
        source if source.path == STDIN else source.named(place[common:]) for place, source in pairs
    ]


def _expand(given: str, recursive: bool, skip: AnyPath | None) -> Iterator[Source]:
    path = Path(given)
    if not given:
        raise CamcliError("an empty path: expected files, folders, globs, or - for standard input")
    if is_remote(given):
        yield from _on_store(parse_path(given), recursive, skip)
    elif given == str(STDIN):
        yield Source(STDIN, "stdin")
    elif os.path.isdir(given):
        if _is_output(path) or (skip and os.path.realpath(given) == canonical(skip)):
            raise _output_given(given)
        yield from _in_folder(path, recursive, skip)
    elif not os.path.lexists(given) and (matches := sorted(glob.glob(given, recursive=True))):
        for match in matches:
            yield from _expand(match, recursive, skip)
    else:
        yield Source(path, path.name)


def _output_given(given: object) -> CamcliError:
    return CamcliError(
        f"'{given}' is an output folder: name its images, or write to another folder"
    )


def _on_store(given: AnyPath, recursive: bool, skip: AnyPath | None) -> Iterator[Source]:
    """Yield a remote file, or the images in a remote folder in the order of a local folder."""
    assert isinstance(given, RemotePath)
    try:
        files = [*given.files(recursive=recursive)] if given.is_dir() else [given]
    except OSError as error:
        raise CamcliError(f"'{given}': {error.strerror}") from None
    if files == [given]:
        yield Source(given, given.name)
        return
    listed = {file.key.removeprefix(given.key).lstrip("/"): file for file in files}
    images, outputs = suffixes(), _outputs_among(listed)
    skipped = canonical(skip).rstrip("/") if skip else None
    if "" in outputs or canonical(given).rstrip("/") == skipped:
        raise _output_given(given)
    for name in sorted(listed, key=_walk_order):
        *folders, file = name.split("/")
        parents = {"/".join(folders[: n + 1]) for n in range(len(folders))}
        hidden = any(part.startswith(".") for part in (*folders, file))
        below = skipped is not None and canonical(listed[name]).startswith(f"{skipped}/")
        if not (hidden or below or parents & outputs) and Path(file).suffix.lower() in images:
            yield Source(listed[name], name)


def _walk_order(name: str) -> list[tuple[bool, str]]:
    """Return a sort key that puts the files of a folder before those of its subfolders."""
    *folders, file = name.split("/")
    return [*((True, folder) for folder in folders), (False, file)]


def _outputs_among(names: Iterable[str]) -> set[str]:
    listed = set(names)
    folders = {name.rpartition("/")[0] for name in listed}
    return {f for f in folders if all(f"{f}/{file}".lstrip("/") in listed for file in RUN_FILES)}


def _in_folder(folder: Path, recursive: bool, skip: AnyPath | None) -> Iterator[Source]:
    images, seen = suffixes(), {canonical(skip)} if skip else set()
    unreadable: list[OSError] = []
    for parent, folders, files in os.walk(folder, followlinks=True, onerror=unreadable.append):
        resolved = os.path.realpath(parent)
        if resolved in seen or _is_output(Path(parent)):
            folders.clear()
            continue
        seen.add(resolved)
        folders[:] = sorted(f for f in folders if not f.startswith(".")) if recursive else []
        below = Path(parent).relative_to(folder).as_posix()
        below = "" if below == "." else f"{below}/"
        for file in sorted(files):
            if not file.startswith(".") and os.path.splitext(file)[1].lower() in images:
                yield Source(os.path.join(parent, file), below + file)
    for error in unreadable:  # a source for each, so that reading it reports the error
        path = Path(str(error.filename))
        yield Source(path, path.relative_to(folder) if path != folder else path.name)


def _is_output(folder: Path) -> bool:
    return any(
        all(os.path.exists(folder / name) for name in names)
        for names in (RUN_FILES, EVALUATION_FILES)
    )
