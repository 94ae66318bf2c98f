"""The target `like:REF.jpg`: exact splits of the similarity, kinds of networks, files, errors."""

from __future__ import annotations

import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from camcli import explain, load
from camcli.capture.similarity import LikeTarget
from camcli.capture.windows import Window
from camcli.engine.references import with_embedding
from camcli.errors import MethodError, TargetError
from camcli.methods.registry import METHODS
from camcli.models.model import Model
from camcli.runs import pipeline
from camcli.runs.references import with_references
from tests.support.command import TINY, Run, refused, stdout
from tests.support.files import make_photo, manifest
from tests.support.jobs import changed, make_job
from tests.support.networks import DeepHead, GapNet


def like(image: Tensor) -> LikeTarget:
    return LikeTarget("like:it", image)


def embedding(net: GapNet, images: Tensor) -> Tensor:
    return net.pool(net.last(net.trunk(images))).flatten(1)


def test_the_map_splits_the_similarity(gap_net: GapNet, images: Tensor) -> None:
    """For average pooling, the sum of HiResCAM's map is the cosine, by the dot product alone."""
    found = explain(gap_net, images, "hirescam", like(images[:1]))
    own = embedding(gap_net, images)
    cosines = cosine_similarity(own, own[:1])
    torch.testing.assert_close(found.scores, cosines, rtol=1e-12, atol=0)
    torch.testing.assert_close(found.maps.sum((1, 2)), cosines, rtol=1e-12, atol=0)
    maps, lengths = gap_net.last(gap_net.trunk(images)), own.norm(dim=1)
    parts = torch.einsum("nchw,c->nhw", maps, own[0]) / (30 * lengths * lengths[0])[:, None, None]
    torch.testing.assert_close(found.maps, parts, rtol=1e-12, atol=1e-15)
    grad = explain(gap_net, images, "gradcam", like(images[:1]))
    torch.testing.assert_close(grad.maps, parts.relu(), rtol=1e-12, atol=1e-15)


def test_an_image_is_most_like_itself(deep_head: DeepHead, images: Tensor) -> None:
    found = explain(deep_head, images, "layercam", [like(images[i : i + 1]) for i in range(3)])
    scores = torch.stack([one.scores for one in found])
    torch.testing.assert_close(scores.diagonal(), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(scores, scores.mT)
    assert (scores <= 1 + 1e-12).all()
    assert all(one.maps[i].any() for i, one in enumerate(found)), "not empty for itself either"


def test_other_targets_of_the_same_call_are_as_without(gap_net: GapNet, images: Tensor) -> None:
    given: Any = ["pred", lambda output: output[:, 1], "not:2"]
    alone = explain(gap_net, images, "gradcam", given)
    beside = explain(gap_net, images, "gradcam", [*given, like(images[:1])])
    assert [one.target for one in beside] == ["pred", "<lambda>", "not:2", "like:it"]
    for one, other in zip(alone, beside, strict=False):
        assert torch.equal(one.maps, other.maps)
        assert torch.equal(one.scores, other.scores)
    assert beside[3].classes is beside[3].probabilities is beside[3].names is None
    assert torch.equal(beside[3].confidences, beside[0].confidences)


def test_every_method_but_those_of_classes_explains_it(gap_net: GapNet, images: Tensor) -> None:
    fitting = {name: one for name, one in METHODS.items() if "attention" not in one.requires}
    for name, method in fitting.items():
        if method.requires & {"classes", "one class"}:
            with pytest.raises(
                MethodError, match=f"{name.replace('+', '.')} explains a class, not"
            ):
                explain(gap_net, images, name, like(images[:1]))
        else:
            assert explain(gap_net, images, name, like(images[:1])).maps.any()


def test_occlusion_is_the_drop_of_the_cosine(gap_net: GapNet, images: Tensor) -> None:
    one, other = images[:2, :, :26].split(1)
    found = explain(gap_net, one, "occlusion", like(other), window=Window(26))
    hidden, seen, aim = embedding(gap_net, torch.cat([torch.zeros_like(one), one, other]))
    drop = cosine_similarity(seen, aim, 0) - cosine_similarity(hidden, aim, 0)
    torch.testing.assert_close(found.maps, drop.expand_as(found.maps))


class Ended(GapNet):
    """A GapNet that ends in a softmax."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).softmax(1)


class Nested(nn.Module):
    """A network whose head is not its last part, and whose output is a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 5)
        self.net = GapNet()

    def forward(self, x: Tensor) -> tuple[Tensor, str]:
        return self.head(self.net.pool(self.net.last(self.net.trunk(x))).flatten(1)), "more"


