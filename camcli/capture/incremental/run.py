"""Occlusion that recomputes only what a window changes.

A window changes a rectangle of the image, and after each convolution a slightly larger rectangle of
the map; the rest equals the map of the unchanged image (Nakandala et al. 2019, Incremental and
Approximate Inference for Faster Occlusion-based Deep CNN Explanations, SIGMOD, sec. 4). The
unchanged image therefore runs once, and its maps are kept. For each window, an operation then runs
on a patch: its input is cut out of the kept map, with the patch of the operation before it pasted
in. Where the rectangles have become too large to save work, or an operation depends on the whole
map, the patches are pasted into copies of the kept maps, and the rest of the network runs on these.

    the network as a graph of operations             models/graph.py
    operations that depend on a few positions        locality.py
    positions that change, and how to cut them out   regions.py
    where to stop using patches                      planning.py
    windows on patches, then on whole maps           this file

Patches are used only where they give the same result: for one image batch as input and one tensor
of class scores as output, without hooks, and if a few windows agree with the network itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn.functional import pad

from camcli.capture.endings import FUNCTIONS, Ended, last_values, own_output
from camcli.capture.forward import Pass
from camcli.capture.incremental.planning import Plan, make_plan
from camcli.capture.incremental.regions import Span
from camcli.models.graph import apply, operations

_CHECKED = 3
"""The number of windows that are compared with the network itself."""


def find_plan(run: Pass, covered: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Plan | None:
    """Return how to run the windows of a pass on patches; None if impossible or not faster.

    `covered` returns images `which` (B,) with the window at `row` (B,) and `column` (B,).
    """
    tensors = len(run.inputs) == 1 and isinstance(own_output(run.output), Tensor)
    if not tensors or run.watch.reader.task != "classification":
        return None
    ending = FUNCTIONS if isinstance(run.output, Ended) else ()
    if (network := operations(run.watch.module, ending)) is None:
        return None
    rows, columns = map(_span, run.coverage)
    effort = run.size + _CHECKED + 1  # passes to find and check a plan, and to keep maps
    least = effort / (run.size * len(rows.first) * len(columns.first))
    try:
        plan = make_plan(network, run.image[:1], (rows, columns), least)
        return plan if plan and _agrees(plan, run, covered) else None
    except RuntimeError:  # from shapes that patches do not fit
        return None


def _agrees(plan: Plan, run: Pass, covered: Callable[[Tensor, Tensor, Tensor], Tensor]) -> bool:
    """Return whether some windows, also at borders, give the output of the network itself."""
    row, column = (
        torch.linspace(0, len(span.first) - 1, _CHECKED, device=run.image.device).long()
        for span in plan.area
    )
    which = torch.zeros_like(row)
    images = covered(which, row, column)
    expected = last_values(run.output_of(images, which))
    found = PatchRunner(plan, run.image[:1])(images, which, row, column)
    if not isinstance(found, Tensor) or found.shape != expected.shape:
        return False
    close = torch.finfo(expected.dtype).eps ** 0.5 * float(expected.abs().max())
    return bool(((found - expected).abs() <= close).all())


def _span(covering: Tensor) -> Span:
    """Return the positions of a side that the window covers, from a mask (P,L)."""
    covered = covering.cpu().long()
    first = covered.argmax(1)
    return Span(first, first + covered.sum(1), covered.shape[1])


class PatchRunner:
    """Runs a network on windows over one image (1,C,H,W), and keeps the maps of the image."""

    def __init__(self, plan: Plan, image: Tensor) -> None:
        self.plan = plan
        self.kept: dict[tuple[fx.Node, fx.Node | None], Tensor] = {}
        values: dict[fx.Node, Any] = {}
        for node in plan.head:
            values[node] = image
            if node.op != "placeholder":
                values[node] = apply(plan.network, node, values.__getitem__)
            for user, cuts in plan.cuts.items():
                if node in cuts:
                    self.kept[node, user] = self._padded(values[node], node, user)
            self._drop_used(node, values)

    def __call__(self, images: Tensor, _: Tensor, row: Tensor, column: Tensor) -> Any:
        """Return the output for images (B,C,H,W) covered at `row` (B,) and `column` (B,).

        For a network that ends in a softmax or sigmoid, it is the values before that.
        """
        values: dict[fx.Node, Any] = {}
        for node, local in self.plan.head.items():

            def given(source: fx.Node, user: fx.Node = node) -> Any:
                if source not in self.plan.cuts[user]:
                    return values[source]
                return self._pasted(values[source], source, user, row, column)

            if node.op == "placeholder":
                values[node] = self._image_patches(images, row, column)
            elif local.unpadded is not None:
                values[node] = local.unpadded(given(node.all_input_nodes[0]))
            else:
                values[node] = apply(self.plan.network, node, given)
            self._drop_used(node, values)
        whole = {
            source: self._pasted(values.pop(source), source, None, row, column)
            for source in self.plan.cuts[None]
        }
        return self.plan.network.run(initial_env=dict.fromkeys(self.plan.head) | whole)

    def _drop_used(self, node: fx.Node, values: dict[fx.Node, Any]) -> None:
        """Remove the values that no node after this one uses."""
        for used in self.plan.network.user_to_last_uses.get(node, ()):
            values.pop(used, None)

    def _padded(self, value: Tensor, source: fx.Node, user: fx.Node | None) -> Tensor:
        """Return a map of one image with the margins of its cut-outs, as (H,W,...)."""
        rows, columns = self.plan.cuts[user][source]
        placed = value.movedim(self._axes(source), (1, 2))[0]
        margins = (*(0, 0) * (placed.ndim - 2), *columns.margin, *rows.margin)
        fill = self.plan.head[user].fill if user else 0.0  # the tail takes whole maps
        return pad(placed, margins, value=fill).contiguous()

    def _pasted(
        self, patch: Tensor, source: fx.Node, user: fx.Node | None, row: Tensor, column: Tensor
    ) -> Tensor:
        """Return cut-outs of a kept map, with the patches of the windows pasted in."""
        rows, columns = self.plan.cuts[user][source]
        axes = self._axes(source)
        canvas = self.kept[source, user][
            rows.places[row][:, :, None], columns.places[column][:, None, :]
        ]
        each = torch.arange(len(row), device=row.device)[:, None, None]
        inside = each, rows.patch[row][:, :, None], columns.patch[column][:, None, :]
        canvas[inside] = patch.movedim(axes, (1, 2))
        return canvas[:, rows.inner, columns.inner].movedim((1, 2), axes)

    def _axes(self, source: fx.Node) -> tuple[int, int]:
        axes = self.plan.head[source].axes
        assert axes is not None
        return axes

    def _image_patches(self, images: Tensor, row: Tensor, column: Tensor) -> Tensor:
        rows, columns = (
            (span.start[at.cpu(), None] + torch.arange(span.length)).to(images.device)
            for span, at in zip(self.plan.area, (row, column), strict=True)
        )
        each = torch.arange(len(row), device=row.device)[:, None, None]
        found = images.movedim(1, -1)[each, rows[:, :, None], columns[:, None, :]]
        return found.movedim(-1, 1)
