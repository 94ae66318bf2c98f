"""`camcli report`: what the page holds, and that a name in it is never more than a name."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
import webbrowser
from collections.abc import Callable
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from PIL import Image

from camcli.errors import CamcliError, ImageError
from camcli.evaluation.plots import plot_names
from camcli.images.decode import decode, thumbnail
from camcli.images.geometry import Crop
from camcli.render import draw
from camcli.report import changes, evaluation, maps, originals, page
from camcli.report import folder as folders
from camcli.report.page import embedded, link
from camcli.runs import resume
from tests.support.files import make_photo

Run = Callable[..., Result]
HOSTILE = "<img src=x onerror=window.hit=1>.jpg"
CLASS = "</script><script>window.hit=1</script>"
RUN = {
    "model": "tiny",
    "weights": "none",
    "weights_hash": "sha256:1",
    "layers": ["auto"],
    "colormap": "auto",
    "alpha": 0.5,
    "device": "cpu",
    "versions": {"camcli": "1", "python": "3"},
}
NO_ROWS = "'{}' has no manifest.jsonl with a row in it: expected a folder that camcli explain wrote"
MAP = (np.mgrid[:5, :7].sum(0) ** 2).astype(np.float32)


def output(top: Path) -> Path:
    """An output folder by hand, beside its photos: two methods of four images, one of them failed
    and one with empty maps, and names that do their worst."""
    photos, folder = top / "photos", top / "out"
    rows: list[dict[str, Any]] = []
    for number, name in enumerate(("plain.jpg", HOSTILE, "sub/a#b%41 é.jpg")):
        photo = make_photo(photos / name)
        for method, signed in (("gradcam", False), ("occlusion", True)):
            values = MAP * (number != 2) - (40 if signed and number != 2 else 0)
            probability = (0.9, 0.5, 0.2)[number]
            facts = {"class_name": (CLASS, "cat", "cat")[number], "probability": probability}
            rows.append(written(folder, photo, name, method, values, **facts))
    for method in ("gradcam", "occlusion"):
        row = dict.fromkeys(rows[0]) | {"image": "broken.jpg", "method": method, "target": "pred"}
        rows.append(row | {"status": "error", "error": "broken.jpg: damaged", "digest": "s-"})
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "run.json").write_text(json.dumps(RUN))
    return folder


def written(
    folder: Path, photo: Path, name: str, method: str, values: Any, **facts: Any
) -> dict[str, Any]:
    """The files and the row of one result, of which the network saw the middle."""
    stem = f"{name.removesuffix('.jpg')}.{method}"
    (folder / stem).parent.mkdir(parents=True, exist_ok=True)
    values = np.asarray(values, np.float32)
    np.save(folder / f"{stem}.npy", values)
    pixels, signed = decode(photo), method == "occlusion"
    drawn = draw.overlay(pixels, values, Crop(15, 0, 75, 60), draw.Style(), signed)
    (folder / f"{stem}.png").write_bytes(draw.png(drawn))
    return {
        **{"image": name, "method": method, "target": "pred", "class_index": 3, "score": 1.5},
        **{"layer": None, "map": f"{stem}.npy", "overlay": f"{stem}.png", "map_shape": [5, 7]},
        **{"map_min": float(values.min()), "map_max": float(values.max()), "boxes": None},
        **{"crop": [15, 0, 75, 60], "status": "ok" if values.any() else "empty", "error": None},
        **{"digest": f"s-{resume.input_digest(photo, resume.made(RUN))}", **facts},
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return output(tmp_path)


def printed(found: Result) -> str:
    return found.stdout_bytes.decode()


def told(found: Result) -> str:
    return (found.stderr_bytes or b"").decode()


class Elements(HTMLParser):
    """The elements of a page, with the text of those that a browser takes as it is."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {"script": [], "style": [], "title": [], "h1": []}
        self.inside: str | None = None
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag in self.texts:
            self.inside = tag
            self.texts[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == self.inside:
            self.inside = None

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.texts[self.inside][-1] += data

    @property
    def facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = json.loads(self.texts["script"][0])
        return facts


def read(file: Path) -> Elements:
    return Elements(file.read_text())


def image(facts: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in facts["images"] if one["name"] == name)
    return found


def test_what_it_says(run: Run, folder: Path) -> None:
    found = run("report", folder)
    assert found.exit_code == 0
    file = folder / "report.html"
    line = f"4 images, 8 results -> {file} (2 failed, 2 with an empty map)\n"
    assert (printed(found), told(found)) == (line, "")
    facts = read(file).facts
    assert [one["name"] for one in facts["images"]] == [
        *("plain.jpg", HOSTILE, "sub/a#b%41 é.jpg", "broken.jpg")
    ]
    plain = image(facts, "plain.jpg")
    assert plain["size"] == [90, 60]
    assert plain["original"] == "../photos/plain.jpg"
    first, second = plain["results"]
    assert (first["class"], first["probability"], first["signed"]) == (CLASS, 0.9, False)
    assert (second["method"], second["signed"], second["map"]["low"]) == ("occlusion", True, -40)
    values = np.frombuffer(base64.b64decode(first["map"]["values"]), "<f4")
    assert np.array_equal(values.reshape(first["map"]["cells"]), MAP)
    assert first["files"] == {"overlay": "plain.gradcam.png", "map": "plain.gradcam.npy"}


def test_the_same_folder_gives_the_same_bytes(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = []
    for workers, directory in ((1, folder), (3, folder.parent)):
        monkeypatch.chdir(directory)
        file = folder.relative_to(directory) if directory != folder else Path()
        assert run("report", file, "--workers", workers, "--quiet").output_bytes == b""
        pages.append((folder / "report.html").read_bytes())
    assert pages[0] == pages[1]
    assert str(folder).encode() not in pages[0]


def test_names_are_never_markup(run: Run, folder: Path) -> None:
    run("report", folder, "--title", "</title><script>window.hit=1</script> {{facts}}")
    found = read(folder / "report.html")
    assert [tag for tag, _ in found.found].count("script") == 2
    assert not [tag for tag, attributes in found.found if {"onerror", "style"} & set(attributes)]
    assert found.texts["title"] == found.texts["h1"] == [found.facts["title"]]
    assert found.facts["title"].startswith("</title>")
    assert "<" not in found.texts["script"][0]


def test_the_policy_lets_only_this_script_run(run: Run, folder: Path) -> None:
    run("report", folder)
    found = read(folder / "report.html")
    policy = next(a["content"] for tag, a in found.found if tag == "meta" and "http-equiv" in a)
    assert policy is not None
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["img-src"] == "'self' file: data:"
    for kind, text in (("script", found.texts["script"][1]), ("style", found.texts["style"][0])):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules[f"{kind}-src"] == f"'sha256-{digest}'"


def test_the_script_sets_text_and_no_html() -> None:
    for name in page.SCRIPTS:
        source = (files("camcli.report") / name).read_text()
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", source)
        assert "http:" not in source
        assert "https:" not in source


@pytest.mark.parametrize(
    "name", ["</script>", "<!--<script>", "&lt;", "\u2028", "\udcff", "\0", "é"]
)
def test_embedded(name: str) -> None:
    text = embedded({name: [name]})
    assert json.loads(text) == {name: [name]}
    assert text.isascii()
    assert not set("<>&") & set(text)


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("a b.png", "a%20b.png"),
        ("a#b?c%41.png", "a%23b%3Fc%2541.png"),
        ("javascript:alert(1).png", "javascript%3Aalert%281%29.png"),
        ("\udcff.png", "%FF.png"),
        ('"><script>.png', "%22%3E%3Cscript%3E.png"),
        ("../up/é.png", "../up/%C3%A9.png"),
    ],
)
def test_links(name: str, address: str, tmp_path: Path) -> None:
    assert link(tmp_path / name, tmp_path / "report.html") == address


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        (None, NO_ROWS),
        ("\n", NO_ROWS),
        ('{"image": "a.j', "'{}/manifest.jsonl': not one of its 1 lines is a row"),
        ("[" * 99_999, "'{}/manifest.jsonl': not one of its 1 lines is a row"),
        (
            '{"image": "a", "method": "m", "target": "t", "status": "ok", "map": "../../x.npy"}',
            "'../../x.npy' would lie outside of its folder '{}'",
        ),
        (
            '{"image": "/etc/a.png", "method": "m", "target": "t", "status": "ok"}',
            "'/etc/a.m.t.png' would lie outside of its folder '{}'",
        ),
    ],
)  # fmt: skip
def test_no_output_folder(lines: str | None, error: str, run: Run, tmp_path: Path) -> None:
    if lines is not None:
        (tmp_path / "manifest.jsonl").write_text(lines)
    found = run("report", tmp_path)
    assert (found.exit_code, printed(found)) == (2, "")
    assert told(found) == f"Error: {error.format(tmp_path)}\n"
    assert not (tmp_path / "report.html").exists()


