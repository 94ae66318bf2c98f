"""`camcli ask` and `camcli caption`, on tiny BLIPs of the library's own classes."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from camcli.engine.explain import explain
from camcli.engine.language.load import load_language_model
from camcli.engine.language.prompts import WORDS, Query
from camcli.engine.language.prompts import caption as captioned
from camcli.engine.language.prompts import question as asked
from camcli.images.decode import decode
from tests.scenes.drawing import normalised, scenes
from tests.scenes.pointing import of_questions, of_words, rates
from tests.support.files import manifest

blips = pytest.importorskip("tests.scenes.blips", reason="needs transformers")

Run = Callable[..., Result]
QUESTION = "what colour is the circle?"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models of both kinds that have learnt nothing."""
    torch.manual_seed(0)
    top = tmp_path_factory.mktemp("models")
    return {
        skill: blips.save(architecture(blips.config()), top / skill)
        for skill, architecture in blips.ARCHITECTURES.items()
    }


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of three scenes, one of them in a folder of its own."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for name, one in zip(("a.png", "b.png", "sub/c.png"), scenes(3, 1), strict=True):
        Image.fromarray(one.pixels).save(folder / name)
    return folder


@pytest.fixture
def ask(run: Run, folders: dict[str, Path], tmp_path: Path) -> Run:
    """Run `camcli ask` into the folder `out`."""
    return lambda *given: run(
        *("ask", *given, "--model", folders["ask"], "--output", tmp_path / "out")
    )


@pytest.fixture
def caption(run: Run, folders: dict[str, Path], tmp_path: Path) -> Run:
    """Run `camcli caption` into the folder `out`."""
    return lambda *given: run(
        *("caption", *given, "--model", folders["caption"], "--output", tmp_path / "out")
    )


def files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


# What is written and printed


