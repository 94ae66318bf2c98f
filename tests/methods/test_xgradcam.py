"""The weights of XGrad-CAM for activations that are not positive."""

from __future__ import annotations

import torch

from camcli.methods.maps import xgradcam


def test_a_channel_of_negative_values_follows_the_paper() -> None:
    grads = torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    acts = -torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    paper = (grads * acts).sum() / acts.sum()
    torch.testing.assert_close(xgradcam(acts, grads), (paper * acts[:, 0]).relu())
    torch.testing.assert_close(xgradcam(acts, -grads), (-paper * acts[:, 0]).relu())


def test_a_channel_of_both_signs_weights_by_absolute_values() -> None:
    acts = torch.tensor([[3.0, -1.0], [-1.0, -1.0]])[None, None]
    assert acts.sum() == 0, "a pole of the paper's formula"
    grads = torch.tensor([[5.0, 1.0], [2.0, 3.0]])[None, None]
    mean = (3 * 5 + 1 + 2 + 3) / 6
    torch.testing.assert_close(xgradcam(acts, grads), (mean * acts[:, 0]).relu())


def test_a_channel_of_zeros_has_no_weight() -> None:
    acts = torch.stack([torch.zeros(3, 3), torch.ones(3, 3)])[None]
    torch.testing.assert_close(xgradcam(acts, torch.ones_like(acts)), torch.ones(1, 3, 3))
    assert not xgradcam(torch.zeros_like(acts), torch.ones_like(acts)).any()