class NoHead(nn.Module):
    """A network whose class scores are no linear map of an embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).square().mean((2, 3))


@pytest.mark.parametrize("kind", [Ended, Nested])
def test_the_head_is_found_by_its_values(kind: type[nn.Module], images: Tensor) -> None:
    torch.manual_seed(0)
    net = kind().double()
    own = embedding(net if isinstance(net, GapNet) else net.net, images)  # type: ignore[arg-type]
    found = explain(net, images, "hirescam", like(images[:1]))
    torch.testing.assert_close(found.scores, cosine_similarity(own, own[:1]))
    assert not net._forward_hooks
    assert not any(part._forward_hooks for part in net.modules())


def test_a_network_without_an_embedding_is_refused(images: Tensor) -> None:
    with pytest.raises(TargetError, match="'like:it' needs a classifier whose scores are a linear"):
        explain(NoHead().double(), images, "gradcam", like(images[:1]))
    model = load("lraspp_mobilenet_v3_large", "none")
    with pytest.raises(TargetError, match="'like:it' needs a classifier"):
        explain(model, images.float(), "gradcam", like(images[:1].float()))
    with pytest.raises(ValueError, match="'like:it': 3 images, expected one"):
        explain(GapNet().double(), images, "gradcam", like(images))


NAMES = ("mini", "resnet18", "vit_b_32", "timm:convnext_atto", "timm:vit_tiny_patch16_224")


@pytest.mark.parametrize("name", NAMES)
def test_networks_of_all_sources(name: str, tmp_path: Path) -> None:
    if name.startswith("timm:"):
        pytest.importorskip("timm", reason="needs camcli[timm]")
    model = load(name, "DEFAULT" if name == "mini" else "none")
    one, other = make_photo(tmp_path / "a.jpg"), tmp_path / "b.png"
    Image.effect_noise((80, 80), 90).save(other)
    found = explain(model, [str(one), str(other)], "layercam", f"like:{one}")
    assert found.target == f"like:{one}"
    torch.testing.assert_close(found.scores[0], torch.tensor(1.0))
    assert found.scores[1] < 0.999
    assert found.maps[0].any()


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_the_embedding_of_a_clip_is_that_of_the_image(kind: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="needs camcli[transformers]")
    from tests.support import clips

    folder = clips.save(clips.network(kind), tmp_path / kind)
    network = transformers.AutoModel.from_pretrained(folder).eval()
    model = load(f"clip:{folder}", texts=["a dog", "a cat"])
    seen = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    own = network.get_image_features(pixel_values=seen).pooler_output.detach()
    found = explain(model, seen, ["hirescam", "occlusion"], like(seen[:1]))
    for one in found:
        torch.testing.assert_close(one.scores, cosine_similarity(own, own[:1]))
        assert one.maps.flatten(1).any(1).all()


def test_a_target_with_its_embedding_can_be_sent(gap_net: GapNet, images: Tensor) -> None:
    ready = with_embedding(Model(gap_net), like(images[:1]))
    sent = pickle.loads(pickle.dumps(ready))  # noqa: S301 - our own
    ours, theirs = (explain(gap_net, images, "gradcam", one) for one in (ready, sent))
    assert torch.equal(ours.maps, theirs.maps)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four photos, in the working directory, with a reference `refs/ref.jpg`."""
    monkeypatch.chdir(tmp_path)
    for number in range(4):
        make_photo(tmp_path / "in" / f"{number}.jpg", 80 + 9 * number)
    (tmp_path / "refs").mkdir()
    shutil.copy(tmp_path / "in/1.jpg", tmp_path / "refs/ref.jpg")
    return tmp_path


