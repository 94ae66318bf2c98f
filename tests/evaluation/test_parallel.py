"""Evaluations that run batches in parallel threads."""

from __future__ import annotations

import itertools
import threading
import warnings
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from camcli.evaluation.protocol import Protocol
from camcli.evaluation.run import run_study
from camcli.evaluation.scores import Scores
from camcli.evaluation.study import Study
from camcli.models.model import Model
from camcli.runs.options import InputOptions
from tests.support.evaluation import Colours, sources_of
from tests.support.networks import Threads

METRICS = ("average-drop", "deletion", "coherency", "sanity", "grid")


@pytest.fixture(autouse=True)
def four_threads() -> Iterator[None]:
    torch.set_num_threads(4)
    yield
    assert torch.get_num_threads() == 4
    torch.set_num_threads(1)


class ThreadsOfColours(Colours):
    """A network whose copies record in Threads which threads run them."""

    def forward(self, x: Tensor) -> Tensor:
        Threads.record()
        return super().forward(x)


def study_of(folder: Path, module: torch.nn.Module) -> Study:
    Threads.seen.clear()
    Threads.second.clear()
    protocol = Protocol(curve_steps=3, sanity_steps=2, min_confidence=0)
    methods, inputs = ("gradcam", "scorecam"), InputOptions(batch_size=5)
    model = Model(module.eval())
    return Study(sources_of(folder), model, methods, METRICS, protocol, inputs=inputs)


def scores_of(study: Study) -> Scores:
    scores = Scores(study)
    for result in run_study(study):
        scores.add(result)
    return scores


def assert_close(found: Scores, expected: Scores) -> None:
    assert found.classes.keys() == expected.classes.keys()
    for name in METRICS:
        assert np.isfinite(found.values[name]).any(), name
        np.testing.assert_allclose(found.values[name], expected.values[name], atol=1e-4)


def test_a_parallel_evaluation_equals_one_in_a_single_thread(coloured: Path) -> None:
    several = scores_of(study_of(coloured, ThreadsOfColours()))
    here = threading.get_ident()
    assert {share for thread, share in Threads.seen if thread != here} == {2}
    assert len({thread for thread, _ in Threads.seen} - {here}) >= 2
    torch.set_num_threads(1)
    alone = scores_of(study_of(coloured, Colours()))
    torch.set_num_threads(4)
    assert_close(several, alone)


def test_each_worker_halves_its_batches_when_memory_is_short(coloured: Path) -> None:
    class Small(Colours):
        def forward(self, x: Tensor) -> Tensor:
            if len(x) > 2:
                raise torch.OutOfMemoryError
            return super().forward(x)

    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        found = scores_of(study_of(coloured, Small()))
    assert any("out of memory" in str(one.message) for one in warned)
    assert not found.failures
    assert_close(found, scores_of(study_of(coloured, Colours())))


def test_stopping_an_evaluation_ends_its_threads(coloured: Path) -> None:
    before = {*threading.enumerate()}
    with closing(run_study(study_of(coloured, ThreadsOfColours()))) as results:
        assert len([*itertools.islice(results, 1)]) == 1
    assert {*threading.enumerate()} <= before
