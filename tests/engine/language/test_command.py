"""`camcli ask` and `camcli caption`: what they write, print and refuse."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from camcli.engine.language.prompts import WORDS
from camcli.images.decode import decode
from tests.engine.language.conftest import QUESTION
from tests.support.command import Run, refused, stdout
from tests.support.files import by_name, files, manifest

blips = pytest.importorskip("tests.scenes.blips", reason="needs transformers")
P, Q = "PHOTO", QUESTION


def test_ask_prints_answers_and_writes_the_files_of_explain(
    ask: Run, run: Run, photos: Path, tmp_path: Path
) -> None:
    found = ask(photos, QUESTION, "--top", 3)
    assert found.exit_code == 0, found.stderr_bytes
    assert [*files(tmp_path / "out")] == [
        *("a.hirescam.npy", "a.hirescam.png", "b.hirescam.npy", "b.hirescam.png", "manifest.jsonl"),
        *("sub/c.hirescam.npy", "sub/c.hirescam.png"),
    ]
    rows = manifest(tmp_path / "out")
    assert [row["image"] for row in rows] == ["a.png", "b.png", "sub/c.png"]
    for row in rows:
        texts, probabilities = zip(*row["answers"], strict=True)
        assert len(set(texts)) == 3
        assert probabilities == tuple(sorted(probabilities, reverse=True))
        assert (row["class_name"], row["probability"]) == (texts[0], probabilities[0])
        assert (row["class_index"], row["target"]) == (None, "pred")
        assert row["map_shape"] == [8, 8]
        assert row["crop"] == [0, 0, 64, 64]
    line, answers, *_ = stdout(found).splitlines()
    best, probability = rows[0]["answers"][0]
    overlay = tmp_path / "out" / "a.hirescam.png"
    assert line == f"a.png  hirescam  {best} ({probability:.1%})  {overlay}"
    assert answers.split("  ")[2:] == [f"{text} {share:.1%}" for text, share in rows[0]["answers"]]
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["prompt"]["question"] == QUESTION
    assert "transformers" in record["versions"]
    run("explain", photos / "a.png", "--output", tmp_path / "classes")
    (row,) = manifest(tmp_path / "classes")
    assert list(rows[0]) == [*row, "answers"]


def test_given_answers_are_part_of_file_names(ask: Run, photos: Path, tmp_path: Path) -> None:
    found = ask(photos / "a.png", QUESTION, *("--answer", "red", "--answer", "a ring", "--json"))
    assert found.exit_code == 0, found.stderr_bytes
    rows = manifest(tmp_path / "out")
    assert [row["target"] for row in rows] == ["a ring", "red"]
    assert [row["class_name"] for row in rows] == ["a ring", "red"]
    assert [row["map"] for row in rows] == ["a.hirescam.a ring.npy", "a.hirescam.red.npy"]
    assert rows[0]["answers"] == rows[1]["answers"]
    assert by_name(map(json.loads, found.stdout_bytes.splitlines())) == rows
    maps = [np.load(tmp_path / "out" / row["map"]) for row in rows]
    assert not np.array_equal(*maps)


def test_caption_and_its_words(caption: Run, photos: Path, tmp_path: Path) -> None:
    text = "a red  circle and a green rings"
    found = caption(photos, "--text", text, *("--per-word", "--save", "overlay,map,boxes"))
    assert found.exit_code == 0, found.stderr_bytes
    whole, words = manifest(tmp_path / "out")[:2]
    assert whole["class_name"] == words["class_name"] == "a red circle and a green rings"
    assert (whole["target"], words["target"]) == ("pred", WORDS)
    assert [word for word, _ in words["words"]] == whole["class_name"].split()
    assert words["map_shape"] == [7, 8, 8]
    assert words["overlay"] == "a.hirescam.words.png"
    assert (whole["boxes_overlay"], words["boxes_overlay"]) == ("a.hirescam.boxes.png", None)
    # The probability of a caption includes that of its end.
    product = np.prod([probability for _, probability in words["words"]])
    assert whole["score"] == pytest.approx(np.log(product), rel=1e-5)
    assert words["score"] == pytest.approx(whole["score"], rel=1e-5)
    assert whole["probability"] < product
    assert whole["unsure"] is None, "a caption is no class"
    strip = decode(tmp_path / "out" / words["overlay"])
    assert strip.shape == (2 * (64 + 32), 5 * 120, 3)  # seven words, five in a row
    assert f"rings {words['words'][-1][1]:.1%}" in stdout(found)


def test_a_caption_is_generated(caption: Run, photos: Path, tmp_path: Path) -> None:
    found = caption(photos / "a.png", "--quiet")
    assert (found.exit_code, found.stdout_bytes, found.stderr_bytes) == (0, b"", b"")
    (row,) = manifest(tmp_path / "out")
    known = "|".join(map(re.escape, {*blips.VOCABULARY} - {*blips.SPECIAL}))
    for word in row["class_name"].split():
        assert re.fullmatch(rf"({known})[s?]*", word)  # the pieces "##s" and "?" join a word
    assert row["map"] == "a.hirescam.npy"


def test_methods_layers_and_fit(ask: Run, photos: Path, tmp_path: Path) -> None:
    layer = "network.vision_model.encoder.layers.0"
    methods = ("gradcam", "hirescam", "occlusion")
    given = [*(f"--method={method}" for method in methods), "--layer=auto", f"--layer={layer}"]
    assert ask(photos / "a.png", QUESTION, *given, "--window=16").exit_code == 0
    rows = manifest(tmp_path / "out")
    assert [row["map"] for row in rows] == [
        *(f"a.gradcam.{layer}.npy", "a.gradcam.npy", f"a.hirescam.{layer}.npy", "a.hirescam.npy"),
        "a.occlusion.npy",
    ]
    assert [row["map_shape"] for row in rows] == [[8, 8]] * 4 + [[64, 64]]


def test_results_of_another_question_need_overwrite(ask: Run, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ask(photos, QUESTION)
    before, time = files(out), (out / "a.hirescam.npy").stat().st_mtime_ns
    (out / "b.hirescam.npy").unlink()
    assert ask(photos, QUESTION, "--skip-existing").exit_code == 0
    assert files(out) == before
    assert (out / "a.hirescam.npy").stat().st_mtime_ns == time
    other = ask(photos, "which shape is red?", "--skip-existing")
    assert other.exit_code == 2
    assert b"holds results of another run" in other.stderr_bytes
    assert ask(photos, "which shape is red?", "--overwrite").exit_code == 0


def test_a_damaged_image_is_an_error_row(ask: Run, photos: Path, tmp_path: Path) -> None:
    (photos / "b.png").write_bytes(b"not an image")
    found = ask(photos, QUESTION)
    assert found.exit_code == 1
    assert [row["status"] for row in manifest(tmp_path / "out")] == ["ok", "error", "ok"]
    assert b"b.png" in found.stderr_bytes
    (tmp_path / "out" / "manifest.jsonl").unlink()
    assert ask(photos, QUESTION, "--fail-fast").exit_code == 1


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ((P, " "), 'an empty question: expected words, such as "what is the man doing?"'),
        ((P,), "no question after 'PHOTO': give it last, in quotation marks"),
        ((Q,), "no PATHS: expected files, folders, globs or -"),
        ((P, "? " * 30), "question '? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ...' has 30 "),
        ((P, Q, "--answer", " "), "an empty answer: expected words"),
        ((P, Q, "--answer", "red purple"), "answer 'red purple': 'purple' is not in the model's"),
        ((P, Q, "--answer", "red " * 30), f"answer '{'red ' * 10}...' has 30 tokens: expected 23 "),
        ((P, Q, "--layer", "network.vision"), "unknown layer 'network.vision': did you"),
        ((P, Q, "--method", "cam"), "cam needs a network that ends in global average pooling"),
        ((P, Q, "--preview", "--save", "map"), "--preview draws the overlay"),
    ],
)
def test_invalid_questions_are_one_line(
    ask: Run, photos: Path, given: tuple[str, ...], line: str
) -> None:
    photo = str(photos / "a.png")
    found = refused(ask(*(part.replace("PHOTO", photo) for part in given)))
    assert found.startswith(line.replace("PHOTO", photo))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "an empty caption: expected words"),
        ("a purple ring", "caption 'a purple ring': 'purple' is not in the model's vocabulary"),
        ("a " * 24, "caption 'a a a a a a a a a a a a a a a a a a a a ...' has 24 tokens: "),
    ],
)
def test_invalid_captions_are_one_line(caption: Run, photos: Path, text: str, line: str) -> None:
    assert refused(caption(photos, "--text", text)).startswith(line)


def test_an_unknown_word_in_a_question_is_a_warning(ask: Run, photos: Path) -> None:
    found = ask(photos / "a.png", "what colour is the moon?")
    assert found.exit_code == 0
    assert b"'moon?' is not in the model's vocabulary" in found.stderr_bytes