def test_a_run_that_is_not_over(run: Run, folder: Path) -> None:
    """Its rows so far are in a journal, of which the last line may be half written."""
    lines = (folder / "manifest.jsonl").read_bytes()
    (folder / "manifest.jsonl").rename(folder / ".camcli-1.manifest.jsonl")
    (folder / ".camcli-1.manifest.jsonl").write_bytes(lines[:-20])
    found = run("report", folder)
    assert found.exit_code == 0
    assert told(found).startswith("Warning: lines of the manifest that cannot be read: 1 ")
    assert read(folder / "report.html").facts["notes"][0].startswith("lines of the manifest")
    assert "4 images, 7 results" in printed(found)


@pytest.mark.parametrize(
    "row",
    [
        {"status": "fine"},
        {"image": ""},
        {"image": "a\0.jpg"},
        {"image": "\ud800.jpg"},
        {"image": "."},
        {"image": 3},
        {"method": None},
    ],
)
def test_rows_that_are_none(row: dict[str, Any], folder: Path) -> None:
    good = {"image": "a.jpg", "method": "m", "target": "t", "status": "ok"}
    (folder / "manifest.jsonl").write_text(
        "".join(json.dumps(r) + "\n" for r in (good, good | row))
    )
    found = folders.read(folder)
    assert ([one.image for one in found.entries], found.unread) == (["a.jpg"], 1)


