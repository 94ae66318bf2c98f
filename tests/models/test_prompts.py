"""Texts as classes: the scores and maps of transformers' own networks, texts, labels, errors."""

from __future__ import annotations

import copy
import json
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from camcli import explain, load
from camcli.engine.catalogue import list_layers
from camcli.errors import CamcliWarning, ModelError
from camcli.methods.registry import METHODS
from camcli.models.hf_preprocessing import preset_of_processor
from tests.support.command import Run, refused, stdout
from tests.support.files import make_photo, manifest

transformers = pytest.importorskip("transformers", reason="needs camcli[transformers]")
from tests.support import clips  # noqa: E402 - imports transformers

TEXTS = ("a dog", "a cat", "a red circle")
KINDS = ("clip", "siglip")


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    top = tmp_path_factory.mktemp("clips")
    folders = {kind: clips.save(clips.network(kind), top / kind) for kind in KINDS}
    return folders.__getitem__


@pytest.fixture
def clip(folder_of: Callable[[str], Path]) -> Path:
    return folder_of("clip")


def images(count: int = 3) -> Tensor:
    return torch.randn(count, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def words(option: str, texts: tuple[str, ...]) -> list[str]:
    return [part for text in texts for part in (option, text)]


def own_scores(folder: Path, texts: tuple[str, ...], seen: Tensor) -> Tensor:
    """Return the similarities (N,K) that transformers' own network gives."""
    network = transformers.AutoModel.from_pretrained(folder).eval()
    padding = {"padding": True}
    if network.config.model_type == "siglip":
        padding = {"padding": "max_length", "max_length": clips.LONGEST}
    tokens = clips.tokenizer()(list(texts), return_tensors="pt", **padding)
    tokens.pop("token_type_ids", None)
    scores: Tensor = network(pixel_values=seen, **tokens).logits_per_image
    return scores


@pytest.mark.parametrize("kind", KINDS)
def test_probabilities_are_those_of_transformers(
    kind: str, folder_of: Callable[[str], Path]
) -> None:
    model = load(f"clip:{folder_of(kind)}", texts=TEXTS)
    own = own_scores(folder_of(kind), TEXTS, images()).detach()
    zero_shot = own.sigmoid() if kind == "siglip" else own.softmax(1)
    assert own.std(0).min() > 0, "the images differ"
    for index, text in enumerate(TEXTS):
        found = explain(model, images(), "hirescam", text)
        assert found.names == (text,) * 3
        torch.testing.assert_close(found.scores, own[:, index])
        torch.testing.assert_close(found.probabilities, zero_shot[:, index])


class Folded(nn.Module):
    """The vision tower of a CLIP, and the texts as an ordinary linear layer."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        network = transformers.CLIPModel.from_pretrained(folder).eval()
        self.tower = transformers.CLIPVisionModelWithProjection.from_pretrained(folder)
        tokens = clips.tokenizer()(list(TEXTS), padding=True, return_tensors="pt")
        tokens.pop("token_type_ids", None)
        texts = network.get_text_features(**tokens).pooler_output.detach()
        self.linear = nn.Linear(texts.shape[1], len(TEXTS), bias=False)
        self.linear.weight.data = (
            nn.functional.normalize(texts, dim=1) * network.logit_scale.exp().detach()
        )

    def forward(self, pixels: Tensor) -> Tensor:
        seen = self.tower(pixel_values=pixels).image_embeds
        return self.linear(nn.functional.normalize(seen, dim=1))


def test_maps_are_those_of_a_linear_layer_behind_the_tower(clip: Path) -> None:
    model, folded = load(f"clip:{clip}", texts=TEXTS), Folded(clip).eval()
    fitting = [name for name, method in METHODS.items() if not method.requires & {"head", "relu"}]
    ours = explain(model, images(2), fitting, [0, 1, 2])
    theirs = explain(folded, images(2), fitting, [0, 1, 2])
    assert len(ours) == 3 * len(fitting)
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one.maps, other.maps), (one.method, one.target)
        assert torch.equal(one.scores, other.scores)
        assert one.maps.any()


@pytest.mark.parametrize("kind", KINDS)
def test_every_layer_is_listed_without_texts(kind: str, folder_of: Callable[[str], Path]) -> None:
    listed = list_layers(f"clip:{folder_of(kind)}")
    (auto,) = (layer.path for layer in listed if layer.auto)
    model = load(f"clip:{folder_of(kind)}", texts=TEXTS)
    assert explain(model, images(1), "gradcam").layer == auto
    assert auto == {
        "clip": "vision_model.encoder.layers.1.layer_norm1", "siglip": "vision_model.post_layernorm"
    }[kind]  # fmt: skip
    paths = [layer.path for layer in listed]
    found = explain(model, images(1), "layercam", layer=paths[: paths.index(auto) + 1])
    assert all(one.maps.shape == (1, 8, 8) for one in found)


def test_preprocessing_is_that_of_the_processor(clip: Path, tmp_path: Path) -> None:
    model = load(f"clip:{clip}", texts=TEXTS)
    processor = transformers.AutoProcessor.from_pretrained(clip)
    assert model.preset == preset_of_processor(processor.image_processor)
    assert model.preset.shape == (64, 64)


def test_labels_are_put_into_a_template(clip: Path, tmp_path: Path) -> None:
    file = tmp_path / "labels.txt"
    file.write_text("dog\ncat\n")
    named = load(f"clip:{clip}", labels=file)
    said = load(f"clip:{clip}", texts=["a photo of a dog", "a photo of a cat"])
    given = load(f"clip:{clip}", texts=["dog", "cat"], template="a photo of a {}")
    other = load(f"clip:{clip}", labels=["dog", "cat"], template="this is a {}")
    assert named.class_names == given.class_names == ("dog", "cat")
    assert said.class_names == ("a photo of a dog", "a photo of a cat")
    assert named.prompt == {"template": "a photo of a {}", "texts": ["dog", "cat"]}
    assert said.prompt == {"template": "{}", "texts": ["a photo of a dog", "a photo of a cat"]}
    scores = [model.module(images()) for model in (named, said, given, other)]
    assert torch.equal(scores[0], scores[1])
    assert torch.equal(scores[0], scores[2])
    assert not torch.allclose(scores[0], scores[3])


def test_many_texts_are_embedded_as_few(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = load(f"clip:{clip}", texts=TEXTS)
    monkeypatch.setattr("camcli.models.prompts._AT_ONCE", 1)
    torch.testing.assert_close(
        load(f"clip:{clip}", texts=TEXTS).module(images()), whole.module(images())
    )


def test_one_text_is_a_question_for_siglip_only(folder_of: Callable[[str], Path]) -> None:
    model = load(f"clip:{folder_of('siglip')}", texts=["a dog"])
    found = explain(model, images(), "hirescam", "a dog")
    own = own_scores(folder_of("siglip"), ("a dog",), images())
    torch.testing.assert_close(found.probabilities, own[:, 0].sigmoid().detach())
    assert model.class_names == ("not a dog", "a dog")
    with pytest.raises(ModelError, match="'a dog' is the only one, and its softmax is 1"):
        load(f"clip:{folder_of('clip')}", texts=["a dog"])
    alone = load(f"clip:{folder_of('clip')}", texts="a dog", activation="sigmoid")
    assert alone.class_names == ("not a dog", "a dog")


def test_random_weights_and_those_of_a_file(clip: Path) -> None:
    seeds = [load(f"clip:{clip}", "none", texts=TEXTS, seed=seed) for seed in (1, 1, 2)]
    first, again, other = (model.module(images()) for model in seeds)
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)
    own = load(f"clip:{clip}", texts=TEXTS)
    given = load(f"clip:{clip}", clip / "model.safetensors", texts=TEXTS)
    assert torch.equal(own.module(images()), given.module(images()))
    assert own.weights_hash == given.weights_hash is not None


def test_copies_and_pickles_give_the_same(clip: Path) -> None:
    model = load(f"clip:{clip}", texts=TEXTS)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):  # noqa: S301 - our own
        assert torch.equal(other.module(images()), model.module(images()))
        assert other.class_names == TEXTS


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "needs texts as classes: expected --text, repeated, or --labels FILE; neither is"),
        ({"texts": TEXTS, "labels": ["a"]}, "or --labels FILE; both are given"),
        ({"texts": ["a dog", " a dog"]}, "text 'a dog' is given 2 times: expected each text once"),
        ({"texts": ["a dog", " "]}, "a text is empty, expected words"),
        ({"texts": TEXTS, "template": "a photo"}, r"template 'a photo': expected {} in the place"),
        ({"texts": ["a " * 20, "cat"]}, "has 22 tokens, the network takes 12"),
        ({"texts": TEXTS, "arguments": {"a": 1}}, "takes no arguments"),
    ],
)
def test_texts_that_cannot_be_used(given: dict[str, Any], message: str, clip: Path) -> None:
    with pytest.raises(ModelError, match=message) as error:
        load(f"clip:{clip}", **given)
    assert "\n" not in str(error.value)


def test_names_of_several_classes_give_a_warning(clip: Path) -> None:
    with pytest.warns(CamcliWarning, match="2 classes have the name 'dog', and hence the same"):
        model = load(f"clip:{clip}", labels=["dog", "cat", "dog"])
    first, _, second = model.module(images()).unbind(1)
    assert torch.equal(first, second)


def test_unknown_words_give_a_warning(clip: Path) -> None:
    with pytest.warns(CamcliWarning, match="text 'a zebra' has words that the network does not"):
        load(f"clip:{clip}", texts=["a zebra", "a dog"])
    with pytest.warns(CamcliWarning, match=r"text 'tench' .* not know, and so have \d+ others"):
        assert load(f"clip:{clip}", labels="imagenet", template="{}").num_classes == 1000


def test_folders_of_other_networks_are_refused(clip: Path, tmp_path: Path) -> None:
    config = transformers.ViTConfig(hidden_size=8, num_attention_heads=2, intermediate_size=8)
    config.save_pretrained(tmp_path / "vit")
    with pytest.raises(ModelError, match="its type is vit, expected clip or siglip"):
        load(f"clip:{tmp_path / 'vit'}", texts=TEXTS)
    (bare := tmp_path / "bare").mkdir()
    for name in ("config.json", "processor_config.json", "model.safetensors"):
        (bare / name).write_bytes((clip / name).read_bytes())
    with pytest.raises(ModelError, match=r"no tokenizer in it, expected tokenizer\.json"):
        load(f"clip:{bare}", texts=TEXTS)
    (bare / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match="no usable tokenizer"):
        load(f"clip:{bare}", texts=TEXTS)


def test_without_the_hub_the_message_names_the_ways_out(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    line = refused(run("explain", "a.jpg", "--model", "clip:some/name", *words("--text", TEXTS)))
    assert line.startswith("cannot download some/name for clip:some/name (")
    assert "give a folder that save_pretrained wrote" in line


def test_without_transformers_the_extra_is_named(
    run: Run, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    line = refused(run("explain", "a.jpg", "--model", f"clip:{clip}", "--text", "a dog"))
    assert line.endswith("pip install 'camcli[transformers]'")


@pytest.mark.parametrize("option", ["--text", "--template"])
def test_other_networks_refuse_texts(option: str, run: Run) -> None:
    line = refused(run("explain", "a.jpg", option, "a {}"))
    assert line == (
        "model 'mini' takes no texts (--text, --template): only clip:NAME, a CLIP or SigLIP of the "
        "hub or in a folder, with texts as classes"
    )


def test_the_command_explains_texts(run: Run, clip: Path, tmp_path: Path) -> None:
    for number in range(3):
        make_photo(tmp_path / "in" / f"{number}.jpg", 80 + number)
    given = ["explain", tmp_path / "in", "--model", f"clip:{clip}", *words("--text", TEXTS)]
    given += ["--output", tmp_path / "out", "--target", "pred", "--target", "a red circle"]
    found = run(*given)
    assert found.exit_code == 0, found.stderr_bytes
    rows = manifest(tmp_path / "out")
    assert {row["class_name"] for row in rows if row["target"] == "a red circle"} == {TEXTS[2]}
    assert all(row["predicted_name"] in TEXTS for row in rows)
    record = json.loads((tmp_path / "out/run.json").read_text())
    assert record["prompt"] == {"template": "{}", "texts": [*TEXTS]}
    assert "transformers" in record["versions"]
    assert record["activation"] == "softmax"
    for other in (["--template", "a photo of {}"], ["--text", "a photo"]):
        assert "holds results of another run" in refused(run(*given, *other))
    assert run(*given, "--skip-existing").exit_code == 0
    report = run("report", tmp_path / "out")
    assert report.exit_code == 0
    assert b"a red circle" in (tmp_path / "out/report.html").read_bytes()


def test_the_command_measures_and_draws(run: Run, clip: Path, tmp_path: Path) -> None:
    photo = make_photo(tmp_path / "a.jpg")
    model = ["--model", f"clip:{clip}", *words("--text", TEXTS), "--device", "cpu"]
    found = run("evaluate", photo, *model, "--metric", "deletion", "--json", "--quiet")
    assert found.exit_code == 0, found.stderr_bytes
    assert json.loads(stdout(found))["prompt"]["texts"] == [*TEXTS]
    pytest.importorskip("matplotlib", reason="needs camcli[figure]")
    both = [*model, "--model", "mini", "--target", "pred", "--output", tmp_path / "figure.png"]
    assert run("figure", photo, *both, "--method", "gradcam").exit_code == 0
    assert "takes no texts" in refused(run("figure", photo, "--text", "a dog"))


def test_the_audit_needs_the_same_texts(run: Run, clip: Path, tmp_path: Path) -> None:
    for number in range(4):
        make_photo(tmp_path / "in" / TEXTS[number % 2] / f"{number}.jpg", 80 + number)
    model, texts = ["--model", f"clip:{clip}", "--device", "cpu"], words("--text", TEXTS)
    out = ["--truth", "folder", "--output", tmp_path / "out", "--save", "map"]
    assert run("explain", tmp_path / "in", *model, *texts, *out).exit_code == 0
    assert run("audit", tmp_path / "out", *model, *texts, "--quiet").exit_code == 0
    line = refused(run("audit", tmp_path / "out", *model, *words("--text", TEXTS[:2])))
    assert line.startswith("the maps were made with other texts (")


def test_shards_and_one_run_give_the_same_rows(run: Run, clip: Path, tmp_path: Path) -> None:
    for number in range(5):
        make_photo(tmp_path / "in" / f"{number}.jpg", 80 + number)
    given = ["explain", tmp_path / "in", "--model", f"clip:{clip}", *words("--text", TEXTS)]
    given += ["--batch-size", "2", "--device", "cpu", "--output"]
    assert run(*given, tmp_path / "whole").exit_code == 0
    for shard in ("1/2", "2/2"):
        assert run(*given, tmp_path / "parts", "--shard", shard).exit_code == 0
    assert run("merge", tmp_path / "parts").exit_code == 0
    assert manifest(tmp_path / "parts") == manifest(tmp_path / "whole")


@pytest.mark.scenes
def test_maps_of_a_trained_network_point_at_the_named_thing(tmp_path: Path) -> None:
    from tests.scenes import clips as networks
    from tests.scenes.drawing import scenes
    from tests.scenes.pointing import of_prompts, rates

    folder = networks.save(networks.trained(300), tmp_path / "clip")
    model = load(f"clip:{folder}", labels=folder / "kinds.txt")
    test_scenes = scenes(60, 99, clear=True)
    found = rates(test_scenes, of_prompts(model, test_scenes)["gradcam"])
    assert found.right >= 0.7
    assert found.hits >= 0.6
    assert max(found.other, found.centre, found.chance) <= 0.3


def test_an_input_of_another_size_fails_in_one_line(run: Run, clip: Path, tmp_path: Path) -> None:
    photo, model = make_photo(tmp_path / "a.jpg"), ["--model", f"clip:{clip}"]
    model += [*words("--text", TEXTS), "--resize", "96x96", "--device", "cpu", "--quiet"]
    message = b"clip failed (Input image size (96*96) doesn't match model (64*64)"
    for command in ("explain", "evaluate", "figure"):
        out = ["--output", tmp_path / ("f.png" if command == "figure" else command)]
        found = run(command, photo, *model, *out)
        assert found.exit_code in (1, 2)
        assert message in found.stderr_bytes
        assert b"Traceback" not in found.stderr_bytes
