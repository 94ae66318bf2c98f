"""Find the images that paths, folders, globs and URLs refer to."""

from __future__ import annotations

import glob
import itertools
import os
import stat
from collections.abc import Collection, Iterable, Iterator
from functools import partial
from pathlib import Path

from camcli.errors import CamcliError
from camcli.images.decode import STDIN
from camcli.images.formats import suffixes
from camcli.images.listing import Folder, Listing, Part, part_of
from camcli.images.places import below_one_folder, each_once
from camcli.images.source import Source
from camcli.images.store import AnyPath, RemotePath, canonical, is_remote, parse_path

RUN_FILES = ("manifest.jsonl", "run.json")
"""The files by which the output folder of a run is recognised."""

EVALUATION_FILES = ("metrics.json", "scores.csv")
"""The files by which the output folder of an evaluation is recognised."""


def find(paths: Iterable[str], *, recursive: bool = True, skip: AnyPath | None = None) -> Listing:
    """Return the images that files, folders, globs and URLs refer to, each path once.

    The order is stable. A folder yields its files with an image suffix, sorted. Hidden files,
    camcli's own output folders and the folder `skip` are left out. `-` is standard input. A path
    that does not exist is kept: the error is raised when it is read.

    An image is named by its path below the folder that was given, and a file that was given by its
    own name. If these are several folders, images are named by their paths below the folder that
    the folders have in common.
    """
    given = iter(paths)
    first = [*itertools.islice(given, 2)]
    expand = partial(_expand, recursive=recursive, skip=skip)
    every = itertools.chain(first, given)
    found = Listing(itertools.chain.from_iterable(map(expand, every)))
    if len(first) == 1 and not glob.has_magic(first[0]):  # of one folder, and each found once
        return found
    return below_one_folder(each_once(found))


def _expand(given: str, recursive: bool, skip: AnyPath | None) -> Iterator[Part]:
    if not given:
        raise CamcliError("an empty path: expected files, folders, globs, or - for standard input")
    if is_remote(given):
        yield from map(part_of, _on_store(parse_path(given), recursive, skip))
        return
    if given == str(STDIN):
        yield part_of(Source(STDIN, "stdin"))
        return
    mode = _mode(given)
    links = stat.S_ISLNK(mode)
    if stat.S_ISDIR(mode) or (links and os.path.isdir(given)):
        path = Path(given)
        if _is_output(given) or (skip and os.path.realpath(given) == canonical(skip)):
            raise _output_given(given)
        yield from _in_folder(path, recursive, skip)
    elif not mode and (matches := sorted(glob.glob(given, recursive=True))):
        for match in matches:
            yield from _expand(match, recursive, skip)
    else:
        path = Path(given)
        yield part_of(Source(path, path.name), links=links if mode else None)


def _mode(path: str) -> int:
    """Return the mode of a file, of a link itself; 0 if there is none."""
    try:
        return os.lstat(path).st_mode
    except (OSError, ValueError):
        return 0


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


def _in_folder(folder: Path, recursive: bool, skip: AnyPath | None) -> Iterator[Part]:
    """Yield the images in a folder: its files in order, and then those of its folders in order."""
    images, seen = suffixes(), {canonical(skip)} if skip else set()
    unreadable: list[OSError] = []
    waiting = [(str(folder), "")]
    while waiting:
        parent, below = waiting.pop()
        try:
            files, links, folders = _scanned(parent, images)
        except OSError as error:
            unreadable.append(error)
            continue
        resolved = os.path.realpath(parent)
        if resolved in seen or _is_output(parent):
            continue
        seen.add(resolved)
        place = os.path.join(parent, "")
        kinds = (Folder(place, below, links=False), Folder(place, below, links=True))
        if links:
            files += links
            for is_link, alike in itertools.groupby(sorted(files), {*links}.__contains__):
                yield kinds[is_link], [*alike]
        else:
            yield kinds[0], sorted(files)
        if recursive:
            waiting += [(place + name, f"{below}{name}/") for name in sorted(folders, reverse=True)]
    for one in unreadable:  # a source for each, so that reading it reports the error
        path = Path(str(one.filename))
        yield part_of(Source(path, path.relative_to(folder) if path != folder else path.name))


def _scanned(folder: str, images: Collection[str]) -> tuple[list[str], list[str], list[str]]:
    """Return the images in a folder, those that are symbolic links, and its folders.

    They are not sorted, and hidden ones are left out. Raises OSError.
    """
    files, links, folders = list[str](), list[str](), list[str]()
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            if name.startswith("."):
                continue
            is_image = name[name.rfind(".") :].lower() in images
            if entry.is_file(follow_symlinks=False):  # as nearly all are: be quick
                if is_image:
                    files.append(name)
            elif _is_folder(entry):
                folders.append(name)
            elif is_image:
                (links if entry.is_symlink() else files).append(name)
    return files, links, folders


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a loop of links
        return False


def _is_output(folder: str) -> bool:
    return any(
        all(os.path.exists(os.path.join(folder, name)) for name in names)
        for names in (RUN_FILES, EVALUATION_FILES)
    )
