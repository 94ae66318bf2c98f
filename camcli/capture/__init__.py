"""Watching a forward pass: the only room with hooks and autograd.

At the target layer a forward hook replaces the output by a detached leaf and hands a clone on (so
that an in-place ReLU behind it cannot damage it). The trunk therefore builds no graph, and a
backward pass covers only the head: K targets cost K passes over the head and one over the trunk.
Only Guided Backpropagation needs a graph through the trunk, and then the same forward pass serves
for the plain and for the guided gradients.

Whatever is changed on a caller's model (mode, requires_grad, hooks) is put back on leaving, after
an exception too; `.grad` is never written.
"""

from __future__ import annotations

from camcli.capture.evidence import Aim, Evidence
from camcli.capture.forward import Pass, Watch
from camcli.capture.guided import GuidedReLU
from camcli.capture.hooks import Tap, borrowed, gradient, tapped
from camcli.capture.tracing import Call, trace
from camcli.capture.windows import Window
from camcli.models.fold_batchnorm import merge
from camcli.models.head import Head

__all__ = [
    "Aim",
    "Call",
    "Evidence",
    "GuidedReLU",
    "Head",
    "Pass",
    "Tap",
    "Watch",
    "Window",
    "borrowed",
    "gradient",
    "merge",
    "tapped",
    "trace",
]
