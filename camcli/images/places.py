"""The places of images in a list: each once, and names below the folder common to all."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

from camcli.images.decode import STDIN
from camcli.images.listing import Folder, Listing, repeated
from camcli.images.source import Source
from camcli.images.store import RemotePath


def has_stdin(sources: Iterable[Source]) -> bool:
    """Return whether standard input is one of the images."""
    return any(
        folder.path + name == str(STDIN)
        for folder, names in Listing.of(sources).parts()
        if len(folder.path) <= len(str(STDIN))
        for name in names
    )


def each_once(found: Listing) -> Listing:
    """Return the list without images whose places came before."""
    twice, seen = repeated(lambda: _places(found), len(found)), set[str]()
    if not twice:
        return found

    def is_first(place: str) -> bool:
        if place not in twice:
            return True
        known = len(seen)
        seen.add(place)
        return len(seen) > known

    return found.where(map(is_first, _places(found)))


def below_one_folder(found: Listing) -> Listing:
    """Return the list, with names below the folder common to all of them."""
    local = [folder for folder in found.folders if folder.path != str(STDIN)]
    places = {folder: re.sub("//+", "/", _place(folder)) for folder in local}  # stores have such
    folders = {place.removesuffix(folder.image) for folder, place in places.items()}
    if len(folders) < 2:
        return found
    common = len(os.path.commonpath(folders).rstrip("/")) + 1
    return found.renamed(
        [
            folder._replace(image=places[folder][common:]) if folder in places else folder
            for folder in found.folders
        ]
    )


def _places(found: Listing) -> Iterator[str]:
    """Yield the absolute places of the images."""
    place = lru_cache(256)(_place)  # until the current folder changes
    for folder, names in found.parts():
        yield from map(place(folder).__add__, names)


def _place(folder: Folder) -> str:
    """Return the beginning of the absolute places of a folder's images, where no link is followed.

    A link and its target thus have two places. Links before `..` are followed, as the system does.
    """
    path = folder.path
    if folder.root is not None:
        return f"/{str(RemotePath(folder.root, path)).partition('://')[2]}"
    parent, name = os.path.split(path)
    if ".." in Path(path).parts:
        path = os.path.join(os.path.realpath(parent), name)
    place = os.path.abspath(path).replace(os.sep, "/").lstrip("/")
    return f"/{place}/" if place and not name else f"/{place}"
