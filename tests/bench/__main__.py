"""`python -m tests.bench`: measure, print a table, and write bench.json."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Iterable
from dataclasses import asdict, replace
from datetime import date
from pathlib import Path
from typing import Any

import click
import torch
import torchvision

from camcli.render.names import FORMATS
from camcli.speed import keep_freed_memory
from tests.bench.clock import Measurement
from tests.bench.sections import SECTIONS
from tests.bench.workload import QUICK, SAMPLES, Workload

HEADER = "| section | case | what | median | ratio | goal |\n|---|---|---|---|---|---|"


@click.command()
@click.argument("section", nargs=-1, type=click.Choice(list(SECTIONS)))
@click.option("--quick", is_flag=True, help="Do the least that shows that it runs.")
@click.option("--repeats", type=click.IntRange(1), help="Number of rounds.")
@click.option(
    "--model", multiple=True, help="Model to measure instead of a section's own; repeatable."
)
@click.option("--device", default="cpu", show_default=True)
@click.option(
    "--photos",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=SAMPLES,
    help="Folder of JPEG files for the command; the sample images by default.",
)
@click.option(
    "--format",
    "picture_format",
    type=click.Choice(FORMATS),
    default="png",
    help="Format of the pictures that `files` writes.",
)
@click.option("--json", "file", type=click.Path(path_type=Path), default="bench.json")
def bench(
    section: tuple[str, ...],
    quick: bool,
    repeats: int | None,
    model: tuple[str, ...],
    device: str,
    photos: Path,
    picture_format: str,
    file: Path,
) -> None:
    """Measure SECTIONs; all of them by default."""
    keep_freed_memory()  # as the command does, so that forward passes are as fast
    work = replace(QUICK if quick else Workload(), device=device, photos=photos)
    work = replace(work, repeats=repeats or work.repeats, models=model or work.models)
    work = replace(work, format=picture_format)
    about = machine(device)
    click.echo(" · ".join(map(str, about.values())) + "\n")
    rows = list(_printed(row for name in section or SECTIONS for row in SECTIONS[name](work)))
    report = {"machine": about, "quick": quick, "rows": [asdict(row) for row in rows]}
    file.write_text(json.dumps(report, indent=2) + "\n")


def machine(device: str) -> dict[str, Any]:
    """Describe the machine and the versions, which belong to each figure."""
    gpu = {"gpu": torch.cuda.get_device_name()} if device.startswith("cuda") else {}
    return {
        "date": date.today().isoformat(),
        "processor": _processor(),
        "threads": f"{torch.get_num_threads()} threads",
        "simd": torch.backends.cpu.get_cpu_capability(),
        **gpu,
        "torch": f"torch {torch.__version__}",
        "torchvision": f"torchvision {torchvision.__version__}",
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    known = info.read_text() if info.exists() else ""
    found = re.search(r"^model name\s*: (.+)", known, re.MULTILINE)
    return found[1] if found else platform.processor() or platform.machine()


def _printed(rows: Iterable[Measurement]) -> Iterable[Measurement]:
    """Print each row when it is measured, and yield it."""
    click.echo(HEADER)
    for row in rows:
        median = f"{row.median:.4g} {row.unit}"
        cells = row.section, row.case, row.what, median, f"{row.ratio:.3f}", row.goal
        click.echo("| " + " | ".join(cells) + " |")
        yield row


if __name__ == "__main__":
    bench()
