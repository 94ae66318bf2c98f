"""Names of output files below the output folder, and the checks that no two results share one."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from camcli.errors import OutputError
from camcli.images.listing import Hashes, Listing, repeated
from camcli.images.source import Source, without_suffix
from camcli.images.store import AnyPath, RemotePath, canonical
from camcli.images.tars import split_name
from camcli.methods.registry import METHODS
from camcli.runs.outputs import OUTPUTS, named_files
from camcli.runs.rows import Rows

NAMINGS = ("flat", "hashed", "tar")
"""How names begin: with the image's folders, with folders of the digits of a hash, or with a key of
WebDataset."""


class Wanted(NamedTuple):
    """One result for each image. `layer` is None for the automatic layer, and where a method uses
    no layer."""

    method: str
    target: str
    layer: str | None = None


def every_result(
    methods: Sequence[str],
    targets: Sequence[str],
    layers: Sequence[str | None] = (None,),
    fuse: str | None = None,
) -> list[Wanted]:
    """Return the results for each image, in the order in which `explain` returns them."""
    at_layers = (fuse,) if fuse else layers
    return [
        Wanted(method, target, layer)
        for method in methods
        for target in targets
        for layer in (at_layers if METHODS[method].at_layer else (None,))
    ]


def name_of(
    source: Source,
    wanted: Wanted,
    output: str,
    picture_format: str = "png",
    naming: str = "flat",
) -> str:
    """Return the name of a result's file: `<stem>.<method>[.<target>][.<layer>]<ending>`.

    `output` is a name in OUTPUTS, `picture_format` one of FORMATS, `naming` one of NAMINGS. The
    name is that of a member for `tar`. The target `pred` is left out.
    """
    target = None if wanted.target == "pred" else wanted.target
    parts = [file_part(part) for part in (target, wanted.layer) if part]
    ending = OUTPUTS[output].ending_in(picture_format)
    return ".".join([stem_of(source, naming), wanted.method, *parts]) + ending


def stem_of(source: Source, naming: str) -> str:
    """Return the beginning of the names of an image's files.

    It has the folders of the image's name, and its suffix if the source `keeps_suffix`. A `hashed`
    one has four digits of the name's SHA-256 as two folders, and no others. In a `tar`, WebDataset
    ends the key of an image at the first point of the file's name, and leaves out what begins with
    two underscores. Other characters stand in for these, as in URLs.
    """
    if naming == "hashed":
        digits = hashlib.sha256(os.fsencode(source.image)).hexdigest()
        return f"{digits[:2]}/{digits[2:4]}/{_quoted(source.stem, '%/')}"
    if naming == "tar":
        folder, slash, name = source.stem.rpartition("/")
        key = _quoted(folder + slash, "%\n") + _quoted(name, "%.\n")
        return re.sub("^__", "%5F_", key)
    return source.stem


def _quoted(text: str, characters: str) -> str:
    """Return a text in which these characters are escaped as in URLs."""
    return re.sub(f"[{characters}]", lambda found: f"%{ord(found[0]):02X}", text)


def file_part(text: str) -> str:
    """Return a text for a file name. Characters that a file name cannot hold become `_`."""
    return re.sub(r'[/\\:*?"<>|\x00-\x1f]', "_", text)


def unique_parts(names: Sequence[str]) -> list[str]:
    """Return names, with their index where the file names of two would have one part."""
    counts = Counter(file_part(name).casefold() for name in names)
    return [
        name if counts[file_part(name).casefold()] == 1 else f"{name} {index}"
        for index, name in enumerate(names)
    ]


def check_results(results: Sequence[Wanted], naming: str = "flat") -> None:
    """Raise OutputError if two results of an image have the same file name.

    WebDataset does not distinguish upper and lower case.
    """
    some = Source("image.jpg", "image.jpg")
    names = (name_of(some, wanted, "map") for wanted in results)
    counts = Counter(name.lower() if naming == "tar" else name for name in names)
    if twice := [name for name, count in counts.items() if count > 1]:
        raise OutputError(f"two methods, targets or layers would write the same file '{twice[0]}'")


def check_inputs(
    folder: AnyPath,
    sources: Sequence[Source],
    results: Sequence[Wanted],
    picture_format: str = "png",
    naming: str = "flat",
) -> None:
    """Raise OutputError if a result has the file name of an input."""
    found = Listing.of(sources)
    inputs = {*_names_below(f"{canonical(folder).rstrip('/')}/", found)}
    kinds = [*itertools.product(results, OUTPUTS)]
    for source in found if inputs else ():
        for name in (name_of(source, *kind, picture_format, naming) for kind in kinds):
            if name in inputs:
                raise OutputError(
                    f"'{folder / name}' is an input and would be written over: name another folder"
                )


def _names_below(top: str, found: Listing) -> Iterator[str]:
    """Yield the paths of images below the folder `top`, with links resolved."""
    resolved = lru_cache(os.path.realpath)
    for folder, names in found.parts():
        places: Iterable[str]
        if folder.root is None and folder.links is False and names[0]:
            place = f"{resolved(folder.path or '.')}/"
            places = map(place.__add__, names) if place.startswith(top) else ()
        else:
            places = (_resolved(folder.source(name).path) for name in names)
        yield from (path.removeprefix(top) for path in places if path.startswith(top))


def _resolved(path: AnyPath) -> str:
    """Return the place of a file. A link is resolved, and the folders of any other local file."""
    if isinstance(path, RemotePath) or os.path.islink(path):
        return canonical(path)
    return f"{os.path.realpath(path.parent)}/{path.name}"


def unique_stems(sources: Sequence[Source], rows: Rows | None = None) -> Listing:
    """Return the sources, where those keep their suffix whose files would have another's names.

    `rows` are those of the output folder, whose images keep the names of their files. Raises
    OutputError for names that would still be the same.
    """
    found = Listing.of(sources)
    stems = Hashes(found.stems(), len(found))
    shared = stems.repeated(found.stems) | (_taken(found, stems, rows) if rows else set())
    whole = found.whole.copy()
    for index, stem in enumerate(found.stems() if shared else ()):
        if stem in shared and not whole[index]:
            whole[index] = _keeps_suffix(found[index], rows)
    if not whole.any():
        return found
    # An image may be named `3.png.jpg` beside `3.png`.
    kept = {*itertools.compress(found.keeping(whole).stems(), whole.tolist())}
    whole |= np.fromiter((stem in kept for stem in found.stems()), np.bool_, len(found))
    found = found.keeping(whole)
    for stem in repeated(found.stems, len(found)):
        alike = (index for index, other in enumerate(found.stems()) if other == stem)
        one, other, *_ = (found[index].path for index in alike)
        raise OutputError(
            f"'{one}' and '{other}' would write the same files: "
            f"explain them into two output folders"
        )
    return found


def _taken(found: Listing, stems: Hashes, rows: Rows) -> set[str]:
    """Return the stems of images that have rows, but are not in the list.

    Stems that no image of the list has are left out.
    """
    taken = set[str]()
    if next(rows.images(), None) is None:
        return taken
    own = Hashes(found.images(), len(found))
    if own.contain_all(name for names in rows.images() for name in names):
        return taken
    for names in rows.images():
        for name in itertools.compress(names, ~own.contain(names)):
            stem = without_suffix(name)
            if stems.contain([stem])[0] and rows.of_image(name):
                taken.add(stem)
    return taken


def _keeps_suffix(source: Source, rows: Rows | None) -> bool:
    """Return whether an image keeps its suffix whose stem another image has.

    One that has files keeps their names.
    """
    of_image = rows.of_image(source.image) if rows else ()
    files = [file for row in of_image for file in named_files(row).values()]
    return not files or _has_suffix(source, files[0])


def _has_suffix(source: Source, file: str) -> bool:
    """Return whether an earlier file of an image has its suffix in the name."""
    name, whole = split_name(file)[1], source.with_suffix()
    return any(name.startswith(f"{stem_of(whole, naming)}.") for naming in NAMINGS)
