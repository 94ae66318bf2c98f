"""`python -m tests.bench.plan`: what a run over many photos takes, and what it costs.

The plan is calculated from the figures of `python -m tests.bench stages`, which bench.json holds.
Nothing is measured here. All prices are parameters, and their defaults are examples.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import click

PART_BYTES = 10_000_000
"""The bytes of one PUT. A larger file takes one for each part, and two more."""
COLUMNS = (1, 8, 64)
"""The numbers of GPUs in the table of resources."""


class Shape(NamedTuple):
    """A machine: its cores, its GPUs, and its price for an hour."""

    cores: int
    gpus: int
    price: float


@dataclass(frozen=True)
class Costs:
    """Seconds of a core per photo, and bytes per photo. `written` counts pictures and maps."""

    network: float
    read: float
    write: float
    list: float
    manifest: float
    bytes_read: float
    bytes_written: float
    files: int

    @property
    def beside(self) -> float:
        """The seconds of a core for reading and writing."""
        return self.read + self.write

    def rate(self, shape: Shape, gpu_rate: float) -> tuple[float, str]:
        """Return the photos per second of a machine, and what limits it."""
        if not shape.gpus:
            return shape.cores / (self.beside + self.network), "network on cores"
        drawn, explained = shape.cores / self.beside, shape.gpus * gpu_rate
        return (drawn, "cores for files") if drawn < explained else (explained, "GPUs")

    def puts(self, per_tar: int) -> float:
        """Return the PUT requests per photo: one per file, or those of tars of `per_tar` photos."""
        if not per_tar:
            return self.files
        size = per_tar * self.bytes_written
        return (1 if size <= PART_BYTES else 2 + math.ceil(size / PART_BYTES)) / per_tar


@dataclass(frozen=True)
class Prices:
    """The prices of a store: of 1000 PUT or GET requests, and of a TB for a month."""

    put: float
    get: float
    storage: float

    def million(self, costs: Costs, per_tar: int) -> tuple[float, float]:
        """Return the prices of a million photos: requests, and a month of the results."""
        requests = 1000 * (self.put * costs.puts(per_tar) + self.get * 2)  # HEAD and GET
        return requests, self.storage * costs.bytes_written * 1e6 / 1e12


def read_costs(file: Path, model: str, saves: Sequence[str]) -> Costs:
    """Return the costs that `stages` has measured. Raises click.ClickException."""
    try:
        rows = [row for row in json.loads(file.read_text())["rows"] if row["section"] == "stages"]
    except OSError as error:
        raise click.ClickException(f"{error}: run python -m tests.bench stages first") from None
    found = {row["what"]: row["median"] / 1e3 for row in rows if row["case"].startswith(model)}
    sizes = {row["what"]: row["median"] * 1e3 for row in rows if row["case"] == "bytes"}
    if not found:
        raise click.ClickException(f"'{file}' has no stages of {model}")
    bytes_of = {"overlay": sizes["overlay, png"], "map": sizes["map"]}
    return Costs(
        network=found["explain"],
        read=found["read"],
        write=found["write, png"] if "overlay" in saves else 0.0,
        list=found["list"],
        manifest=found["manifest"],
        bytes_read=sizes["read"],
        bytes_written=sum(bytes_of[name] for name in saves),
        files=len(saves),
    )


def resources(costs: Costs, photos: float, gpu_rate: float, cpu_cores: int) -> Iterator[str]:
    """Yield the table of what a run needs, with GPUs and without."""
    yield "| | " + " | ".join(f"{n} GPU" for n in COLUMNS) + f" | {cpu_cores} cores, no GPU |"
    yield "|---" * (len(COLUMNS) + 2) + "|"
    cpu, _ = costs.rate(Shape(cpu_cores, 0, 0), gpu_rate)
    rates = [*(n * gpu_rate for n in COLUMNS), cpu]
    one_process = 1 / costs.manifest
    made = [min(rate, one_process) for rate in rates]
    table = {
        "photos per second": [f"{rate:.0f}" for rate in rates],
        "cores to read and write": [f"{rate * costs.beside:.1f}" for rate in rates],
        "MB/s from / to the store": [
            f"{rate * costs.bytes_read / 1e6:.0f} / {rate * costs.bytes_written / 1e6:.0f}"
            for rate in rates
        ],
        "requests per second, HEAD and GET / PUT": [
            f"{2 * rate:.0f} / {costs.files * rate:.0f}" for rate in rates
        ],
        "the process that writes the manifest": [f"{rate / one_process:.0%}" for rate in rates],
        f"hours for {photos:.3g} photos, and for their list": [
            f"{photos / rate / 3600:.1f} + {photos * costs.list / 3600:.1f}" for rate in made
        ],
    }
    for what, cells in table.items():
        yield f"| {what} | " + " | ".join(cells) + " |"


def prices(
    costs: Costs, shapes: Sequence[Shape], store: Prices, gpu_rate: float, tars: Sequence[int]
) -> Iterator[str]:
    """Yield the tables of prices: of machines, and of a store by the photos in a tar."""
    yield "| cores | GPUs | price/h | photos/s | limit | price per million photos |"
    yield "|---|---|---|---|---|---|"
    for shape in shapes:
        rate, limit = costs.rate(shape, gpu_rate)
        million = shape.price * 1e6 / rate / 3600
        cells = shape.cores, shape.gpus, f"{shape.price:g}", f"{rate:.0f}", limit, f"{million:.2f}"
        yield "| " + " | ".join(map(str, cells)) + " |"
    yield ""
    yield "| photos per tar | PUT per photo | requests per million photos | a month of results |"
    yield "|---|---|---|---|"
    for per_tar in (0, *tars):
        requests, storage = store.million(costs, per_tar)
        name = per_tar or f"no tar, {costs.files} files"
        yield f"| {name} | {costs.puts(per_tar):.3g} | {requests:.2f} | {storage:.2f} |"


@click.command()
@click.argument("file", type=click.Path(path_type=Path), default="bench.json")
@click.option("--photos", default=1e9, show_default=True)
@click.option("--model", default="resnet50", show_default=True, help="As measured by stages.")
@click.option("--gpu-rate", default=500.0, show_default=True, help="Photos per second of a GPU.")
@click.option("--cores", default=64, show_default=True, help="Of the column without a GPU.")
@click.option("--save", multiple=True, type=click.Choice(["overlay", "map"]))
@click.option(
    "--shape",
    multiple=True,
    type=(int, int, float),
    help="Cores, GPUs, price per hour; repeatable.",
)
@click.option("--put-price", default=0.005, show_default=True, help="Of 1000 PUT. An example.")
@click.option("--get-price", default=0.0004, show_default=True, help="Of 1000 GET. An example.")
@click.option("--storage-price", default=23.0, show_default=True, help="TB-month. An example.")
@click.option("--per-tar", multiple=True, type=int, help="Photos in a tar; repeatable.")
def plan(
    file: Path,
    photos: float,
    model: str,
    gpu_rate: float,
    cores: int,
    save: tuple[str, ...],
    shape: tuple[tuple[int, int, float], ...],
    put_price: float,
    get_price: float,
    storage_price: float,
    per_tar: tuple[int, ...],
) -> None:
    """Print the plan for PHOTOS photos from the figures in FILE."""
    costs = read_costs(file, model, save or ("overlay", "map"))
    shapes = [Shape(*one) for one in shape] or EXAMPLES
    store = Prices(put_price, get_price, storage_price)
    for line in resources(costs, photos, gpu_rate, cores):
        click.echo(line)
    click.echo("\nPrices are parameters; those that are not given are examples.\n")
    for line in prices(costs, shapes, store, gpu_rate, per_tar or (1000, 5000)):
        click.echo(line)


EXAMPLES = (Shape(2, 1, 0.8), Shape(8, 1, 1.5), Shape(96, 8, 12.0), Shape(16, 0, 0.8))
"""Machines with example prices."""

if __name__ == "__main__":
    plan()