def test_the_command_explains_the_similarity(run: Run, photos: Path) -> None:
    given = ["explain", "in", *TINY, "--target", "like:refs/ref.jpg", "--output", "out"]
    found = run(*given)
    assert found.exit_code == 0, found.stderr_bytes
    assert "1.jpg  gradcam  like:refs/ref.jpg (1)" in stdout(found)
    rows = manifest(photos / "out")
    assert {row["target"] for row in rows} == {"like:refs/ref.jpg"}
    assert all(
        row["class_index"] is row["class_name"] is row["probability"] is None for row in rows
    )
    assert rows[1]["score"] == pytest.approx(1, abs=1e-5)
    assert all(row["predicted_index"] is not None for row in rows)
    assert rows[0]["overlay"] == "0.gradcam.like_refs_ref.jpg.png"
    record = json.loads((photos / "out/run.json").read_text())
    assert len(record["references"]["like:refs/ref.jpg"]) == 16
    assert run("report", "out").exit_code == 0
    assert b"like:refs/ref.jpg" in (photos / "out/report.html").read_bytes()


def test_the_content_of_the_reference_is_a_setting(run: Run, photos: Path) -> None:
    given = ["explain", "in", *TINY, "--target", "like:refs/ref.jpg", "--output", "out"]
    assert run(*given).exit_code == 0
    kept = manifest(photos / "out")
    assert run(*given, "--skip-existing").exit_code == 0
    assert manifest(photos / "out") == kept
    make_photo(photos / "refs/ref.jpg", 200)
    assert "holds results of another run" in refused(run(*given, "--skip-existing", "--quiet"))
    assert run(*given, "--overwrite").exit_code == 0
    assert manifest(photos / "out")[1]["score"] < 1


def test_the_reference_is_fitted_like_the_images(run: Run, photos: Path) -> None:
    shutil.copy(photos / "in/3.jpg", photos / "refs/ref.jpg")
    for fit in ("preset", "squash", "full"):
        out = ["--fit", fit, "--output", fit, "--target", "like:refs/ref.jpg"]
        assert run("explain", "in", *TINY, *out).exit_code == 0
        assert manifest(photos / fit)[3]["score"] == pytest.approx(1, abs=1e-5)


def test_shards_and_one_run_give_the_same(run: Run, photos: Path) -> None:
    given = ["explain", "in", *TINY, "--target", "like:refs/ref.jpg", "--batch-size", "2"]
    assert run(*given, "--output", "whole").exit_code == 0
    for shard in ("1/2", "2/2"):
        assert run(*given, "--output", "parts", "--shard", shard).exit_code == 0
    assert run("merge", "parts").exit_code == 0
    assert manifest(photos / "parts") == manifest(photos / "whole")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("like:none.jpg", "none.jpg: No such file or directory"),
        ("like:-", "target 'like:-': expected a file, not standard input"),
        ("like:", "unknown target 'like:': did you mean"),
        ("not:like:refs/ref.jpg", "unknown target 'like:refs/ref.jpg': did you mean"),
    ],
)
def test_references_that_cannot_be_used(run: Run, photos: Path, target: str, message: str) -> None:
    line = refused(run("explain", "in", *TINY, "--quiet", "--target", target, "--output", "out"))
    assert message in line
    assert not (photos / "out").exists()


def test_other_commands(run: Run, photos: Path) -> None:
    line = refused(run("evaluate", "in", *TINY, "--quiet", "--target", "like:refs/ref.jpg"))
    assert "metrics need the probability of a class" in line
    pytest.importorskip("matplotlib", reason="needs camcli[figure]")
    found = run("figure", "in/0.jpg", *TINY, "--target", "like:refs/ref.jpg", "--target", "pred")
    assert found.exit_code == 0, found.stderr_bytes
    assert (photos / "figure.png").exists()


def test_a_job_sent_elsewhere_does_not_need_the_reference(tmp_path: Path) -> None:
    """As on the actors of a cluster, which may not see the file."""
    job = make_job(tmp_path, {"a.jpg": (60, 50), "b.jpg": (50, 60)})
    reference = make_photo(tmp_path / "ref.jpg", 70, 50)
    targets = with_references(job.model, job.inputs, [f"like:{reference}"])
    job = changed(job, targets=targets)
    sent = pickle.loads(pickle.dumps(replace(job, output=tmp_path / "sent")))  # noqa: S301
    rows = list(pipeline.run(job))
    assert rows[0][0]["score"] < 1
    reference.unlink()
    assert list(pipeline.run(sent.with_sources(sent.sources))) == rows