def test_ask_prints_answers_and_writes_what_explain_writes(
    ask: Run, run: Run, photos: Path, tmp_path: Path
) -> None:
    found = ask(photos, QUESTION, "--top", 3)
    assert found.exit_code == 0, found.stderr_bytes
    assert files(tmp_path / "out") == [
        *("a.hirescam.npy", "a.hirescam.png", "b.hirescam.npy", "b.hirescam.png", "manifest.jsonl"),
        *("run.json", "sub/c.hirescam.npy", "sub/c.hirescam.png"),
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
    line, answers, *_ = found.stdout_bytes.decode().splitlines()
    best, probability = rows[0]["answers"][0]
    overlay = tmp_path / "out" / "a.hirescam.png"
    assert line == f"a.png  hirescam  {best} ({probability:.1%})  {overlay}"
    assert answers.split("  ")[2:] == [f"{text} {share:.1%}" for text, share in rows[0]["answers"]]
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["prompt"]["question"] == QUESTION
    assert "transformers" in record["versions"]
    run("explain", photos / "a.png", "--output", tmp_path / "classes")
    (known,) = manifest(tmp_path / "classes")
    assert list(rows[0]) == [*known, "answers"]


def test_answers_given_are_part_of_names(ask: Run, photos: Path, tmp_path: Path) -> None:
    found = ask(photos / "a.png", QUESTION, *("--answer", "red", "--answer", "a ring", "--json"))
    assert found.exit_code == 0, found.stderr_bytes
    rows = manifest(tmp_path / "out")
    assert [row["target"] for row in rows] == ["red", "a ring"]
    assert [row["class_name"] for row in rows] == ["red", "a ring"]
    assert [row["map"] for row in rows] == ["a.hirescam.red.npy", "a.hirescam.a ring.npy"]
    assert rows[0]["answers"] == rows[1]["answers"]
    assert [json.loads(line) for line in found.stdout_bytes.splitlines()] == rows
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
    # A caption's probability is that of its words, and that it ends there.
    product = np.prod([probability for _, probability in words["words"]])
    assert whole["score"] == pytest.approx(np.log(product), rel=1e-5)
    assert words["score"] == pytest.approx(whole["score"], rel=1e-5)
    assert whole["probability"] < product
    strip = decode(tmp_path / "out" / words["overlay"])
    assert strip.shape == (2 * (64 + 32), 5 * 120, 3)  # seven words, five in a row
    printed = found.stdout_bytes.decode().splitlines()
    assert f"rings {words['words'][-1][1]:.1%}" in printed[2]


def test_own_caption(caption: Run, photos: Path, tmp_path: Path) -> None:
    found = caption(photos / "a.png", "--quiet")
    assert (found.exit_code, found.stdout_bytes, found.stderr_bytes) == (0, b"", b"")
    (row,) = manifest(tmp_path / "out")
    assert set(row["class_name"].split()) <= {*blips.VOCABULARY, "##s"} - {*blips.SPECIAL}
    assert row["map"] == "a.hirescam.npy"


def test_methods_layers_and_fit(ask: Run, photos: Path, tmp_path: Path) -> None:
    layer = "network.vision_model.encoder.layers.0"
    methods = ("gradcam", "hirescam", "occlusion")
    given = [*(f"--method={method}" for method in methods), "--layer=auto", f"--layer={layer}"]
    assert ask(photos / "a.png", QUESTION, *given, "--window=16").exit_code == 0
    rows = manifest(tmp_path / "out")
    assert [row["map"] for row in rows] == [
        *("a.gradcam.npy", f"a.gradcam.{layer}.npy", "a.hirescam.npy", f"a.hirescam.{layer}.npy"),
        "a.occlusion.npy",
    ]
    assert [row["map_shape"] for row in rows] == [[8, 8]] * 4 + [[64, 64]]


def test_skip_existing_and_other_questions(ask: Run, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ask(photos, QUESTION)
    before = {file: (out / file).read_bytes() for file in files(out) if file != "run.json"}
    times = {file: (out / file).stat().st_mtime_ns for file in before}
    (out / "b.hirescam.npy").unlink()
    assert ask(photos, QUESTION, "--skip-existing").exit_code == 0
    assert {file: (out / file).read_bytes() for file in before} == before
    assert (out / "a.hirescam.npy").stat().st_mtime_ns == times["a.hirescam.npy"]
    other = ask(photos, "which shape is red?", "--skip-existing")
    assert other.exit_code == 2
    assert b"holds results of another run" in other.stderr_bytes
    assert ask(photos, "which shape is red?", "--overwrite").exit_code == 0


def test_an_image_that_cannot_be_read_is_a_row(ask: Run, photos: Path, tmp_path: Path) -> None:
    (photos / "b.png").write_bytes(b"no image")
    found = ask(photos, QUESTION)
    assert found.exit_code == 1
    assert [row["status"] for row in manifest(tmp_path / "out")] == ["ok", "error", "ok"]
    assert b"b.png" in found.stderr_bytes
    (tmp_path / "out" / "manifest.jsonl").unlink()
    assert ask(photos, QUESTION, "--fail-fast").exit_code == 1


# Bad input is one line


def refused(found: Result) -> str:
    """The one line of a run that was refused."""
    assert (found.exit_code, found.stdout_bytes) == (2, b"")
    (line,) = found.stderr_bytes.decode().splitlines()
    return line.removeprefix("Error: ")


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (("PHOTO", " "), 'an empty question: expected words, such as "what is the man doing?"'),
        (("PHOTO",), "no question after 'PHOTO': give it last, in quotation marks"),
        ((QUESTION,), "no PATHS: expected files, folders, globs or -"),
        (("PHOTO", "? " * 30), "question '? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ...' has 30 "),
        (("PHOTO", QUESTION, "--answer", " "), "an empty answer: expected words"),
        (
            ("PHOTO", QUESTION, "--answer", "red purple"),
            "answer 'red purple': 'purple' is not in the model's vocabulary",
        ),
        (
            ("PHOTO", QUESTION, "--answer", "red " * 30),
            "answer 'red red red red red red red red red red ...' has 30 tokens: expected 23 ",
        ),
        (
            ("PHOTO", QUESTION, "--layer", "network.vision"),
            "unknown layer 'network.vision': did you",
        ),
        (
            ("PHOTO", QUESTION, "--method", "cam"),
            "cam needs a network that ends in global average pooling",
        ),
        (("PHOTO", QUESTION, "--preview", "--save", "map"), "--preview draws the overlay"),
    ],
)
def test_bad_questions(ask: Run, photos: Path, given: tuple[str, ...], line: str) -> None:
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
def test_bad_captions(caption: Run, photos: Path, text: str, line: str) -> None:
    assert refused(caption(photos, "--text", text)).startswith(line)


