"""The projection of Eigen-CAM on the first principal direction."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from camcli.methods.maps import eigencam, eigengradcam
from tests.support.oracles import principal


@pytest.mark.parametrize("shape", [(2, 5, 3, 4), (2, 20, 3, 3), (1, 1, 4, 4), (3, 4, 2, 2)])
def test_the_projection_agrees_with_numpy(shape: tuple[int, ...]) -> None:
    """With more channels than positions and with fewer, for values of both signs."""
    acts = torch.randn(shape, generator=torch.Generator().manual_seed(3)).double()
    np.testing.assert_allclose(
        eigencam(acts), principal(acts.numpy()).clip(min=0), rtol=1e-9, atol=1e-12
    )


def test_sparse_maps_converge() -> None:
    """LAPACK's eigenvectors of these Gram matrices do not converge in float32."""
    random = torch.Generator().manual_seed(5)
    maps = torch.randn(8, 512, 13, 13, generator=random)
    maps *= torch.rand(8, 1, 13, 13, generator=random) < 0.1
    maps *= 10 ** (-12 * torch.rand(8, 1, 13, 13, generator=random))
    found = eigencam(maps).double()
    expected = torch.from_numpy(principal(maps.double().numpy())).relu()
    assert expected.any()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.max()))


def test_equal_and_missing_principal_directions() -> None:
    """A tie gives one of the directions. An image with NaN does not affect the others."""
    equal = torch.eye(2).view(1, 2, 1, 2)
    torch.testing.assert_close(eigencam(equal).norm(), torch.tensor(1.0))
    maps = torch.rand(3, 4, 3, 3, generator=torch.Generator().manual_seed(6))
    expected = eigencam(maps[:1])
    maps[1], maps[2] = torch.nan, 0
    found = eigencam(maps)
    torch.testing.assert_close(found[:1], expected)
    assert found[1].isnan().all()
    assert not found[2].any()


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1.0, 1e12, 1e30])
def test_the_projection_is_proportional_to_the_scale(scale: float) -> None:
    acts = torch.rand(2, 6, 4, 4, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(eigencam(acts * scale) / scale, eigencam(acts))
    assert not eigencam(acts * 0).any()
    assert eigencam(acts.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("shape", [(40, 5, 3, 4), (40, 20, 3, 3)])
def test_no_map_of_a_layer_of_both_signs_is_empty(shape: tuple[int, ...]) -> None:
    """The sum of the direction does not tell the sign: channels that are low everywhere do."""
    acts = torch.randn(shape, generator=torch.Generator().manual_seed(3)).double()
    acts[:, 0] = -3 - torch.rand(40, *shape[2:]).double()
    acts[:, 1:3] += 2
    projected = torch.from_numpy(principal(acts.numpy()))
    assert (eigencam(acts).sum((1, 2)) >= projected.sum((1, 2)) - 1e-9).all()
    assert eigencam(acts).flatten(1).any(1).all()
    torch.testing.assert_close(eigencam(-acts), eigencam(acts))


def test_evidence_against_a_class_keeps_its_sign() -> None:
    """The map of `g A` is that of the positive part of the projection with the sign of its sum."""
    random = torch.Generator().manual_seed(7)
    acts, grads = (torch.randn(40, 6, 4, 4, generator=random).double() for _ in range(2))
    total = (acts * grads).sum((1, 2, 3))
    projected = torch.from_numpy(principal((acts * grads).numpy()))
    signed = projected * total.sign()[:, None, None]
    torch.testing.assert_close(eigengradcam(acts, grads), signed.relu())
    torch.testing.assert_close(eigengradcam(acts, -grads), (-signed).relu())
