"""`camcli explain --truth`: the line on right predictions, and wrong usage."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from camcli.cli.progress import closing_line
from tests.support.command import Run, problems, refused, stderr, stdout
from tests.support.files import SAMPLES

LABELS = {"dog.jpg": "German_shepherd", "cat.jpg": "tabby", "duck.jpg": "cock"}
"""Photos with folders for them: the first is right, and the second among the five best."""
LINE = "3 images with a true class: top-1 33.3%, top-5 66.7%, 2 wrong"


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, label in LABELS.items():
        file = tmp_path / "photos" / label / name
        file.parent.mkdir(parents=True)
        file.write_bytes((SAMPLES / name).read_bytes())
    return tmp_path / "photos"


def test_the_line_ends_the_results(run: Run, photos: Path) -> None:
    found = run("explain", photos, "--truth", "folder", "--save", "map")
    assert found.exit_code == 0
    assert stdout(found).splitlines()[-1] == LINE
    assert len(stdout(found).splitlines()) == 4
    assert json.loads(Path("camcli-out/run.json").read_text())["accuracy"]["top1"] == 1


def test_json_is_rows_alone(run: Run, photos: Path) -> None:
    given = ("explain", photos, "--truth", "folder", "--save", "map")
    found = run(*given, "--json")
    rows = [json.loads(line) for line in stdout(found).splitlines()]
    assert [row["true_name"] for row in rows] == ["German shepherd", "cock", "tabby"]
    assert problems(found)[-1] == LINE
    quiet = run(
        "explain", photos, "--truth", "folder", "--save", "map", "--skip-existing", "--quiet"
    )
    assert (stdout(quiet), stderr(quiet)) == ("", "")
    kept = run(*given, "--skip-existing")
    assert stdout(kept).splitlines()[-1] == LINE, "earlier results count, too"


def test_the_line_of_one_image_and_of_none() -> None:
    one = {"images": 1, "top1": 1, "top5": 1}
    expected = "1 image with a true class: top-1 100.0%, top-5 100.0%, 0 wrong"
    assert closing_line(one, None) == expected
    few = {"images": 3, "top1": 2}
    assert closing_line(few, None) == "3 images with a true class: top-1 66.7%, 1 wrong"
    nothing = {"images": 0, "top1": 0, "top5": 0}
    assert closing_line(nothing, 2) == "no image with a true class, 2 images left out"


def test_only_what_is_asked_for_is_printed(run: Run, photos: Path) -> None:
    given = ("explain", photos, "--truth", "folder", "--save", "map", "--target", "true")
    found = run(*given, "--target", "pred", "--only", "wrong", "--only", "unsure")
    *lines, last = stdout(found).splitlines()
    assert [line.split("  ")[2].partition(" (")[0] for line in lines] == ["tabby", "Eskimo dog"]
    assert last == f"{LINE}, 2 images left out"
    found = run("explain", photos, "--only", "confidence>=0.99", "--save", "map", "--json")
    assert len(stdout(found).splitlines()) == 1
    assert problems(found)[-1] == "2 images left out"
    found = run("explain", photos, "--only", "confidence>=0.5", "--save", "map")
    assert stdout(found).splitlines()[-1] == "1 image left out"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--only", "wrong"), "--only 'wrong' needs the true classes: expected --truth"),
        (("--only", "predicted=doge"), "--only: unknown class 'doge': did you mean"),
        (("--only", "unsure", "--dry-run"), "--dry-run: the images of --only 'unsure' depend on"),
        (("--target", "true"), "target 'true' needs true classes: expected --truth of camcli"),
        (("--class-map", "a.txt"), "--class-map is for --truth: expected --truth folder or csv"),
        (("--truth", "file"), "--truth 'file': expected folder or csv:FILE"),
        (("--truth", "csv:a.csv"), "a.csv: No such file or directory"),
        (
            ("--truth", "folder", "--activation", "none", "--target", "1"),
            "--truth is for classes, and mini gives values (--activation none)",
        ),
    ],
)
def test_wrong_usage_is_one_line(
    run: Run, photos: Path, options: tuple[str, ...], message: str
) -> None:
    assert refused(run("explain", photos, *options)).startswith(message)
    assert not Path("camcli-out").exists()


def test_folders_that_are_no_classes(run: Run, photos: Path) -> None:
    message = refused(run("explain", SAMPLES, "--truth", "folder"))
    assert message.startswith("no image has a known class: label 'sample_images': did you mean '")
    (photos / "tabby").rename(photos / "7")
    message = refused(run("explain", photos, "--truth", "folder"))
    assert message.startswith("label 7 is a number, not a name: expected --class-map")