def test_an_unknown_word_in_a_question_is_a_warning(ask: Run, photos: Path) -> None:
    found = ask(photos / "a.png", "what colour is the moon?")
    assert found.exit_code == 0
    assert b"'moon?' is not in the model's vocabulary" in found.stderr_bytes


def test_models_of_another_kind(
    run: Run, folders: dict[str, Path], photos: Path, tmp_path: Path
) -> None:
    expected = "expected a folder of transformers' BlipForQuestionAnswering"

    def line(model: Path) -> str:
        return refused(run("ask", photos, QUESTION, "--model", model))

    other = folders["caption"]
    assert line(other) == (
        f"model '{other}': a BlipForConditionalGeneration answers no questions; {expected}"
    )
    empty = tmp_path / "empty"
    empty.mkdir()
    assert line(empty) == f"model '{empty}': no config.json in it; {expected}"
    broken = shutil.copytree(folders["ask"], tmp_path / "broken")
    (broken / "config.json").write_text("{")
    assert line(broken).startswith(f"model '{broken}': config.json is not readable (")
    shutil.copy(folders["ask"] / "config.json", broken)
    (broken / "model.safetensors").write_bytes(b"no weights")
    assert line(broken).startswith(f"model '{broken}' is not readable (")
    (broken / "model.safetensors").unlink()
    files = "model.safetensors or pytorch_model.bin"
    assert line(broken) == f"model '{broken}': no {files} in it; {expected}"


def test_weights_that_are_not_all_there(
    run: Run, folders: dict[str, Path], photos: Path, tmp_path: Path
) -> None:
    cut = shutil.copytree(folders["ask"], tmp_path / "cut")
    weights = load_file(cut / "model.safetensors")
    name = next(name for name in weights if "vision_model" in name)
    del weights[name]
    save_file(weights, cut / "model.safetensors", {"format": "pt"})
    line = refused(run("ask", photos, QUESTION, "--model", cut))
    assert line == f"model '{cut}': model.safetensors lacks {name} (1 in all)"


def test_weights_of_before_safetensors(
    run: Run, folders: dict[str, Path], photos: Path, tmp_path: Path
) -> None:
    """They are read without executing what else may be in such a file."""
    older = shutil.copytree(folders["ask"], tmp_path / "older")
    weights = older / "pytorch_model.bin"
    torch.save(load_file(older / "model.safetensors"), weights)
    (older / "model.safetensors").unlink()
    for model in (folders["ask"], older):
        out = tmp_path / f"out-{model.name}"
        assert run("ask", photos, QUESTION, "--model", model, "--output", out).exit_code == 0
    one, other = (np.load(tmp_path / f"out-{name}" / "a.hirescam.npy") for name in ("ask", "older"))
    np.testing.assert_array_equal(one, other)
    torch.save({"weights": Harmful(tmp_path / "harm")}, weights)
    line = refused(run("ask", photos, QUESTION, "--model", older))
    assert line.startswith(f"model '{older}' is not readable (")
    assert not (tmp_path / "harm").exists()


