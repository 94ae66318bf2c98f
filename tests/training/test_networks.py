"""The class layer of a student that has initial weights."""

from __future__ import annotations

import pytest
import torch

from camcli.models.load import with_classes
from camcli.models.torchvision_networks import initialise_torchvision


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "vgg11"])
def test_only_a_class_layer_for_other_classes_is_replaced_by_zeros(name: str) -> None:
    model = initialise_torchvision(name, ["a", "b"])
    assert with_classes(model, ["a", "b"]) is model
    before = {key: value.clone() for key, value in model.module.state_dict().items()}
    new = with_classes(model, ["x", "y", "z"])
    assert new.class_names == ("x", "y", "z")
    with torch.no_grad():
        scores = new.module.eval()(torch.rand(1, 3, 64, 64))
    assert scores.tolist() == [[0, 0, 0]]
    after = new.module.state_dict()
    changed = [key for key, value in before.items() if not torch.equal(value, after[key])]
    assert len(changed) == 2, "expected the weight and the bias of the class layer"
