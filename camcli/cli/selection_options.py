"""The images of `camcli explain`, and the names of the files that it would write."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import click

from camcli.cli import DONE
from camcli.cli.input_options import recursive_option
from camcli.cli.options import grouped, rare, record, texts_option
from camcli.cli.printing import echo, show_name
from camcli.errors import CamcliError
from camcli.images.find import find
from camcli.images.listing import Listing
from camcli.images.select import filter_sources, read_list
from camcli.images.source import Source
from camcli.images.store import AnyPath
from camcli.methods.registry import AUTO
from camcli.runs.names import (
    check_inputs,
    check_results,
    every_result,
    name_of,
    unique_stems,
)
from camcli.runs.options import DrawingOptions, ExplainOptions, TruthOptions
from camcli.runs.resume import all_rows
from camcli.runs.shards import Shard, shard_of


@dataclass(frozen=True)
class Selection:
    """The choice of images in addition to PATHS."""

    from_file: str | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    recursive: bool = True
    shard: str | None = None


selection_options = record(
    Selection,
    "selection",
    recursive_option,
    grouped(
        "Input",
        texts_option("--include", "GLOB", "Only images that match; repeatable."),
        texts_option("--exclude", "GLOB", "No images that match; repeatable."),
        click.option(
            "--from-file",
            metavar="LIST",
            help="Also explain the paths listed in a file, or in standard input for -: one per "
            "line, or separated by NULs.",
        ),
    ),
    rare(
        grouped(
            "Speed",
            click.option(
                "--shard",
                metavar="I/N",
                help="Only every N-th batch, starting at batch I; see camcli merge.",
            ),
        )
    ),
)


def selected_images(
    paths: Sequence[str], selection: Selection, output: AnyPath, batch_size: int
) -> tuple[Listing, Shard | None]:
    """Return the images to explain and their shard, if there is one. Raises CamcliError."""
    listed = selection.from_file
    if not paths and not listed:
        raise CamcliError("no PATHS: expected files, folders, globs, - or --from-file LIST")
    given = itertools.chain(paths, read_list(listed) if listed else ())
    found = find(given, recursive=selection.recursive, skip=output)
    sources = filter_sources(found, selection.include, selection.exclude)
    if not sources:
        raise CamcliError(f"no images in {', '.join(paths) or listed}: nothing to do")
    if selection.shard is None:
        return sources, None
    # Before sharding, since shards may share a folder.
    return shard_of(unique_stems(sources), selection.shard, batch_size)


_NO_NAME = re.compile(r"pred|true|finer|not|[+-]?score|top\d+|\d+|p *>.*")
"""Targets that are no names of classes."""


def _split(targets: Sequence[str]) -> Iterator[str]:
    """Yield targets of which some are lists with commas. Raises CamcliError for names in a list."""
    for text in targets:
        parts = [part.strip() for part in text.split(",")]
        if len(parts) > 1 and not all(map(_NO_NAME.fullmatch, parts)):
            raise CamcliError(
                f"--dry-run: whether '{text}' is one class or several depends on the network: "
                "expected one --target for each"
            )
        yield from parts if len(parts) > 1 else [text]


def print_names(
    sources: Sequence[Source],
    output: AnyPath,
    explained: ExplainOptions,
    truth: TruthOptions,
    drawing: DrawingOptions,
) -> int:
    """Print the files that a run would write, and return the exit code. Raises CamcliError."""
    if truth.only:
        raise CamcliError(f"--dry-run: the images of --only '{truth.only[0]}' depend on classes")
    if AUTO in explained.methods:
        raise CamcliError(f"--dry-run: the files of --method {AUTO} depend on the network")
    explained = replace(explained, targets=tuple(_split(explained.targets)))
    every = explained.every_target
    if several := next((one for one in every if re.match("p *>|.+#([0-9]+|all)$", one)), None):
        raise CamcliError(
            f"--dry-run: the files of target '{several}' depend on what is in the images"
        )
    if drawing.save_to == "tar":
        raise CamcliError("--dry-run: the tars of --save-to tar depend on the sizes of files")
    layers = [None if path == "auto" else path for path in dict.fromkeys(explained.layers)]
    methods, targets = dict.fromkeys(explained.methods), dict.fromkeys(explained.targets)
    results = every_result([*methods], [*targets], layers, explained.fuse)
    check_results(results)
    sources = unique_stems(sources, all_rows(output))
    check_inputs(output, sources, results, drawing.format, drawing.layout)
    for source, wanted, kind in itertools.product(sources, results, drawing.saves):
        name = name_of(source, wanted, kind, drawing.format, drawing.layout)
        echo(f"{show_name(source.path)} -> {show_name(output / name)}")
    return DONE
