"""The section that compares compiled networks with eager ones."""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from tests.bench.clock import Contender, Measurement, in_turns, ratio
from tests.bench.workload import Workload, forward_of, plain_and_folded

Compiler = Callable[[Any, Tensor], Any]


def compilers(work: Workload) -> Iterator[Measurement]:
    """Compare the forward pass of compiled networks with that which the command runs.

    The first calls compile, and are a row of their own. The last row of a compiler is the time of
    its first calls and of all images after it, beside that of all images without it.
    """
    for name in work.of("squeezenet1_0", "resnet50"):
        model, images = plain_and_folded(name, work)[1], work.input()
        contenders: dict[str, Contender] = {"eager": forward_of(model.module, images)}
        spent: dict[str, float] = {}
        torch.compiler.reset()
        for what, compiler in COMPILERS.items():
            try:
                spent[what], contenders[what] = _compiled(compiler, model.module, images)
            except (RuntimeError, AttributeError) as error:  # no compiler of C++, no such function
                reason = str(error).strip().partition("\n")[0]
                sys.stderr.write(f"{what} does not run and is left out: {reason}\n")
        seconds = in_turns(contenders, work.repeats)
        eager, passes = seconds["eager"], work.images / len(images)
        for what, taken in seconds.items():
            place = "compile", f"{name}, batch {len(images)}"
            yield Measurement(*place, what, statistics.median(taken), ratio(taken, eager))
        for what, first in spent.items():
            place = "compile", f"{name}, {work.images} images"
            whole = first + passes * statistics.median(seconds[what])
            bare = passes * statistics.median(eager)
            yield Measurement(*place, f"{what}, first calls", first, first / bare)
            yield Measurement(*place, f"{what}, with its first calls", whole, whole / bare)


def _compiled(compiler: Compiler, module: Any, images: Tensor) -> tuple[float, Contender]:
    """Return the seconds of compilation and of three calls, and the forward pass."""
    with tempfile.TemporaryDirectory() as cache, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        began = time.perf_counter()
        with patch.dict(os.environ, TORCHINDUCTOR_CACHE_DIR=cache), torch.inference_mode():
            run = forward_of(compiler(module, images), images)
            for _ in range(3):  # TorchScript optimises in the second one
                run()
        return time.perf_counter() - began, run


def _inductor(module: Any, images: Tensor, freezing: bool = False) -> Any:
    return torch.compile(module, options={"freezing": freezing})


def _frozen(module: Any, images: Tensor, onednn: bool = False) -> Any:
    torch.jit.enable_onednn_fusion(onednn)
    return torch.jit.freeze(torch.jit.trace(module, images))


def _optimized(module: Any, images: Tensor) -> Any:
    return torch.jit.optimize_for_inference(_frozen(module, images))


COMPILERS: Mapping[str, Compiler] = {
    "torch.compile": _inductor,
    "torch.compile, freezing": partial(_inductor, freezing=True),
    "freeze, optimize_for_inference": _optimized,
    "freeze, oneDNN graph": partial(_frozen, onednn=True),
}
