"""Means, intervals, verdicts and remarks, and how the table and the plots show them."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from camcli.evaluation.baselines import BASELINES
from camcli.evaluation.estimates import estimates
from camcli.evaluation.export import metrics_record
from camcli.evaluation.plots import plots
from camcli.evaluation.summary import Summary
from camcli.evaluation.table import terminal_table
from tests.support.command import line_of
from tests.support.evaluation import scores_of


def verdict(method: list[float], better: str) -> str | None:
    """Return the verdict on a method with these values, against baselines of 1 and 2."""
    name = {"higher": "insertion", "lower": "deletion", "not compared": "complexity"}[better]
    values = np.stack([method, np.full(len(method), 1.0), np.full(len(method), 2.0)])
    return estimates(scores_of(["cam"], {name: values}))[name]["cam"].verdict


def test_verdicts() -> None:
    assert verdict([2.1, 2.3, 2.2, 2.4] * 2, "higher") == "beats"
    assert verdict([0.1, 0.3, 0.2, 0.4] * 2, "higher") == "fails"
    assert verdict([1.5, 1.6, 1.7, 1.8] * 2, "higher") == "fails", "it must beat both"
    assert verdict([0.1, 0.3, 0.2, 0.4] * 2, "lower") == "beats"
    assert verdict([9.0, 0.0, 0.0, 0.1, 9.0, 0.1], "higher") == "unsure"
    assert verdict([0.1, 0.3, 0.2, 0.4] * 2, "not compared") is None


def test_fewer_than_six_images_are_not_significant() -> None:
    """Five heads in a row have a probability of 1/32."""
    assert verdict([2.2] * 6, "higher") == "beats"
    assert verdict([2.2] * 5, "higher") == "unsure"
    assert verdict([2.2], "higher") == "unsure"
    assert verdict([1.2], "higher") == "fails"


def test_each_row_is_the_mean_of_the_images_with_a_value() -> None:
    nan, rising = float("nan"), np.arange(8.0)
    sanity = np.stack([np.where(rising < 2, rising, nan), rising, np.ones(8), np.ones(8)])
    insertion = np.stack([rising, np.full(8, nan), np.ones(8), np.ones(8)])
    trace = np.ones((4, 8, 3))
    trace[0, :, 1], trace[0, 0, 2] = nan, nan
    values = {"sanity": sanity, "insertion": insertion}
    summary = Summary(scores_of(["cam", "guided"], values, {"sanity": trace}))
    assert [one.images for one in summary.estimates["sanity"].values()] == [2, 8, 8, 8]
    assert [one.mean for one in summary.estimates["sanity"].values()] == [0.5, 3.5, 1, 1]
    assert summary.estimates["insertion"]["guided"].verdict is None
    assert np.isnan(summary.estimates["insertion"]["guided"].mean)
    assert "sanity of cam: defined on 2 of 8 images" in summary.remarks
    assert "insertion of guided: defined on 0 of 8 images" in summary.remarks
    curve = metrics_record(summary)["curves"]["sanity"]["cam"]
    assert curve == [1, None, 1], "a missing value is not 0"
    assert line_of(terminal_table(summary), "sanity").split()[:3] == ["sanity", "lower", "2-8"]
    assert all(picture.startswith(b"\x89PNG") for picture in plots(summary).values())


def test_the_matrix_compares_pairs() -> None:
    masked = np.array([[0.9, 0.9, 0.9, 0.1], [0.5] * 4, [0.3] * 4, [0.2] * 4])
    summary = Summary(scores_of(["cam", "guided"], {"win": masked}, {"win": masked}))
    win = summary.matrices["win"]
    assert (win["cam"]["guided"], win["guided"]["cam"]) == (75, 25)
    assert (win["random"]["centre"], win["centre"]["random"]) == (100, 0)


def test_a_method_fails_the_sanity_check_above_the_limit() -> None:
    for correlation, fails in ((0.29, False), (0.31, True)):
        summary = Summary(scores_of(["cam"], {"sanity": np.full((3, 8), correlation)}))
        assert any("fails the sanity check" in remark for remark in summary.remarks) == fails
        assert metrics_record(summary)["remarks"] == list(summary.remarks)
        assert summary.estimates["sanity"]["cam"].verdict is None, "a baseline always has 1"


@pytest.mark.parametrize("width", [80, 90, 110])
def test_columns_that_do_not_fit_follow_below_beside_the_baselines(width: int) -> None:
    methods = ("cam", "gradcam", "gradcam++", "guided")
    summary = Summary(scores_of(methods, {"insertion": np.random.default_rng(0).random((6, 8))}))
    whole, narrow = terminal_table(summary), terminal_table(summary, width)
    assert len(line_of(whole, "insertion")) > width
    lines = [line for line in narrow.splitlines() if line.startswith(("metric", "insertion"))]
    assert max(map(len, lines)) <= width
    heads = [line.split() for line in lines if line.startswith("metric")]
    assert heads[0][:3] == ["metric", "better", "images"]
    assert [head[-len(BASELINES) :] for head in heads] == [[*BASELINES]] * len(heads)
    assert [row for head in heads for row in head if row in methods] == [*methods]
    *blocks, last = (line for line in lines if line.startswith("insertion"))
    means = [re.split(r"\s{2,}", line)[-len(BASELINES) :] for line in blocks]
    assert means == [[cell.split()[0] for cell in re.split(r"\s{2,}", last)[1:]]] * len(blocks)
    cells = line_of(whole, "insertion").split()[3:]
    assert all(cell in narrow for cell in cells)


def test_the_table_and_the_json_name_the_kind_of_interval() -> None:
    names = {1: None, 2: "Student's t", 39: "Student's t", 40: "bootstrap"}
    for images, name in names.items():
        values = np.random.default_rng(0).random((3, images))
        summary = Summary(scores_of(["cam"], {"insertion": values}))
        (last,) = terminal_table(summary).splitlines()[-1:]
        assert last.endswith(f"seed 0, intervals {name}." if name else "seed 0."), images
        record = metrics_record(summary)
        assert record["metrics"]["insertion"]["rows"]["cam"]["interval"] == name
        assert record["interval"] == {"level": 0.95, "bootstrap_images": 40, "resamples": 2000}
    values[0, 1:] = np.nan
    values[1, 2:] = np.nan
    last = terminal_table(Summary(scores_of(["cam"], {"insertion": values}))).splitlines()[-1]
    assert last.endswith("seed 0, intervals Student's t and bootstrap.")


def test_the_table_explains_marks_and_prints_remarks() -> None:
    insertion = np.array([[0.1] * 4, [0.5] * 4, [0.2] * 4])
    sanity = np.array([[0.9] * 4, [1.0] * 4, [1.0] * 4])
    text = terminal_table(
        Summary(scores_of(["guided"], {"insertion": insertion, "sanity": sanity}))
    )
    assert "0.100 [0.100, 0.100]!" in text
    assert "! not better than a baseline (random or centre)" in text
    assert "guided fails the sanity check" in text


def test_baselines_depend_on_image_number_and_seed_only() -> None:
    random, centre = BASELINES["random"], BASELINES["centre"]
    assert torch.equal(random([3, 8], 0)[1], random([8], 0)[0])
    assert not torch.equal(random([3], 0), random([3], 1))
    assert not torch.equal(random([3], 0), random([4], 0))
    (bell,) = centre([0], 0)
    assert bell.argmax() in (13 * 28 + 13, 13 * 28 + 14, 14 * 28 + 13, 14 * 28 + 14)
    assert torch.equal(bell, bell.T)
    assert torch.allclose(bell, bell.flip(0))
