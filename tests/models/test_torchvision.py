"""Importing torchvision does not import torch's compiler, which still works when it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest


def fresh(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_explaining_does_not_import_the_compiler() -> None:
    fresh(
        """
import sys, torch
alone = "torch._dynamo" in sys.modules  # by torch itself
import camcli, camcli.runs.pipeline, camcli.training.train
from camcli.models.fold_batchnorm import fold_batchnorm
camcli.explain(fold_batchnorm(camcli.load("mini")), torch.randn(1, 3, 160, 160))
assert alone or "torch._dynamo" not in sys.modules
"""
    )


@pytest.mark.parametrize(
    "first", ["import camcli.models.torchvision", "import torchvision, camcli.models.torchvision"]
)
def test_the_deferred_function_is_the_real_one(first: str) -> None:
    fresh(
        f"""
import sys, torch
{first}
torchvisions = sys.modules["torchvision.ops.roi_align"].is_compile_supported
found = [torchvisions(kind) for kind in ("cpu", "cuda", "meta")]
from torch._dynamo.utils import is_compile_supported, counters
assert found == [is_compile_supported(kind) for kind in ("cpu", "cuda", "meta")]
assert torch.compile(lambda x: x + 1, backend="eager")(torch.ones(2)).tolist() == [2, 2]
assert counters["frames"]["ok"] == 1
"""
    )


def test_other_attributes_of_the_placeholder_are_loaded() -> None:
    fresh(
        """
import sys
from camcli.models.torchvision import _deferred
sys.modules.pop("colorsys", None)
with _deferred("colorsys", "rgb_to_hsv"):
    from colorsys import rgb_to_hsv, ONE_THIRD
assert ONE_THIRD == 1 / 3 and rgb_to_hsv(1, 0, 0) == (0, 1, 1)
assert sys.modules["colorsys"].ONE_SIXTH == 1 / 6
"""
    )
