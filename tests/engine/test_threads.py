"""Calls from several threads: on one network they wait for each other, and stay exact."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from camcli import Model, explain, load
from camcli.capture.windows import Window
from camcli.engine.predict import probabilities
from camcli.evaluation.randomization import cascading_randomization
from camcli.models.exclusive import exclusive
from camcli.models.fold_batchnorm import fold_batchnorm
from camcli.runs.parallel import copy_sharing_weights
from tests.support.networks import OF_MAPS, GapNet

THREADS = 8


@pytest.fixture(autouse=True)
def frequent_switches() -> Iterator[None]:
    """Let threads take turns as often as possible."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def state(net: nn.Module) -> list[Any]:
    """Return what a call could leave changed in a network."""
    hooks = [(len(part._forward_hooks), part.training) for part in net.modules()]
    return [hooks, [(p.requires_grad, p.grad) for p in net.parameters()]]


def maps(net: Model | nn.Module, images: Tensor, method: str) -> Tensor:
    return explain(net, images, method, target=1, window=Window(9, 6)).maps


def in_threads(calls: list[Callable[[], Any]]) -> list[Any]:
    """Return the results of calls from as many threads, which start together."""
    start = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        start.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as threads:
        return [*threads.map(run, calls)]


@pytest.fixture
def net(gap_net: GapNet) -> GapNet:
    """A network in training mode, of which a part is frozen."""
    gap_net.train()
    gap_net.last.eval()
    gap_net.trunk.requires_grad_(False)
    return gap_net


def test_one_network_in_many_threads(net: GapNet, images: Tensor) -> None:
    before = state(net)
    expected = {method: maps(copy.deepcopy(net), images, method) for method in OF_MAPS}
    shares = probabilities(copy.deepcopy(net), images)

    def explain_all(first: int) -> list[tuple[str, Tensor]]:
        names = [*OF_MAPS][first:] + [*OF_MAPS][:first]
        assert torch.equal(probabilities(net, images), shares)
        return [(name, maps(net, images, name)) for name in names]

    for found in in_threads([lambda i=i: explain_all(i) for i in range(THREADS)]):
        for name, values in found:
            assert torch.equal(values, expected[name]), name
    assert state(net) == before


class Larger(nn.Module):
    """A network that another one is a part of."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) * 2


class Tied(GapNet):
    """A network that shares its parameters with another one, and no part."""

    def __init__(self, other: GapNet) -> None:
        super().__init__()
        for part, given in zip(self.modules(), other.modules(), strict=True):
            part._parameters.update(given._parameters)


@pytest.mark.parametrize("other_of", [Model, Larger, Tied, lambda net: net.trunk])
def test_networks_with_common_parts(
    other_of: Callable[[nn.Module], Any], net: GapNet, images: Tensor
) -> None:
    other, before = other_of(net), state(net)

    def of_other() -> Tensor:
        if isinstance(other, nn.Sequential):
            return explain(other, images, target=lambda y: y.sum((1, 2, 3)), layer="0").maps
        return maps(other, images, "guided")

    calls = [lambda: maps(net, images, "guided"), of_other]
    expected = [call() for call in calls]

    def often(call: Callable[[], Tensor]) -> list[Tensor]:
        return [call() for _ in range(5)]

    found = in_threads([lambda call=call: often(call) for call in calls * 2])
    for results, wanted in zip(found, expected * 2, strict=True):
        assert all(torch.equal(values, wanted) for values in results)
    assert state(net) == before


def test_different_networks_run_side_by_side(net: GapNet, images: Tensor) -> None:
    other = copy.deepcopy(net)
    met = threading.Barrier(2, timeout=60)  # which each passes only while the other is inside

    def explain_and_meet(one: GapNet) -> None:
        explain(one, images, target=lambda y: (met.wait(), y[:, 1])[1])

    in_threads([lambda: explain_and_meet(net), lambda: explain_and_meet(other)])


def test_copies_that_share_weights_run_side_by_side(net: GapNet, images: Tensor) -> None:
    copied = copy_sharing_weights(Model(net))
    assert copied is not None
    with exclusive(net):
        (found,) = in_threads([lambda: maps(copied, images, "guided")])
    assert torch.equal(found, maps(net, images, "guided"))


def test_a_call_waits_while_weights_are_random(net: GapNet, images: Tensor) -> None:
    expected, found = maps(net, images, "gradcam"), []
    other = threading.Thread(target=lambda: found.append(maps(net, images, "gradcam")))
    with cascading_randomization(net, steps=2, seed=0) as steps:
        next(steps)
        other.start()
        other.join(0.2)
        assert not found
    other.join()
    assert torch.equal(found[0], expected)


def test_folding_waits_for_a_watched_pass(images: Tensor) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3))
    net = nn.Sequential(*net, nn.AdaptiveAvgPool2d(1), nn.Flatten()).double()  # is training
    folded: list[Model] = []
    other = threading.Thread(target=lambda: folded.append(fold_batchnorm(Model(net))))

    def score(y: Tensor) -> Tensor:
        if other.ident is None:
            other.start()
            other.join(0.2)
        return y[:, 1]

    explain(net, images, target=score)
    other.join()
    assert folded[0].module is net, "folded in training mode, where the result would differ"


def test_a_target_may_explain_the_same_network(net: GapNet, images: Tensor) -> None:
    inner: list[Tensor] = []

    def score(y: Tensor) -> Tensor:
        inner.append(maps(net, images, "gradcam"))
        return y[:, 1]

    assert torch.equal(explain(net, images, target=score).maps, inner[0])


def test_a_network_is_free_after_its_thread_died(net: GapNet, images: Tensor) -> None:
    held = exclusive(net)
    thread = threading.Thread(target=held.__enter__)
    thread.start()
    thread.join()
    (found,) = in_threads([lambda: maps(net, images, "gradcam")])
    assert len(found) == len(images)


def test_a_network_in_use_is_copied_and_pickled(net: GapNet, images: Tensor) -> None:
    with exclusive(net):
        copied = pickle.loads(pickle.dumps(copy.deepcopy(net)))  # noqa: S301 - made here
    assert torch.equal(maps(copied, images, "gradcam"), maps(net, images, "gradcam"))


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="this system has no fork")
def test_a_network_is_free_in_a_forked_process(net: GapNet, images: Tensor) -> None:
    inside, done = threading.Event(), threading.Event()

    def hold() -> None:
        with exclusive(net):
            inside.set()
            done.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    inside.wait()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads
        child = multiprocessing.get_context("fork").Process(target=_use, args=[net])
        child.start()
    child.join(60)
    code = child.exitcode
    child.kill()
    done.set()
    holder.join()
    assert code == 0


def _use(net: nn.Module) -> None:
    with exclusive(net):
        pass


def test_warning_filters_are_restored(net: GapNet, images: Tensor) -> None:
    before = [*warnings.filters]
    calls = [lambda name=name: maps(net, images, name) for name in ("ablationcam", "occlusion")]
    nets = [copy.deepcopy(net) for _ in range(4)]
    of_copies = [
        lambda n=n, name=name: [maps(n, images, name) for _ in range(4)]
        for n in nets
        for name in ("ablationcam", "occlusion")
    ]
    in_threads(calls + of_copies)
    assert warnings.filters == before


def test_random_weights_follow_the_seed_in_many_threads() -> None:
    def digest(seed: int) -> float:
        net = load("squeezenet1_1", "none", seed=seed).module
        return sum(float(p.detach().double().sum()) for p in net.parameters())

    expected = [digest(seed) for seed in range(4)]
    assert in_threads([lambda seed=seed: digest(seed) for seed in range(4)]) == expected
