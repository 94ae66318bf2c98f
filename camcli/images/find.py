"""Images on their way in: finding, decoding, preprocessing, and the geometry to find back."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from camcli.errors import CamcliError
from camcli.images.decode import STDIN
from camcli.images.store import Place, Remote, is_remote, place, real

RECORDS = ("manifest.jsonl", "run.json")
"""What an output folder is known by."""


EVALUATION = ("metrics.json", "scores.csv")
"""What the folder of an evaluation is known by."""


@dataclass(frozen=True)
class Source:
    """An image to read, and its name below the output folder (relative, with its suffix)."""

    path: Place
    name: Path


def find(
    paths: Iterable[str], *, recursive: bool = True, skip: Place | None = None
) -> list[Source]:
    """The images that files, folders, globs and URLs stand for, each once, in a stable order.

    A folder gives every file in it with an image's suffix, sorted, named relative to the folder;
    hidden files, camcli's own output folders and the folder `skip` are left out. `-` is standard
    input. A path that is not there is kept: reading it will say so.
    """
    found: dict[str, Source] = {}
    for given in paths:
        for source in _expand(given, recursive, skip):
            found.setdefault(real(source.path), source)
    return list(found.values())


def _expand(given: str, recursive: bool, skip: Place | None) -> Iterator[Source]:
    path = Path(given)
    if not given:
        raise CamcliError("an empty path: expected files, folders, globs, or - for standard input")
    if is_remote(given):
        yield from _on_store(place(given), recursive, skip)
    elif given == str(STDIN):
        yield Source(STDIN, Path("stdin"))
    elif os.path.isdir(given):
        if _is_output(path) or (skip and os.path.realpath(given) == real(skip)):
            raise _output_given(given)
        yield from _in_folder(path, recursive, skip)
    elif not os.path.lexists(given) and (matches := sorted(glob.glob(given, recursive=True))):
        for match in matches:
            yield from _expand(match, recursive, skip)
    else:
        yield Source(path, Path(path.name))


def _output_given(given: object) -> CamcliError:
    return CamcliError(
        f"'{given}' is an output folder: name its images, or write to another folder"
    )


def _on_store(given: Place, recursive: bool, skip: Place | None) -> Iterator[Source]:
    """A store's file, or the images in a folder of it in the order of a local folder's."""
    assert isinstance(given, Remote)
    try:
        files = [*given.files(recursive=recursive)] if given.is_dir() else [given]
    except OSError as error:
        raise CamcliError(f"'{given}': {error.strerror}") from None
    if files == [given]:
        yield Source(given, Path(given.name))
        return
    listed = {file.key.removeprefix(given.key).lstrip("/"): file for file in files}
    suffixes, left_out = Image.registered_extensions(), _outputs_among(listed)
    if "" in left_out or (skip and real(given).rstrip("/") == real(skip).rstrip("/")):
        raise _output_given(given)
    for name in sorted(listed, key=_as_walked):
        *folders, file = name.split("/")
        parents = {"/".join(folders[: n + 1]) for n in range(len(folders))}
        hidden = any(part.startswith(".") for part in (*folders, file))
        below = skip and real(listed[name]).startswith(f"{real(skip).rstrip('/')}/")
        if not (hidden or below or parents & left_out) and Path(file).suffix.lower() in suffixes:
            yield Source(listed[name], Path(name))


def _as_walked(name: str) -> list[tuple[bool, str]]:
    """Sorts names as a walk through folders meets them: a folder's own files come first."""
    *folders, file = name.split("/")
    return [*((True, folder) for folder in folders), (False, file)]


def _outputs_among(listed: Iterable[str]) -> set[str]:
    """The folders in a listing that are output folders."""
    names = set(listed)
    ends = {name.removesuffix(RECORDS[0]) for name in names if name.endswith(RECORDS[0])}
    return {
        folder.rstrip("/")
        for folder in ends
        if folder[-1:] in ("", "/") and all(folder + record in names for record in RECORDS)
    }


def _in_folder(folder: Path, recursive: bool, skip: Place | None) -> Iterator[Source]:
    suffixes = Image.registered_extensions()
    seen: set[str] = set()
    unreadable: list[OSError] = []
    for parent, folders, files in os.walk(folder, followlinks=True, onerror=unreadable.append):
        here = os.path.realpath(parent)
        if here in seen or _is_output(Path(parent)) or (skip and here == real(skip)):
            folders.clear()
            continue
        seen.add(here)
        folders[:] = sorted(f for f in folders if not f.startswith(".")) if recursive else []
        for file in sorted(files):
            if not file.startswith(".") and Path(file).suffix.lower() in suffixes:
                path = Path(parent, file)
                yield Source(path, path.relative_to(folder))
    for error in unreadable:  # reading it will say why
        path = Path(str(error.filename))
        yield Source(path, path.relative_to(folder) if path != folder else Path(path.name))


def _is_output(folder: Path) -> bool:
    return any(
        all(os.path.exists(folder / name) for name in known) for known in (RECORDS, EVALUATION)
    )