def test_facts_that_are_none(run: Run, folder: Path) -> None:
    """What is not of its kind is left out, and the rest is shown."""
    odd = {"probability": float("inf"), "score": 10**400, "crop": [5, 5, 1, 1], "boxes": [[1], 2]}
    odd |= {"class_index": "3", "class_name": 7, "map_shape": "big", "map": "x" * 300, "layer": 1}
    row = {"image": "plain.jpg", "method": "own", "target": "t", "status": "ok", **odd}
    (folder / "manifest.jsonl").write_text(json.dumps(row))
    assert run("report", folder).exit_code == 0
    (result,) = read(folder / "report.html").facts["images"][0]["results"]
    assert result == {
        **{"method": "own", "target": "t", "status": "ok", "signed": False},
        "note": "x" * 300 + " is missing",
    }


def test_of_two_rows_the_later_counts(folder: Path) -> None:
    row = {"image": "a.jpg", "method": "m", "target": "t"}
    lines = [row | {"status": "error", "error": "no"}, row | {"status": "ok"}]
    (folder / "manifest.jsonl").write_text("".join(json.dumps(r) + "\n" for r in lines))
    assert [one.status for one in folders.read(folder).entries] == ["ok"]


def test_files_that_are_gone(run: Run, folder: Path) -> None:
    (folder / "plain.gradcam.npy").unlink()
    (folder / "plain.occlusion.npy").write_bytes(b"no map")
    found = run("report", folder)
    assert found.exit_code == 0
    assert "files that the manifest names and that are not there: 1\n" in told(found)
    first, second = image(read(folder / "report.html").facts, "plain.jpg")["results"]
    assert first["note"] == "plain.gradcam.npy is missing"
    assert second["note"].startswith("map not readable (")
    assert "map" not in first
    assert "map" not in second


def test_originals_are_known_by_their_bytes(run: Run, folder: Path, tmp_path: Path) -> None:
    """Another file of the same name is only taken from a folder that was named, with a remark."""
    photo = tmp_path / "photos" / "plain.jpg"
    make_photo(photo, quality=20)
    assert "originals not found below --images or beside the folder: 1 of 3" in told(
        run("report", folder)
    )
    plain = image(read(folder / "report.html").facts, "plain.jpg")
    assert (plain["size"], plain.get("small"), plain.get("original")) == ([90, 60], None, None)

    found = run("report", folder, "--images", tmp_path / "photos")
    assert "originals that are not the files that were explained: 1 of 3" in told(found)
    plain = image(read(folder / "report.html").facts, "plain.jpg")
    assert plain["note"] == originals.CHANGED
    assert plain["small"].startswith("data:image/webp;base64,")

    make_photo(photo, width=50)
    run("report", folder, "--images", tmp_path / "photos")
    plain = image(read(folder / "report.html").facts, "plain.jpg")
    assert plain["note"] == f"{photo} has another size: not shown"
    assert "small" not in plain