class Harmful:
    """What makes a folder when it is unpickled as it asks to be."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return Path.mkdir, (self.folder,)


@pytest.mark.parametrize("offline", [True, False], ids=["told", "found out"])
def test_without_a_hub_a_folder_is_asked_for(
    run: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: bool
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # where nobody listens
    line = refused(run("caption", photos))
    assert line.startswith(
        "model 'Salesforce/blip-image-captioning-base' is not a folder, "
        "and the hub cannot be reached ("
    )
    assert line.endswith(
        "): give the folder of a BlipForConditionalGeneration that save_pretrained wrote"
    )


def test_without_transformers_the_extra_is_named(
    ask: Run, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    line = refused(ask(photos, QUESTION))
    assert line.startswith("questions and captions need transformers (")
    assert line.endswith("): pip install 'camcli[language]'")


# The score and the map, beside the library's own forward pass and a Grad-CAM written from the paper


def prompted(folder: Path, skill: str, **wish: Any) -> Query:
    """What is asked of a model in float64."""
    talker = load_language_model(skill, str(folder))
    talker.model.module.double()
    if skill == "ask":
        return asked(talker, QUESTION, **wish)
    return captioned(talker, **wish)


def ids(text: str, start: str) -> Tensor:
    """A text as token indices (1,L), from its start to its end, by the vocabulary alone."""
    words = [start, *text.replace("?", " ?").replace("rings", "ring ##s").split(), "[SEP]"]
    return torch.tensor([[blips.VOCABULARY[word] for word in words]])


def log_probabilities(network: Any, skill: str, images: Tensor, text: str) -> Tensor:
    """Of each token of a text but the first, (L-1,), by the library's own forward pass."""
    said = ids(text, "[DEC]")
    if skill == "caption":
        logits = network(pixel_values=images, input_ids=said[:, :-1]).logits[0]
        return torch.stack(
            [
                row[token] - row.exp().sum().log()
                for row, token in zip(logits, said[0, 1:], strict=True)
            ]
        )
    question = ids(QUESTION, "[CLS]")
    found = []
    for at in range(1, said.shape[1]):
        labels = torch.full_like(said, -100)
        labels[0, at] = said[0, at]
        loss = network(
            input_ids=question,
            pixel_values=images,
            attention_mask=torch.ones_like(question),
            decoder_input_ids=said,
            labels=labels,
        ).loss
        found.append(-loss)
    return torch.stack(found)


def paper_gradcam(network: Any, score: Callable[[], Tensor]) -> Tensor:
    """Grad-CAM (8,8) of a score at the tower's tokens, from the paper's equations."""
    seen: list[Tensor] = []

    def keep(_module: Any, _inputs: Any, output: Tensor) -> None:
        if output.ndim == 3:  # the norm runs again for a pooled token
            seen.append(output)

    with network.vision_model.post_layernorm.register_forward_hook(keep):
        value = score()
    # Summed over every pass: the score of an answer is one of several passes.
    grads = torch.autograd.grad(value, seen)
    found = torch.zeros(8, 8, dtype=torch.float64)
    grad = torch.stack(grads).sum(0)
    for channel in range(seen[0].shape[2]):
        alpha = sum(grad[0, 1 + place, channel] for place in range(64)) / 64
        for y in range(8):
            for x in range(8):
                found[y, x] += (alpha * seen[0][0, 1 + 8 * y + x, channel]).detach()
    return found.clamp(min=0)


@pytest.mark.parametrize(
    ("skill", "text"), [("ask", "a green ring"), ("caption", "a red circle and a green rings")]
)
def test_score_and_map_of_a_text(folders: dict[str, Path], skill: str, text: str) -> None:
    wish: dict[str, Any] = {"answers": [text]} if skill == "ask" else {"text": text}
    prompt = prompted(folders[skill], skill, **wish)
    images = normalised(scenes(1, 5)).double()
    (shown,) = explain(prompt.model, images, ["gradcam"], prompt.targets)
    network = blips.ARCHITECTURES[skill].from_pretrained(folders[skill]).double().eval()

    def score() -> Tensor:
        return log_probabilities(network, skill, images, text)[:-1].sum()  # without the end

    each = log_probabilities(network, skill, images, text)
    assert shown.scores.dtype == torch.float64
    torch.testing.assert_close(shown.scores[0], each[:-1].sum(), rtol=1e-10, atol=1e-10)
    (said,) = shown.texts or ()
    assert said.probability == pytest.approx(each.sum().exp().item(), rel=1e-9)
    torch.testing.assert_close(shown.maps[0], paper_gradcam(network, score), rtol=1e-8, atol=1e-12)
    assert shown.maps.any()


