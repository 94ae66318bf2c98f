"""Run a job and show its progress and results."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

import click

from camcli.cli import DONE, SOME_FAILED, terminal
from camcli.cli.printing import echo, echo_json, show_name
from camcli.cli.show import ShowOptions
from camcli.errors import CamcliError, printable
from camcli.images.decode import STDIN, decode
from camcli.images.store import AnyPath
from camcli.runs.files import to_json
from camcli.runs.options import DrawingOptions
from camcli.runs.outputs import first_file, named_files

if TYPE_CHECKING:
    from tqdm import tqdm

    from camcli.runs.job import Job
    from camcli.runs.pipeline import Executor


def checked_preview(show: ShowOptions, drawing: DrawingOptions) -> ShowOptions:
    """Return the options, without a preview if the terminal cannot show one, and print a note.

    Raises CamcliError if the overlay is not saved as a file.
    """
    if not show.preview:
        return show
    if "overlay" not in drawing.saves:
        raise CamcliError("--preview draws the overlay: add overlay to --save")
    if drawing.save_to == "tar":
        raise CamcliError("--preview reads files, and a tar is not complete yet: leave out one")
    refused = terminal.refusal(sys.stderr, os.environ)
    if refused and not show.quiet:
        echo(f"Note: no preview: {refused}", err=True)
    return replace(show, preview=not refused)


def progress_bar(images: int, quiet: bool) -> tqdm[NoReturn]:
    """Return a progress bar on standard error, hidden where that is not a terminal."""
    from tqdm import tqdm  # not at the top: --help stays quick

    hidden = quiet or not sys.stderr.isatty()
    return tqdm(total=images, unit="image", leave=False, disable=hidden)


def echo_error(error: object) -> None:
    """Print an error in one line on standard error."""
    echo(f"Error: {error}", err=True)


def shown(job: Job, show: ShowOptions, executor: Executor | None = None) -> int:
    """Run a job, print its rows as JSON or as text, and return the exit code."""
    from camcli.runs.accuracy import accuracy
    from camcli.runs.items import LeftOut
    from camcli.runs.pipeline import run

    counts, right, left_out = Counter[str](), Counter[str](), 0
    files: list[str] = []
    bar = progress_bar(len(job.sources), show.quiet)
    with bar as progress, closing(run(job, executor)) as images:
        for rows in images:
            counts.update({row["status"] for row in rows})  # of images, not of results
            right.update(accuracy(rows))
            left_out += isinstance(rows, LeftOut)
            progress.clear()
            _print_rows(rows, job.output, show)
            files += [
                name for row in rows for name in named_files(row).values() if len(job.sources) == 1
            ]
            progress.update()
            if show.fail_fast and any(row["error"] for row in rows):
                break
    if not show.quiet:
        _print_summary(job, counts, files)
        if job.truth or job.only:
            line = closing_line(right if job.truth else None, left_out if job.only else None)
            echo(line, err=show.json)
    return SOME_FAILED if counts["error"] else DONE


def summary_line(numbers: Mapping[str, int], output: object, counts: Mapping[str, int]) -> str:
    """Return the numbers of things by noun, the output, and the counts of failures in one line.

    `counts` are by the status of a manifest row.
    """
    words = {"error": "failed", "empty": "with an empty map"}
    done = ", ".join(f"{n} {noun}" if n == 1 else f"{n} {noun}s" for noun, n in numbers.items())
    bad = ", ".join(f"{counts[one]} {word}" for one, word in words.items() if counts[one])
    return f"{done} -> {output}" + (f" ({bad})" if bad else "")


def closing_line(right: Mapping[str, int] | None, left_out: int | None) -> str:
    """Return the shares of right predictions and the number of images left out in one line.

    `right` are counts as `accuracy` gives them. Either is None where the user did not ask for it.
    """
    parts = [] if right is None else [_shares(right)]
    if left_out is not None:
        parts.append("1 image left out" if left_out == 1 else f"{left_out} images left out")
    return ", ".join(parts)


def _shares(right: Mapping[str, int]) -> str:
    images, top1 = right["images"], right["top1"]
    if not images:
        return "no image with a true class"
    best = [number for number in (1, 5) if f"top{number}" in right]
    shares = ", ".join(f"top-{number} {right[f'top{number}'] / images:.1%}" for number in best)
    nouns = "images" if images > 1 else "image"
    return f"{images} {nouns} with a true class: {shares}, {images - top1} wrong"


def _lines(row: dict[str, Any], output: AnyPath) -> list[str]:
    """Return a result as text: image, method, class or text, file; then the network's own texts."""
    file, line = first_file(row), f"{show_name(row['image'])}  {row['method']}  {_explained(row)}"
    line += f"  {show_name(output / file)}" if file else ""
    line += "".join(f"  box {','.join(map(str, box))}" for box in row["boxes"] or ())
    if row["status"] == "empty":
        line += "  (empty: the map is zero everywhere)"
    texts = row.get("answers") or row.get("words") or ()
    said = "  ".join(f"{text} {probability:.1%}" for text, probability in texts)
    return [line, f"    {said}"] if said else [line]


def _explained(row: dict[str, Any]) -> str:
    """Return the explained class or text with its probability, or the target with its score."""
    if row["score"] is None:
        nothing = "object" if row["target"].endswith("#") else "class"
        return f"no {nothing} with {row['target']}"
    if row["probability"] is None:
        return f"{row['class_name'] or row['target']} ({row['score']:.4g})"
    marks = ", unsure" if row.get("unsure") else ""
    marks += ", wrong" if row.get("correct") is False and row["target"] == "pred" else ""
    name = row["class_name"] or f"class {row['class_index']}"
    return f"{name} ({row['probability']:.1%}{marks})"


def _print_rows(rows: Sequence[dict[str, Any]], output: AnyPath, show: ShowOptions) -> None:
    for error in dict.fromkeys(row["error"] for row in rows if row["error"]):
        echo_error(error)
    for row in rows:
        if show.json:
            echo_json(to_json(row))
        elif not show.quiet and not row["error"]:
            for line in _lines(row, output):
                echo(line)
        if show.preview and row["overlay"]:
            pixels, size = decode(output / row["overlay"]), terminal.size_of(sys.stderr)
            drawn = terminal.picture(pixels, terminal.protocol(os.environ), size)
            click.echo(drawn, nl=False, err=True)


def _print_summary(job: Job, counts: Counter[str], files: Sequence[str]) -> None:
    alone = len(job.sources) == 1 and sys.stderr.isatty() and not counts["error"]
    if alone:
        _show_classes(job)
    output = show_name(job.output, err=True)
    echo(summary_line({"image": len(job.sources)}, output, counts), err=True)
    for file in files if alone else ():
        echo(f"  {show_name(file, err=True)}", err=True)


def _show_classes(job: Job) -> None:
    """Print the most probable classes of a single image as bars, if the network has classes."""
    from camcli.runs.items import Loaded
    from camcli.runs.pipeline import load_image
    from camcli.runs.worker import best_classes

    (source,) = job.sources
    if source.path == STDIN or job.model.task == "language":  # standard input is read only once
        return
    loaded = load_image(job, source)
    if not isinstance(loaded, Loaded):
        return
    best = best_classes(job, loaded, 5)
    shares = [(printable(label), share) for label, share in best if share >= 0.001]
    width, blocks = terminal.size_of(sys.stderr)[0], terminal.has_blocks(sys.stderr)
    for bar in terminal.bars(shares, width, blocks=blocks) if shares else ():
        echo(bar, err=True)
