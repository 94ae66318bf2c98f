"""Two small models and an image for the tests of figures."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from camcli import Model
from camcli.images.geometry import Pixels
from camcli.images.preprocess import Preset
from tests.support.networks import DeepHead, GapNet


@pytest.fixture
def pixels() -> Pixels:
    y, x = np.mgrid[:50, :70]
    return np.stack([3 * x, 5 * y, 120 + 2 * (x - y)], axis=-1).astype(np.uint8)


@pytest.fixture
def model() -> Model:
    torch.manual_seed(0)
    names = ("ant", "bee", "cat", "an exceedingly long name of a class", "elk")
    return Model(GapNet(), "small", preset=Preset(40, 32), class_names=names, num_classes=5)


@pytest.fixture
def deep_head_model() -> Model:
    """A model with other classes to which CAM does not apply."""
    torch.manual_seed(1)
    names = ("ant", "bee", "cow", "a dog of an exceedingly long name", "elk")
    return Model(DeepHead(), "deep", preset=Preset(32, 32), class_names=names, num_classes=5)