def test_a_page_elsewhere(run: Run, folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "pages" / "cats.html"
    assert run("report", folder, "--output", file, "--title", "Cats").exit_code == 0
    facts = read(file).facts
    assert facts["title"] == "Cats"
    assert image(facts, "plain.jpg")["original"] == "../photos/plain.jpg"
    assert image(facts, "plain.jpg")["results"][0]["files"]["map"] == "../out/plain.gradcam.npy"


def test_a_page_that_cannot_be_written(run: Run, folder: Path) -> None:
    (folder / "file").touch()
    found = run("report", folder, "--output", folder / "file" / "page.html")
    assert found.exit_code == 1
    assert told(found).startswith(f"Error: cannot write '{folder}/file/page.html'")


def test_open(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda address: bool(opened.append(address)))
    found = run("report", folder, "--open")
    assert opened == [(folder / "report.html").as_uri()]
    assert told(found) == "Warning: no browser found to show it in\n"


def test_small_pictures(tmp_path: Path) -> None:
    """As large photos look, upright, and with the size of the original."""
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = make_photo(tmp_path / "turned.jpg", 400, 200, exif=exif)
    small, size = thumbnail(photo, 50)
    whole = decode(photo)
    assert small.shape == (50, 25, 3)
    assert size == (whole.shape[1], whole.shape[0]) == (200, 400)
    expected = np.asarray(Image.fromarray(whole).resize((25, 50), Image.Resampling.BOX), float)
    assert np.abs(small - expected).mean() < 5
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(ImageError, match=r"empty\.jpg: the file is empty"):
        thumbnail(tmp_path / "empty.jpg", 50)


def test_sizes_follow_the_budget() -> None:
    assert originals.side(10, 32_000_000) == originals.LARGEST
    assert originals.side(10_000, 32_000_000) == 141
    assert originals.side(10_000_000, 32_000_000) == originals.SMALLEST
    assert maps.largest([196] * 30_000, 32_000_000) == 196
    assert maps.largest([], 99) == 1
    shared = maps.largest([100] * 50 + [50_000] * 50, 1_000_000)
    assert 50 * 100 + 50 * shared <= 1_000_000 * 3 / 16 < 50 * 100 + 50 * (shared + 1)


@pytest.mark.parametrize("shape", [(8, 12), (1, 500), (500, 1), (3, 400), (224, 224)])
def test_large_maps_are_reduced_to_means(shape: tuple[int, int], tmp_path: Path) -> None:
    values = np.random.default_rng(0).random(shape, np.float32)
    np.save(tmp_path / "map.npy", values)
    packed = maps.pack(tmp_path / "map.npy", 24)
    assert packed is not None
    rows, columns = packed.cells
    assert rows * columns <= 24
    assert packed.shape == shape
    assert (packed.low, packed.high) == (values.min(), values.max())
    small = np.frombuffer(base64.b64decode(packed.values), "<f4")
    assert small.size == rows * columns
    assert small.mean() == pytest.approx(values.mean(), abs=0.02)
    if shape == (8, 12):
        blocks = values.reshape(rows, 8 // rows, columns, 12 // columns).mean((1, 3))
        assert np.allclose(small.reshape(packed.cells), blocks, atol=1e-6)


def test_maps_that_are_none(tmp_path: Path) -> None:
    file = tmp_path / "map.npy"
    np.save(file, np.zeros((3, 9, 9), np.float32))
    assert maps.pack(file, 99) is None
    for values in (np.array([{}], object), np.zeros(3), np.zeros((0, 3)), np.array("text")):
        np.save(file, values, allow_pickle=True)
        with pytest.raises(CamcliError, match="map not readable"):
            maps.pack(file, 99)
    np.save(file, np.array([[1, np.nan], [np.inf, 3]], np.float32))
    packed = maps.pack(file, 99)
    assert packed is not None
    assert (packed.low, packed.high) == (1, 3)


def evaluated(folder: Path, **facts: Any) -> Path:
    """What camcli evaluate --output writes, by hand."""
    folder.mkdir(exist_ok=True)
    cell = {"mean": 0.5, "low": 0.25, "high": 0.75, "images": 3, "verdict": None}
    rows = {"gradcam": cell | {"verdict": "fails"}, "random": cell | {"mean": None}}
    rows["centre"] = cell | {"low": None, "high": None, "images": 1}
    metric = {"better": "lower", "unit": None, "source": "a paper", "rows": rows}
    record = {"methods": ["gradcam"], "baselines": ["random", "centre"]}
    record |= {"metrics": {"deletion": metric}}
    record |= {"model": "tiny", "images": 3, "target": "pred", "layer": "auto"}
    record |= {"weights_hash": "sha256:1", **facts}
    (folder / "metrics.json").write_text(json.dumps(record))
    (folder / "scores.csv").write_text(
        "image,class_index,class_name,probability,method,deletion\n"
        f"plain.jpg,3,dog,0.9,gradcam,0.125\n{HOSTILE},3,cat,0.5,gradcam,\n"
    )
    Image.new("RGB", (8, 8)).save(folder / "deletion.png")
    return folder


def test_evaluation(run: Run, folder: Path, tmp_path: Path) -> None:
    found = run("report", folder, "--evaluation", evaluated(tmp_path / "quality"))
    assert found.exit_code == 0
    facts = read(folder / "report.html").facts
    (line,) = facts["evaluation"]["lines"]
    assert line["cells"] == [["0.500 [0.250, 0.750]", "fails"], ["-", None], ["0.500", None]]
    ((name, plot),) = facts["evaluation"]["plots"]
    assert (name, plot[:22]) == ("deletion", "data:image/png;base64,")
    values = [one.get("values") for one in image(facts, "plain.jpg")["results"]]
    assert values == [{"deletion": 0.125}, None]
    assert image(facts, HOSTILE)["results"][0].get("values") is None

    evaluated(folder, weights_hash="sha256:2")  # in the folder itself, of another network
    assert "the evaluation is of other weights than the maps" in told(run("report", folder))
    facts = read(folder / "report.html").facts
    assert facts["evaluation"]["lines"]
    assert image(facts, "plain.jpg")["results"][0].get("values") is None


def test_the_plots_of_the_evaluation_are_its_own() -> None:
    assert {f"{name}.png" for name in evaluation.PLOTS} == set(plot_names())


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("metrics.json", "{", "metrics.json or scores.csv is not camcli evaluate's"),
        ("metrics.json", '{"methods": []}', "is not camcli evaluate's (KeyError: 'baselines')"),
        ("scores.csv", "image,method\nplain.jpg,gradcam\n", "is not camcli evaluate's"),
    ],
)
def test_no_evaluation(
    name: str, text: str, error: str, run: Run, folder: Path, tmp_path: Path
) -> None:
    quality = evaluated(tmp_path / "quality")
    (quality / name).write_text(text)
    found = run("report", folder, "--evaluation", quality)
    assert found.exit_code == 2
    assert error in told(found)
    assert told(found).count("\n") == 1


