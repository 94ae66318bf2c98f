"""ROAD's imputation against a dense solution of the paper's equations."""

from __future__ import annotations

import pytest
import torch

from camcli.evaluation.imputation import impute
from tests.support import metric_oracles


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_imputation_solves_the_equations(share: float) -> None:
    generator = torch.Generator().manual_seed(4)
    images = torch.randn(2, 3, 15, 22, generator=generator).double()
    missing = torch.rand(2, 15, 22, generator=generator) < share
    found = impute(images, missing, tolerance=1e-10).numpy()
    for i in range(2):
        expected = metric_oracles.imputed(images[i].numpy(), missing[i].numpy())
        assert found[i] == pytest.approx(expected, abs=1e-7)
    known = ~missing[:, None].expand_as(images)
    assert torch.equal(impute(images, missing)[known], images[known])


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
def test_half_precision_is_imputed_in_float32(dtype: torch.dtype) -> None:
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)).to(dtype)
    missing = torch.rand(2, 64, 64, generator=torch.Generator().manual_seed(1)) < 0.9
    found = impute(images, missing)
    assert found.dtype == dtype
    assert torch.equal(found, impute(images.float(), missing).to(dtype))