def test_score_and_map_of_a_word(folders: dict[str, Path]) -> None:
    text = "a red circle and a green rings"
    prompt = prompted(folders["caption"], "caption", text=text, words=True)
    images = normalised(scenes(1, 5)).double()
    _, shown = explain(prompt.model, images, ["gradcam"], prompt.targets)
    network = blips.ARCHITECTURES["caption"].from_pretrained(folders["caption"]).double().eval()

    def rings() -> Tensor:
        return log_probabilities(network, "caption", images, text)[6:8].sum()  # `ring` and `##s`

    assert shown.maps.shape == (1, 7, 8, 8)
    torch.testing.assert_close(
        shown.maps[0, 6], paper_gradcam(network, rings), rtol=1e-8, atol=1e-12
    )
    (said,) = shown.texts or ()
    assert said.words[6] == ("rings", pytest.approx(rings().exp().item(), rel=1e-9))


@pytest.mark.parametrize("words", [False, True], ids=["whole", "words"])
def test_a_batch_is_its_images(folders: dict[str, Path], words: bool) -> None:
    """Also where the network's own captions are of several lengths."""
    prompt = prompted(folders["caption"], "caption", words=words)
    torch.manual_seed(3)
    images = torch.cat([normalised(scenes(2, 5)), torch.randn(2, 3, 64, 64)]).double()
    methods = ["gradcam", "layercam"]

    def explained(part: Tensor) -> list[Any]:
        return explain(prompt.model, part, methods, prompt.targets)

    together, apart = explained(images), [explained(image[None]) for image in images]
    for number, shown in enumerate(together):
        for at, alone in enumerate(one[number] for one in apart):
            assert alone.texts == (close(shown.texts[at]),)
            maps = (
                shown.maps[at, : alone.maps.shape[1]] if shown.target == WORDS else shown.maps[at]
            )
            torch.testing.assert_close(maps, alone.maps[0], rtol=1e-8, atol=1e-12)


def close(said: Any) -> Any:
    """The same text with nearly the same probabilities."""

    def near(pairs: Iterable[tuple[str, float]]) -> Any:
        return tuple((text, pytest.approx(share, rel=1e-8)) for text, share in pairs)

    share = pytest.approx(said.probability, rel=1e-8)
    return (said.text, share, near(said.answers), near(said.words))


def test_answers_have_the_probabilities_of_texts_given(folders: dict[str, Path]) -> None:
    """Also beside longer ones; and none of a word is better than the best."""
    every = [*blips.VOCABULARY.keys() - {*blips.SPECIAL, "##s"}]
    prompt = prompted(folders["ask"], "ask", answers=every, top=5)
    images = normalised(scenes(1, 5)).double()
    found = explain(prompt.model, images, ["gradcam"], prompt.targets)
    chances = {shown.texts[0].text: shown.texts[0].probability for shown in found if shown.texts}
    ranked = found[0].texts[0].answers if found[0].texts else ()
    assert [share for _, share in ranked] == sorted((s for _, s in ranked), reverse=True)
    # A network that has learnt nothing may say special tokens too, which are not read out.
    same = [share / chances[text] for text, share in ranked if text in chances]
    assert min(same) == pytest.approx(1, rel=1e-8)
    assert np.isclose(same, 1, rtol=1e-8).sum() >= 2
    assert max(chances.values()) <= ranked[0][1] * (1 + 1e-8)


# Networks that have learnt: maps are where the thing is that is asked about


@pytest.mark.scenes
@pytest.mark.parametrize(("skill", "steps"), [("ask", 300), ("caption", 300)])
def test_maps_point_at_what_is_asked_about(
    run: Run, skill: str, steps: int, tmp_path: Path
) -> None:
    folder = blips.save(blips.trained(skill, steps), tmp_path / "model")
    talker, others = load_language_model(skill, str(folder)), scenes(60, 99, clear=True)
    point = of_questions if skill == "ask" else of_words
    found = rates(others, point(talker, others, ["hirescam"])["hirescam"])
    assert found.right >= 0.7
    assert found.hits >= 0.6
    assert max(found.other, found.centre, found.chance) <= 0.3