def checked(run: Run, folder: Path, tmp_path: Path) -> Path:
    """A baseline from which one map differs and one is missing, and what camcli check printed."""
    baseline = output(tmp_path / "then")
    np.save(baseline / "plain.gradcam.npy", MAP[::-1])
    row = {"image": "gone<b>.jpg", "method": "gradcam", "target": "pred", "status": "error"}
    with (baseline / "manifest.jsonl").open("a") as stream:
        stream.write(json.dumps(row) + "\n")
    found = run("check", folder, baseline, "--json", "--diff", tmp_path / "changes")
    assert found.exit_code == 3
    file = tmp_path / "changes.jsonl"
    file.write_bytes(found.stdout_bytes)
    return file


def test_check(run: Run, folder: Path, tmp_path: Path) -> None:
    file = checked(run, folder, tmp_path)
    assert run("report", folder, "--check", file).exit_code == 0
    facts = read(folder / "report.html").facts
    assert facts["check"]["counts"] == {"alike": 7, "differs": 1, "missing": 1}
    assert facts["check"]["missing"] == ["gone<b>.jpg  gradcam  pred"]
    first, second = (one["change"] for one in image(facts, "plain.jpg")["results"])
    assert (first["verdict"], second["verdict"]) == ("differs", "alike")
    assert first["picture"] == "../changes/plain.gradcam.diff.png"

    file.rename(folder / changes.CHECK_FILE)  # found by itself
    run("report", folder)
    assert read(folder / "report.html").facts["check"] == facts["check"]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("{", "line 1: not a row of camcli check --json (JSONDecodeError"),
        ('{"image": "a"}', "line 1: not a row of camcli check --json (KeyError: 'method')"),
        (
            '{"image":"a","method":"m","target":"t","verdict":"odd","reasons":[]}',
            "line 1: verdict 'odd', expected alike, differs, missing, extra",
        ),
        (None, "No such file or directory; expected what camcli check --json printed"),
    ],
)
def test_no_check(text: str | None, error: str, run: Run, folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    if text:
        file.write_text(text)
    found = run("report", folder, "--check", file)
    assert found.exit_code == 2
    assert error in told(found)
    assert told(found).count("\n") == 1


def test_it_needs_no_torch() -> None:
    code = (
        "import camcli.report.page, camcli.report.originals, sys; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
