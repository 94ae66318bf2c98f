"""Damaged records, end to end: the commands that read folders raise only CamcliError.

And only regular files are opened: a named pipe or a device never blocks a command.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from camcli.audit.read import Selection, read_samples
from camcli.audit.record import audit_record
from camcli.audit.tables import audit_lines
from camcli.errors import CamcliError, printable
from camcli.models.load import load
from camcli.report.audit_page import audit_page
from camcli.report.compare_page import Compared, compare_page
from camcli.report.contents import Contents, ReportOptions, collect
from camcli.report.page import page_data, render_page
from camcli.runs import pipeline, resume
from camcli.runs.files import to_json
from camcli.runs.job import Job
from camcli.runs.manifest import parse_row, read_run
from camcli.runs.merge import merge
from camcli.runs.records import RUN_RECORD
from camcli.runs.shards import shard_of
from camcli.snapshots import agreement_tables, tables
from camcli.snapshots.accept import accept
from camcli.snapshots.agreement import Agreement
from camcli.snapshots.compare import compare
from camcli.snapshots.measures import Tolerance
from camcli.snapshots.networks import contrasts
from tests.support.audit import blob, result, write_heat
from tests.support.command import Run, stderr
from tests.support.files import manifest
from tests.support.jobs import changed, make_job
from tests.support.report import make_evaluation
from tests.support.snapshots import PEAK, write_output
from tests.support.training import write_model_folder

hypothesis = pytest.importorskip("hypothesis")
from hypothesis import given, settings  # noqa: E402 - after the check
from hypothesis import strategies as st  # noqa: E402

from tests.support.records import HOSTILE, damaged  # noqa: E402

fuzz = settings(
    max_examples=60, deadline=None, database=None, derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_output(tmp_path / "out", {"a.jpg": PEAK, "sub/b.jpg": PEAK})


def one_line(action: Callable[[], object]) -> str:
    """Run an action, and return the line of its CamcliError, or an empty text."""
    line = ""
    try:
        action()
    except CamcliError as error:
        line = str(error) or "an empty line"
    assert "\n" not in line
    return line


def compare_all(new: Path, old: Path) -> None:
    found = compare(new, old, Tolerance())
    tables.difference_table(found)
    for one in found:
        tables.json_row(one)


def page_of(folder: Path, **options: Path) -> Contents:
    contents = collect(folder, folder / "report.html", ReportOptions(workers=1, **options), _same)
    render_page(page_data(contents))
    return contents


def _same(originals: Iterator[object], _: int) -> Iterator[object]:
    return originals


def compare_networks(a: Path, b: Path) -> None:
    """Compare two folders as networks, and write the page."""
    runs = read_run(a)[0], read_run(b)[0]
    agreement = Agreement(runs, keep=9)
    for one in contrasts(a, b):
        agreement.add(one)
        to_json(agreement_tables.json_row(one))
    record = agreement.record()
    to_json(record)
    agreement_tables.method_lines(record)
    agreement_tables.contrast_lines(agreement.most, printable)
    compared = Compared((a, b), runs, record, agreement.most, [*agreement.warnings()])
    pictures = compared.painter([], 1).draw_all(compared.most, 1)
    compare_page(compared, pictures, 1)


def audit_folder(folder: Path) -> None:
    """Audit the maps of a method, and write the text and the page."""
    samples = read_samples(folder, Selection("gradcam", "pred"))
    record = audit_record(samples, read_run(folder)[0])
    to_json(record)
    list(audit_lines(record))
    audit_page(record, samples.examples, folder, folder / "audit.html", [], 1)


def add_line(folder: Path, text: str) -> None:
    lines = (folder / "manifest.jsonl").read_text().splitlines()[:2]
    (folder / "manifest.jsonl").write_text("\n".join([*lines, text, ""]))


def is_row(text: str) -> bool:
    try:
        parse_row(text)
    except ValueError:
        return False
    return True


@fuzz
@given(text=damaged("row"))
def test_a_damaged_row_of_check_and_report(text: str, folder: Path, tmp_path: Path) -> None:
    good = write_output(tmp_path / "good", {"a.jpg": PEAK, "sub/b.jpg": PEAK})
    add_line(folder, text)
    for new, old in ((folder, good), (good, folder)):
        for action in (compare_all, compare_networks):
            line = one_line(partial(action, new, old))
            assert f"'{folder}/manifest.jsonl' line 3: " in line or is_row(text)
    one_line(lambda: accept(folder, tmp_path / "copy"))
    contents: list[Contents] = []
    if not one_line(lambda: contents.append(page_of(folder))):
        assert contents[0].folder.unread == (not is_row(text))


@fuzz
@given(text=damaged("row"))
def test_a_damaged_row_of_audit(text: str, folder: Path) -> None:
    rows = [result(f"{name}/{number}.png", blob(0.5, 0.5)) for name in "ab" for number in range(8)]
    write_heat(folder, rows)
    (folder / "a").mkdir(exist_ok=True)
    np.save(folder / "a" / "b.npy", PEAK)
    with (folder / "manifest.jsonl").open("a") as manifest:
        manifest.write(f"{text}\n")
    line = one_line(partial(audit_folder, folder))
    assert f"'{folder}/manifest.jsonl' line 17: " in line or is_row(text)


@fuzz
@given(text=damaged("row"))
def test_a_damaged_row_of_compare(text: str, folder: Path) -> None:
    """Compare a row with itself, so that its numbers are used."""
    (folder / "a").mkdir(exist_ok=True)
    np.save(folder / "a" / "b.npy", PEAK)
    add_line(folder, text.replace('"words": [["yes", 0.5]]', '"words": null'))
    one_line(lambda: compare_networks(folder, folder))


@fuzz
@given(data=st.data())
@pytest.mark.parametrize("name", ["run", "change", "metrics"])
def test_damaged_records_of_a_report(name: str, data: st.DataObject, folder: Path) -> None:
    make_evaluation(folder)
    file = {"run": "run.json", "change": "check.jsonl", "metrics": "metrics.json"}[name]
    (folder / file).write_text(data.draw(damaged(name)))
    one_line(lambda: page_of(folder))
    one_line(lambda: compare_networks(folder, folder))


@fuzz
@given(text=damaged("card"))
def test_damaged_cards(text: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.rmtree(folder, ignore_errors=True)
    write_model_folder(folder, ["a", "b"])
    (folder / "model.json").write_text(text)
    one_line(lambda: load(str(folder)))


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return make_job(tmp_path, {f"{i}.jpg": (60, 50) for i in range(3)}, batch_size=2, workers=1)


@fuzz
@given(data=st.data())
@pytest.mark.parametrize("name", ["row", "shard"])
def test_damaged_records_of_a_merge(
    name: str, data: st.DataObject, job: Job, tmp_path: Path
) -> None:
    if not (whole := tmp_path / "whole").exists():
        for number in (1, 2):
            sources, shard = shard_of(job.sources, f"{number}/2", 2)
            list(pipeline.run(changed(job, sources=sources, shard=shard, output=whole)))
    shutil.rmtree(shards := tmp_path / "shards", ignore_errors=True)
    shutil.copytree(whole, shards)
    file = "shards/2-of-2.manifest.jsonl" if name == "row" else "shards/2-of-2.run.json"
    (shards / file).write_text(data.draw(damaged(name)) + "\n")
    one_line(lambda: merge([shards], tmp_path / "merged"))


@pytest.mark.filterwarnings("ignore::camcli.errors.CamcliWarning")  # lines that are no rows
@fuzz
@given(text=damaged("row"), how=st.sampled_from(["skip_existing", "overwrite"]))
def test_damaged_rows_are_explained_again(text: str, how: str, job: Job) -> None:
    shutil.rmtree(job.output, ignore_errors=True)
    list(pipeline.run(job))
    rows = manifest(job.output)
    (job.output / "manifest.jsonl").write_text(
        "".join(f"{line}\n" for line in [json.dumps(rows[0]), text, "", json.dumps(rows[2])])
    )
    (job.output / "run.json").write_text(text)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "lines of the manifest that hold no row are left out: 1")
        if not one_line(lambda: list(pipeline.run(changed(job, **{how: True})))):
            assert manifest(job.output) == rows


def test_a_folder_of_other_settings_with_a_damaged_record(job: Job) -> None:
    list(pipeline.run(job))
    for text in HOSTILE:
        (job.output / "run.json").write_text(text)
        line = one_line(lambda: list(pipeline.run(changed(job, fit="squash"))))
        assert "holds results of another run" in line
    record = {"model": "a\nb", "weights": "w", "layers": ["x\n"], "fit": "preset"}
    unknown = {name: [["y\n"] * 9] * 999 for name in resume.SETTINGS}
    record = unknown | dict.fromkeys(RUN_RECORD.optional) | record
    (job.output / "run.json").write_text(json.dumps(record))
    line = one_line(lambda: list(pipeline.run(changed(job, fit="squash"))))
    assert "another run (a b, w, layer x ; " in line
    assert len(line) < 800 + len(str(job.output))


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"count": 999_999_999}, "999999998 of 999999999 shards missing: 2, 3, 4, 5, 6, 7, 8, 9,"),
        ({"count": 2**60}, "shard.count is 1152921504606846976, expected a whole number from 1"),
        ({"number": 0}, "shard.number is 0, expected a whole number from 1"),
        ({"number": 7}, "is of shard 7-of-1: expected a number up to 1"),
        ({"images": -1}, "shard.images is -1"),
        ({"images": 10**15}, "has 3 of its 1000000000000000 images"),
        ({"names": ["a"]}, 'shard.names is ["a"], expected text'),
    ],
)
def test_a_shard_of_absurd_numbers(
    record: dict[str, object], message: str, job: Job, tmp_path: Path
) -> None:
    sources, shard = shard_of(job.sources, "1/1", 2)
    list(pipeline.run(changed(job, sources=sources, shard=shard)))
    file = job.output / "shards" / "1-of-1.run.json"
    known = json.loads(file.read_text())
    file.write_text(json.dumps(known | {"shard": known["shard"] | record}))
    assert message in one_line(lambda: merge([job.output], tmp_path / "merged"))
    for batch_size in (0, 2**70, 1.5, None, "2"):
        file.write_text(json.dumps(known | {"batch_size": batch_size}))
        line = one_line(lambda: merge([job.output], tmp_path / "merged"))
        assert "batch_size" in line


@pytest.fixture(params=["pipe", "device"])
def irregular(request: pytest.FixtureRequest) -> Iterator[Callable[[Path], None]]:
    """A function that puts a named pipe or an endless device in the place of a file.

    A command that would read it for ever is stopped after a while.
    """

    def make(file: Path) -> None:
        file.unlink(missing_ok=True)
        if request.param == "pipe":
            os.mkfifo(file)
        else:
            file.symlink_to("/dev/zero")

    def stop(*_: object) -> None:
        raise TimeoutError("the command waits for a pipe, or reads a device")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(20)
    yield make
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("name", ["manifest.jsonl", "run.json", "a.gradcam.npy", "check.jsonl",
                                  "metrics.json", "scores.csv", "deletion.png"])  # fmt: skip
def test_no_command_waits_for_a_file_of_a_folder(
    name: str, run: Run, folder: Path, tmp_path: Path, irregular: Callable[[Path], None]
) -> None:
    good = write_output(tmp_path / "good", {"a.jpg": PEAK, "sub/b.jpg": PEAK})
    irregular(folder / name)
    for arguments in (
        ("check", folder, good),
        ("check", good, folder, "--diff", tmp_path / "diff"),
        ("check", folder, tmp_path / "kept", "--update"),
        ("compare", folder, good, "--output", tmp_path / "out"),
        ("compare", good, folder, "--json"),
        ("report", folder),
        ("report", good, "--check", folder / name),
        ("report", good, "--evaluation", folder),
    ):
        found = run(*arguments)
        assert found.exit_code in (0, 1, 2, 3)
        assert "Traceback" not in stderr(found)


@pytest.mark.parametrize("name", ["1-of-1.manifest.jsonl", "1-of-1.run.json"])
def test_no_merge_waits_for_a_file(
    name: str, run: Run, job: Job, irregular: Callable[[Path], None]
) -> None:
    sources, shard = shard_of(job.sources, "1/1", 2)
    list(pipeline.run(changed(job, sources=sources, shard=shard)))
    irregular(job.output / "shards" / name)
    found = run("merge", job.output)
    assert found.exit_code == 2
    assert len(stderr(found).splitlines()) == 1


@pytest.mark.parametrize("name", ["model.json", "weights.safetensors", "labels.txt", "w.pt"])
def test_no_command_waits_for_a_file_of_a_model(
    name: str, run: Run, photo: Path, tmp_path: Path, irregular: Callable[[Path], None]
) -> None:
    folder = write_model_folder(tmp_path / "model", ["a", "b"])
    irregular(folder / name)
    weights = ["--weights", folder / name] if name == "w.pt" else []
    output = ["--output", tmp_path / "out", "--device", "cpu"]
    found = run("explain", photo, "--model", folder, *weights, *output)
    assert found.exit_code == 2
    assert len(stderr(found).splitlines()) == 1


@pytest.mark.parametrize("name", ["manifest.jsonl", "run.json", ".camcli-1.manifest.jsonl"])
@pytest.mark.parametrize("how", ["skip_existing", "overwrite"])
def test_no_run_waits_for_earlier_records(
    name: str, how: str, job: Job, irregular: Callable[[Path], None]
) -> None:
    list(pipeline.run(job))
    rows = manifest(job.output)
    irregular(job.output / name)
    line = one_line(lambda: list(pipeline.run(changed(job, **{how: True}))))
    assert line or manifest(job.output) == rows
