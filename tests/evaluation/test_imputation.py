"""ROAD's imputation against a dense solution of the paper's equations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from camcli.evaluation.imputation import impute
from tests.support import metric_oracles


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_imputation_solves_the_equations(share: float) -> None:
    generator = torch.Generator().manual_seed(4)
    images = torch.randn(2, 3, 15, 22, generator=generator).double()
    missing = torch.rand(2, 15, 22, generator=generator) < share
    found = impute(images, missing).numpy()
    for i in range(2):
        expected = metric_oracles.imputed(images[i].numpy(), missing[i].numpy())
        assert found[i] == pytest.approx(expected, abs=1e-9)
    known = ~missing[:, None].expand_as(images)
    assert torch.equal(impute(images, missing)[known], images[known])


def test_a_large_hole_is_solved_as_exactly_as_a_small_one() -> None:
    """A disk, whose middle is far from all known pixels."""
    y, x = torch.meshgrid(torch.arange(56.0), torch.arange(56.0), indexing="ij")
    missing = (y - 24).square() + (x - 27).square() < 26**2
    image = torch.randn(3, 56, 56, generator=torch.Generator().manual_seed(2))
    found = impute(image[None], missing[None])[0].numpy()
    expected = metric_oracles.imputed(image.double().numpy(), missing.numpy())
    assert np.abs(found - expected).max() < 1e-6


def test_a_slope_continues_into_a_hole() -> None:
    """Each pixel of a slope is the mean of its neighbours, so that the solution is known."""
    y, x = torch.meshgrid(torch.linspace(-2, 2, 224), torch.linspace(-2, 2, 224), indexing="ij")
    slopes = torch.stack([y, x, x - y / 2])
    missing = (y.abs() < 1.95) & (x.abs() < 1.95)
    assert (impute(slopes[None], missing[None])[0] - slopes).abs().max() < 1e-6


def test_an_image_without_known_pixels_becomes_0() -> None:
    images, missing = torch.ones(2, 3, 6, 5), torch.ones(2, 6, 5, dtype=torch.bool)
    missing[1, 2, 3] = False
    found = impute(images, missing)
    assert not found[0].any()
    assert torch.allclose(found[1], images[1])


@pytest.mark.parametrize("shape", [(1, 6), (6, 1), (1, 1)])
def test_a_line_of_pixels_is_imputed(shape: tuple[int, int]) -> None:
    image, missing = torch.arange(6.0)[: shape[0] * shape[1]].view(1, 1, *shape), torch.ones(shape)
    missing.view(-1)[0] = 0
    assert not impute(image, missing[None] > 0).any(), "the only known pixel is 0"


def test_an_imputed_image_does_not_depend_on_its_batch() -> None:
    generator = torch.Generator().manual_seed(1)
    scales = torch.tensor([1.0, 30, 0.1])[:, None, None, None]
    images = torch.randn(3, 3, 40, 40, generator=generator) * scales
    shares = torch.tensor([0.2, 0.9, 0.5])[:, None, None]
    missing = torch.rand(3, 40, 40, generator=generator) < shares
    together = impute(images, missing)
    for i in range(3):
        alone = impute(images[i : i + 1], missing[i : i + 1])
        assert torch.allclose(together[i], alone[0], atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_imputed_exactly(dtype: torch.dtype) -> None:
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)).to(dtype)
    missing = torch.rand(2, 64, 64, generator=torch.Generator().manual_seed(1)) < 0.9
    found = impute(images, missing)
    assert found.dtype == dtype
    assert torch.equal(found, impute(images.float(), missing).to(dtype))
