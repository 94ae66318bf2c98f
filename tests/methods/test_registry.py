"""The registry of methods: what it holds and what it refuses."""

from __future__ import annotations

import inspect
import re

import pytest
import torch

from camcli.capture.evidence import Evidence
from camcli.methods.maps import gradcam
from camcli.methods.registry import EVIDENCE, METHODS, Method, register
from tests.support.oracles import ORACLES
from tests.support.vision_transformers import TOKEN_ORACLES


def test_every_method_has_an_oracle() -> None:
    assert {*ORACLES, *TOKEN_ORACLES} == set(METHODS)


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda method: method.name)
def test_every_method_states_its_paper_and_its_shapes(method: Method) -> None:
    assert re.search(r"arXiv:|doi:", method.source)
    assert method.summary.endswith(".")
    assert method.summary.startswith(method.title)
    assert "->" in (inspect.getdoc(method.function) or "")


@pytest.mark.parametrize("name", EVIDENCE)
def test_capture_provides_all_evidence(name: str) -> None:
    assert hasattr(Evidence, name)


def test_trainable_methods() -> None:
    assert {name for name in METHODS if METHODS[name].trainable} == {"gradcam", "gradcam++"}


def test_invalid_methods_are_refused() -> None:
    with pytest.raises(ValueError, match="registered twice"):
        register("gradcam", source="")(gradcam)
    with pytest.raises(ValueError, match=r"asks for \['activations'\]: expected names of"):
        register("new", source="")(lambda activations: activations)
    with pytest.raises(ValueError, match="a trainable method needs acts and grads"):
        register("new", source="", trainable=True)(lambda acts: acts)
    assert "new" not in METHODS


def test_methods_do_not_modify_their_arguments() -> None:
    arguments = {name: torch.randn(2, 3, 4, 4) for name in ("acts", "grads", "guided", "pooled")}
    arguments |= {"weights": torch.randn(2, 3), "bias": torch.randn(2), "score": torch.randn(2)}
    moments = ("log_grads", "mean_square", "mean_cube")
    arguments |= {name: torch.randn(2, 3, 4, 4) for name in moments}
    arguments |= {"masked": torch.randn(2, 3), "ablated": torch.randn(2, 3)}
    arguments |= {"vertical": torch.rand(4, 4), "horizontal": torch.rand(4, 4)}
    arguments |= {"occluded": torch.randn(2, 2, 3)}
    arguments |= {"rows": torch.ones(2, 4), "columns": torch.ones(3, 5)}
    arguments |= {"reading": torch.rand(2, 5), "cells": torch.tensor([[1, 2], [3, 4]])}
    blocks = ("attention", "attention_grads", "block_grads")
    arguments |= {name: torch.randn(3, 2, 2, 5, 5) for name in blocks}
    before = {name: value.clone() for name, value in arguments.items()}
    for method in METHODS.values():
        method.function(**{name: arguments[name] for name in method.needs})
    for name, value in arguments.items():
        assert torch.equal(value, before[name]), name
