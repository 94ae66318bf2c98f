"""Tracing the operations of a network."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn

from camcli.models.graph import operations


def test_the_traced_network_is_unchanged(gap_net: nn.Module) -> None:
    before = {name: dict(vars(part)) for name, part in gap_net.named_modules()}
    network = operations(gap_net)
    assert network is not None
    assert {name: vars(part) for name, part in gap_net.named_modules()} == before
    shared = zip(gap_net.parameters(), network.module.parameters(), strict=True)
    assert all(own is traced for own, traced in shared)


def test_other_threads_can_run_the_network_during_tracing(
    gap_net: nn.Module, images: Tensor
) -> None:
    expected = gap_net(images)

    class Waiting(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            with ThreadPoolExecutor(1) as pool:
                assert torch.equal(pool.submit(gap_net, images).result(), expected)
            return x.relu()

    assert operations(Waiting()) is not None
