"""Run a job without its network: `python -m tests.soak.dry PHOTOS OUTPUT MODE IMAGES`.

The images are listed, their names checked and the rows of the first IMAGES recorded, as by `camcli
explain`. They are neither read nor explained, and all rows name one map. The mode `rows` writes
rows of all images, `kept` looks them up as `--skip-existing` does, and `new` makes new ones. Prints
the images listed and run, the seconds from the start of the process to the first image and to the
end, each with those of CPU, and the bytes of memory for each image beyond those of the imports.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path

import camcli
from camcli.images.find import find
from camcli.images.listing import Listing
from camcli.runs.files import to_json
from camcli.runs.index import ImageLines
from camcli.runs.items import Unchanged
from camcli.runs.job import Job
from camcli.runs.manifest import MANIFEST, Row, write_manifest
from camcli.runs.options import RunOptions
from camcli.runs.pipeline import RowSink, run
from camcli.runs.rows import Rows
from tests.soak.records import example_row

MAP = "map.npy"
"""The file that all rows name."""
Moment = tuple[float, float]


def moment() -> Moment:
    """Return the seconds since the process started, and those of CPU that it took."""
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    since = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / 100
    return since, time.process_time()


def peak() -> int:
    """Return the highest memory of this process in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def main(photos: str, output: Path, mode: str, images: int) -> None:
    """Run the job, and print its figures. With the mode `rows`, only write the manifest."""
    output.mkdir(exist_ok=True)
    (output / MAP).touch()
    model, first, kept = camcli.load("mini"), list[Moment](), mode == "kept"
    imported = peak()

    def explained(job: Job, earlier: Rows, on_late: RowSink) -> Generator[list[Row], None, None]:
        for number, source in enumerate(itertools.islice(job.sources, images)):
            known = Unchanged(earlier.of_image(source.image) if kept else ())
            if number == 0:
                first.append(moment())
            digest = f"{job.settings}-{number:016x}"
            assert known or not kept
            yield known or [example_row(number) | row_of(source.image, digest)]

    options = RunOptions(skip_existing=kept)
    job = Job(find([photos], skip=output), model, ["gradcam"], ["pred"], output, options=options)
    if mode == "rows":
        write_manifest(output / MANIFEST, job.settings, rows_of(job))
        return
    with closing(run(job, explained)) as found:
        count = sum(1 for _ in found)
    figures = len(job.sources), count, first[0], moment(), (peak() - imported) / len(job.sources)
    print(json.dumps(figures))  # noqa: T201


def row_of(image: str, digest: str) -> Row:
    """Return the fields of a row that depend on the image and the run."""
    return {"image": image, "map": MAP, "digest": digest}


def rows_of(job: Job) -> Iterator[ImageLines]:
    """Yield the images of a job, and a line for each."""
    end = to_json(example_row(0) | row_of("", f"{job.settings}-{0:016x}"))
    end = end.removeprefix(b'{"image": ""')
    for image in Listing.of(job.sources).images():
        yield image, [b'{"image": ' + to_json(image)[:-1] + end]


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
