"""Occlusion that computes again only what a window changes.

A window changes a rectangle of the image, and behind each convolution a somewhat larger one of its
map; the rest of the map is that of the unchanged image (Nakandala et al. 2019, Incremental and
Approximate Inference for Faster Occlusion-based Deep CNN Explanations, SIGMOD, sec. 4). So the
unchanged image runs once and its maps are kept. For a window, each operation then runs on a patch:
it is given the kept map around its rectangle, with the patch from the operation before pasted in.
Where the rectangles have grown so large that this no longer pays, or an operation comes that sees
the whole map, the patches are pasted into copies of the kept maps, and the rest of the network runs
as it is.

    the network, as a graph of operations          graphs.py
    which of them see only a few places            locality.py
    which places change, and what is cut out       spans.py
    where to stop with patches                     planning.py
    windows, on patches and then on whole maps     here

That is done only where it gives the same: for one image batch in and one tensor of class scores
out, without hooks, and if a few windows agree with the network itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn.functional import pad

from camcli.capture.forward import Pass
from camcli.capture.incremental.planning import Plan, planned
from camcli.capture.incremental.regions import Span
from camcli.models.graph import apply, operations

_CHECKED = 3
"""How many windows are held against the network itself."""


def plan_of(run: Pass, covered: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Plan | None:
    """How to run a pass's windows on patches, or None where it is not possible or does not pay.

    `covered` gives images `which` (B,) with the window at `row` (B,) and `column` (B,).
    """
    tensors = len(run.inputs) == 1 and isinstance(run.output, Tensor)
    if not tensors or run.watch.reader.task != "classification":
        return None
    if (network := operations(run.watch.module)) is None:
        return None
    rows, columns = map(_span, run.coverage)
    effort = run.size + _CHECKED + 1  # of finding and checking a plan, and keeping maps
    least = effort / (run.size * len(rows.first) * len(columns.first))
    try:
        plan = planned(network, run.image[:1], (rows, columns), least)
        return plan if plan and _agrees(plan, run, covered) else None
    except RuntimeError:  # of shapes that do not suit patches
        return None


def _agrees(plan: Plan, run: Pass, covered: Callable[[Tensor, Tensor, Tensor], Tensor]) -> bool:
    """Whether some windows, at borders too, give what they give in the network itself."""
    row, column = (
        torch.linspace(0, len(span.first) - 1, _CHECKED, device=run.image.device).long()
        for span in plan.area
    )
    which = torch.zeros_like(row)
    images = covered(which, row, column)
    expected = run.output_of(images, which)
    found = PatchRuns(plan, run.image[:1])(images, which, row, column)
    if not isinstance(found, Tensor) or found.shape != expected.shape:
        return False
    close = torch.finfo(expected.dtype).eps ** 0.5 * float(expected.abs().max())
    return bool(((found - expected).abs() <= close).all())


def _span(covering: Tensor) -> Span:
    """The places of a side, of L, that the window covers (P,L)."""
    covered = covering.cpu().long()
    first = covered.argmax(1)
    return Span(first, first + covered.sum(1), covered.shape[1])


class PatchRuns:
    """Runs of a network with windows over one image (1,C,H,W), whose maps are kept."""

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
                    self.kept[node, user] = self._margined(values[node], node, user)
            self._forget(node, values)

    def __call__(self, images: Tensor, _: Tensor, row: Tensor, column: Tensor) -> Any:
        """The output for the image covered (B,C,H,W) by windows at `row` (B,), `column` (B,)."""
        values: dict[fx.Node, Any] = {}
        for node, local in self.plan.head.items():

            def given(source: fx.Node, user: fx.Node = node) -> Any:
                if source not in self.plan.cuts[user]:
                    return values[source]
                return self._pasted(values[source], source, user, row, column)

            if node.op == "placeholder":
                values[node] = self._first(images, row, column)
            elif local.inside is not None:
                values[node] = local.inside(given(node.all_input_nodes[0]))
            else:
                values[node] = apply(self.plan.network, node, given)
            self._forget(node, values)
        whole = {
            source: self._pasted(values.pop(source), source, None, row, column)
            for source in self.plan.cuts[None]
        }
        return self.plan.network.run(initial_env=dict.fromkeys(self.plan.head) | whole)

    def _forget(self, node: fx.Node, values: dict[fx.Node, Any]) -> None:
        """Let go of the values that no node behind this one takes."""
        for used in self.plan.network.user_to_last_uses.get(node, ()):
            values.pop(used, None)

    def _margined(self, value: Tensor, source: fx.Node, user: fx.Node | None) -> Tensor:
        """A map of one image with room for its cut-outs, as (H,W,...)."""
        rows, columns = self.plan.cuts[user][source]
        axes = self.plan.head[source].axes
        assert axes is not None
        placed = value.movedim(axes, (1, 2))[0]
        margins = (*(0, 0) * (placed.ndim - 2), *columns.margin, *rows.margin)
        return pad(placed, margins, value=self.plan.fill(user)).contiguous()

    def _pasted(
        self, patch: Tensor, source: fx.Node, user: fx.Node | None, row: Tensor, column: Tensor
    ) -> Tensor:
        """Cut-outs of the kept map, for windows at `row` and `column`, with their patches in it."""
        rows, columns = self.plan.cuts[user][source]
        axes = self.plan.head[source].axes
        assert axes is not None
        canvas = self.kept[source, user][
            rows.places[row][:, :, None], columns.places[column][:, None, :]
        ]
        each = torch.arange(len(row), device=row.device)[:, None, None]
        inside = each, rows.patch[row][:, :, None], columns.patch[column][:, None, :]
        canvas[inside] = patch.movedim(axes, (1, 2))
        return canvas[:, rows.inner, columns.inner].movedim((1, 2), axes)

    def _first(self, images: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """The patches of the image itself."""
        rows, columns = (
            (span.start[at.cpu(), None] + torch.arange(span.length)).to(images.device)
            for span, at in zip(self.plan.area, (row, column), strict=True)
        )
        each = torch.arange(len(row), device=row.device)[:, None, None]
        found = images.movedim(1, -1)[each, rows[:, :, None], columns[:, None, :]]
        return found.movedim(-1, 1)
