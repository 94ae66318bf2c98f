"""Targets: classes by index, name and rank, functions, and the forms `finer:` and `not:`."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from camcli import Model, explain
from camcli.capture.targets import ClassTarget
from camcli.capture.windows import Window
from camcli.engine.predict import class_and_probability
from camcli.errors import MethodError, TargetError
from tests.support.networks import OF_MAPS, GapNet


def test_targets_of_each_kind(gap_net: GapNet, images: Tensor) -> None:
    scores = gap_net(images).detach()
    order = scores.argsort(dim=1, descending=True)
    model = Model(gap_net, class_names=("ant", "bee", "Sea Cat", "dog", "elk"), num_classes=5)
    for target, classes in {
        "pred": order[:, 0],
        "top1": order[:, 0],
        "top5": order[:, 4],
        2: torch.full((3,), 2),
        np.int64(2): torch.full((3,), 2),
        "2": torch.full((3,), 2),
        "sea cat": torch.full((3,), 2),
        "SEA_CAT": torch.full((3,), 2),
    }.items():
        shown = explain(model, images, target=target)
        assert shown.classes is not None
        assert torch.equal(shown.classes, classes)
        torch.testing.assert_close(shown.scores, scores.gather(1, classes[:, None])[:, 0])
        odds = scores.softmax(1).gather(1, classes[:, None])[:, 0]
        torch.testing.assert_close(shown.probabilities, odds)


def finer(scores: Tensor, own: int) -> tuple[list[int], list[float]]:
    """Return the three classes closest in score and their shares of the probability."""
    values = scores.tolist()
    others = sorted(
        (k for k in range(len(values)) if k != own), key=lambda k: abs(values[k] - values[own])
    )
    odds = scores.softmax(0).tolist()
    near = others[:3]
    return near, [odds[k] / sum(odds[i] for i in near) for k in near]


@pytest.mark.parametrize("name", sorted(OF_MAPS.keys() - {"gradcam++softmax"}))
@pytest.mark.parametrize(("spec", "own"), [("finer:2", 2), ("finer:top3", None), ("finer", None)])
def test_finer_contrasts_a_class_with_those_closest_in_score(
    name: str, spec: str, own: int | None, gap_net: GapNet, images: Tensor
) -> None:
    """Explain each image with a function as target; CAM is the weighted sum of its maps."""
    scores, window = gap_net(images).detach(), Window(8, 8)
    found = explain(gap_net, images, name, spec, window=window)
    for i, image in enumerate(images):
        rank = int(spec[-1]) if "top" in spec else 1
        n = own if own is not None else int(scores[i].argsort(descending=True)[rank - 1])
        near, shares = finer(scores[i], n)
        if name == "cam":
            maps = [explain(gap_net, image[None], name, k).maps[0] for k in (n, *near)]
            expected = maps[0] - sum(p * m for p, m in zip(shares, maps[1:], strict=True))
        else:

            def score(out: Tensor) -> Tensor:
                return out[:, n] - sum(p * out[:, k] for p, k in zip(shares, near, strict=True))  # noqa: B023

            expected = explain(gap_net, image[None], name, score, window=window).maps[0]
        torch.testing.assert_close(found.maps[i], expected, rtol=1e-9, atol=1e-12)
        assert found.classes is not None
        assert found.classes[i] == n
        assert found.probabilities is not None
        torch.testing.assert_close(found.probabilities[i], scores[i].softmax(0)[n])


def test_not_negates_the_score(gap_net: GapNet, images: Tensor) -> None:
    acts = gap_net.last(gap_net.trunk(images)).detach().requires_grad_()
    score = gap_net.fc(gap_net.pool(acts).flatten(1))[:, 2].sum()
    alpha = -torch.autograd.grad(score, acts)[0].mean((2, 3), keepdim=True)
    against = explain(gap_net, images, "gradcam", "not:2")
    assert against.maps.any()
    torch.testing.assert_close(against.maps, (alpha * acts.detach()).sum(1).relu())
    pro = explain(gap_net, images, ["cam", "occlusion"], 2, window=Window(8, 8))
    contra = explain(gap_net, images, ["cam", "occlusion"], "not:2", window=Window(8, 8))
    for one, other in zip(pro, contra, strict=True):
        torch.testing.assert_close(one.maps, -other.maps)
        torch.testing.assert_close(one.scores, -other.scores)
        assert one.probabilities is not None
        assert torch.equal(one.probabilities, other.probabilities)


def test_finer_is_finite_when_other_classes_have_probability_0(
    gap_net: GapNet, images: Tensor
) -> None:
    with torch.no_grad():
        gap_net.fc.bias[0] += 2000
    found = explain(gap_net, images, "gradcam", "finer:1")
    assert found.maps.isfinite().all()
    assert found.scores.isfinite().all()


def test_invalid_forms(gap_net: GapNet, images: Tensor) -> None:
    for spec, message in {
        "not:finer:2": "target 'not:finer:2': expected one of finer, not, not both",
        "finer:7": "target 'finer:7' needs 8 classes; the model has 5",
        "not:bee": "target 'bee': this model has no class names",
    }.items():
        with pytest.raises(TargetError, match=message):
            explain(gap_net, images, target=spec)
    with pytest.raises(MethodError, match=r"gradcam\+\+softmax explains a class, not 'not:2'"):
        explain(gap_net, images, "gradcam++softmax", "not:2")
    with pytest.raises(TargetError, match="target 'finer' needs 2 classes; the model has 1"):
        ClassTarget("finer", form="finer").resolve(torch.ones(2, 1))


def test_invalid_names_and_indices(gap_net: GapNet, images: Tensor) -> None:
    names = ("crane", "bee", "Crane", "dog", "elk")
    for class_names, target, message in (
        (names, "crane", "target 'crane' names 2 classes: give one of the indices 0, 2"),
        (names, "bea", "unknown target 'bea': did you mean 'bee'"),
        (names, "5", "target 5: expected a class index from 0 to 4"),
        (names, -1, "target -1: expected a class index from 0 to 4"),
        (None, "bee", "target 'bee': this model has no class names"),
    ):
        model = Model(gap_net, class_names=class_names, num_classes=5)
        with pytest.raises(TargetError, match=message):
            explain(model, images, target=target)


@pytest.mark.parametrize("name", sorted(OF_MAPS.keys() - {"cam", "gradcam++softmax"}))
def test_a_function_as_target(name: str, gap_net: GapNet, images: Tensor) -> None:
    by_class = explain(gap_net, images, name, 3, window=Window(8, 8))
    by_score = explain(gap_net, images, name, lambda out: out[:, 3], window=Window(8, 8))
    torch.testing.assert_close(by_score.maps, by_class.maps, rtol=1e-10, atol=1e-14)
    assert by_score.classes is None
    assert by_score.probabilities is None
    assert by_score.confidences is None


def test_a_function_must_give_one_score_per_image(gap_net: GapNet, images: Tensor) -> None:
    with pytest.raises(TypeError, match=r"must return a tensor \(N,\), got \(3, 5\)"):
        explain(gap_net, images, target=lambda output: output)


def test_a_class_for_each_image(gap_net: GapNet, images: Tensor) -> None:
    classes = torch.tensor([4, 0, 2])
    for shown in explain(gap_net, images, ["cam", "gradcam"], [classes]):
        assert shown.classes is not None
        assert torch.equal(shown.classes, classes)
        for i, label in enumerate(classes.tolist()):
            single = explain(gap_net, images[i : i + 1], shown.method, label)
            assert torch.allclose(shown.maps[i], single.maps[0])
    with pytest.raises(TargetError, match="2 classes as target for 3 images"):
        explain(gap_net, images, target=classes[:2])
    with pytest.raises(TargetError, match="from 0 to 4"):
        explain(gap_net, images, target=classes + 1)


def test_classes_and_probabilities_without_an_explanation(gap_net: GapNet, images: Tensor) -> None:
    classes, probabilities = class_and_probability(gap_net, images, "pred")
    shown = explain(gap_net, images, target="pred")
    assert torch.equal(classes, shown.classes)
    torch.testing.assert_close(probabilities, shown.probabilities)
    with pytest.raises(TypeError, match="expected a class"):
        class_and_probability(gap_net, images, lambda output: output[:, 0])
