"""Masks, replacements for missing pixels, correlations, and the randomized network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from camcli.evaluation import perturbation
from camcli.evaluation.correlation import pearson, ranks, spearman
from camcli.evaluation.randomization import cascading_randomization
from camcli.images.preprocess import Preset
from tests.support.metric_oracles import MEAN, STD
from tests.support.networks import GapNet


def test_maps_are_normalized_to_0_and_1() -> None:
    maps = torch.tensor([[[-1.0, 0.0], [1.0, 3.0]], [[-2.0, -2.0], [-2.0, -2.0]]])
    assert perturbation.normalize(maps, "max")[0].tolist() == [[0, 0], [pytest.approx(1 / 3), 1]]
    assert perturbation.normalize(maps, "minmax")[0].tolist() == [[0, 0.25], [0.5, 1]]
    assert not perturbation.normalize(maps, "minmax")[1].any()


def test_signed_gradients_are_summed_over_colours() -> None:
    gradients = torch.tensor([[[[-1.0]], [[2.0]], [[-3.0]]]])
    assert perturbation.sum_gradients(gradients, "abs").item() == 6
    assert perturbation.sum_gradients(gradients, "positive").item() == 2


def test_fills_are_black_and_the_mean_colour(images: Tensor) -> None:
    black = perturbation.fill(images, Preset(), "black")[0, :, 0, 0].numpy()
    assert black == pytest.approx((0 - MEAN[:, 0, 0]) / STD[:, 0, 0])
    assert not perturbation.fill(images, Preset(), "mean").any()
    plain = Preset(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    grey = perturbation.fill(images, plain, "mean")[0, :, 0, 0].numpy()
    assert grey == pytest.approx(np.array(Preset.mean), abs=1e-6)


@pytest.mark.parametrize("rows", [range(18), range(4, 11), (5, 3, 4, 4, 9, 0, 17, 14)])
def test_replaced_images_continue_from_the_step_before(rows: Sequence[int]) -> None:
    before, after = torch.randn(2, 3, 3, 5, 4, generator=torch.Generator().manual_seed(0))
    maps, counts = torch.arange(60.0).view(3, 5, 4).cos(), torch.tensor([0, 3, 3, 11, 19, 20])
    index, step = torch.cartesian_prod(torch.arange(3), torch.arange(6))[list(rows)].unbind(1)
    found = perturbation.replacing(before, after, perturbation.ranked(maps), counts)(index, step)
    first = perturbation.pixel_order(maps)[index] < counts[step, None, None]
    assert torch.equal(found, torch.where(first[:, None], after[index], before[index]))
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_ranks_are_not_the_order() -> None:
    values = torch.tensor([[3.0, 1.0, 2.0, 9.0], [5.0, 5.0, 0.0, 0.0]])
    assert ranks(values).tolist() == [[2, 0, 1, 3], [2.5, 2.5, 0.5, 0.5]]
    distinct = torch.randn(4, 6, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ranks(distinct), distinct.flatten(1).argsort(1).argsort(1).float())


def test_flat_maps_have_no_correlation() -> None:
    flat, slope = torch.full((1, 3, 4), 0.1), torch.arange(12.0).view(1, 3, 4)
    assert pearson(flat, slope).isnan().all()
    assert pearson(1e-20 * slope, slope).item() == pytest.approx(1)
    assert spearman(slope, flat).item() == 0
    assert spearman(slope**3, slope).item() == pytest.approx(1)
    two = torch.cat([slope, 1e-20 * slope])
    assert pearson(two, two.flip(0)).tolist() == pytest.approx([1, 1]), "image by image"


def test_randomization_restores_the_original_tensors(gap_net: GapNet) -> None:
    before = {name: (t.data_ptr(), t.clone()) for name, t in gap_net.state_dict().items()}
    with pytest.raises(KeyError), cascading_randomization(gap_net, 8, 0) as steps:  # noqa: PT012
        for step in steps:
            changed = [n for n, t in gap_net.state_dict().items() if not t.equal(before[n][1])]
            assert len(changed) == 2 * (step + 1)
        assert step == 2
        assert changed[0].startswith("trunk")
        raise KeyError
    for name, tensor in gap_net.state_dict().items():
        assert tensor.data_ptr() == before[name][0]
        assert tensor.equal(before[name][1])
