"""How far a network runs on patches: where its rectangles pay, by a count of multiplications."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import accumulate
from typing import Any, TypeAlias

import torch
from torch import Tensor, fx

from camcli.capture.incremental.locality import Local, locality
from camcli.capture.incremental.regions import Cut, Span, moved, seen, whole
from camcli.models.graph import apply

Area: TypeAlias = tuple[Span, Span]
"""The rows and the columns that change, for each position of the window along a side."""
Cuts: TypeAlias = Mapping[fx.Node, tuple[Cut, Cut]]
"""The rows and the columns that are cut out of the maps of some nodes."""

_TRAFFIC = 16
"""How many multiplications take as long as reading and writing one number."""


@dataclass(frozen=True)
class Plan:
    """A network split into a head, local nodes that run on patches of an `area`, and a tail.

    `cuts` are what a node of the head, or the tail under None, is given around patches. Of nodes
    that are not in there it is given the patch alone.
    """

    network: fx.Interpreter
    head: Mapping[fx.Node, Local]
    area: Area
    cuts: Mapping[fx.Node | None, Cuts]

    def fill(self, user: fx.Node | None) -> float:
        """What an operation sees outside of its map; the tail sees no outside."""
        return self.head[user].fill if user else 0.0


def planned(network: fx.Interpreter, image: Tensor, area: Area, least: float) -> Plan | None:
    """The plan for images like this one (1,C,H,W) that saves most of the work.

    None if that is less than `least`, a share of what the network's local nodes do.
    """
    known, values = _local_nodes(network, image)
    areas = _areas(known, values, area)
    cuts: dict[fx.Node | None, Cuts] = {
        node: _cuts(node, local, areas) for node, local in known.items()
    }
    nodes = [*known]
    saved = accumulate(_saved(node, known, values, areas, cuts[node]) for node in nodes)
    most = least * sum(_work(node, known, values) for node in nodes)
    head = 0
    for count, so_far in enumerate(saved, 1):
        pasted = _pasted(nodes[:count], values, areas)
        if pasted is not None and so_far - _traffic(pasted, values) > most:
            most = so_far - _traffic(pasted, values)
            head, cuts[None] = count, pasted
    if not head:
        return None
    return Plan(
        network=network,
        head={node: known[node] for node in nodes[:head]},
        area=area,
        cuts={user: _on(image.device, cuts[user]) for user in (*nodes[:head], None)},
    )


def _local_nodes(
    network: fx.Interpreter, image: Tensor
) -> tuple[dict[fx.Node, Local], dict[fx.Node, Any]]:
    """The nodes up to the first that is not local, and their values for an image (1,C,H,W)."""
    known: dict[fx.Node, Local] = {}
    values: dict[fx.Node, Any] = {}
    for node in network.graph.nodes:
        if node.op == "placeholder" and not known:
            known[node], values[node] = Local((2, 3)), image
            continue
        if node.op in ("placeholder", "output"):
            break
        values[node] = apply(network, node, values.__getitem__)
        if node.op != "get_attr":
            local = locality(node, network.module, values, known)
            if local is None:
                break
            known[node] = local
    return known, values


def _areas(
    known: Mapping[fx.Node, Local], values: Mapping[fx.Node, Any], area: Area
) -> dict[fx.Node, Area]:
    """The places that change in the map of each node, or in its several maps."""
    areas: dict[fx.Node, Area] = {}
    for node, local in known.items():
        given = [areas[source] for source in node.all_input_nodes if source in areas]
        if node.op == "placeholder":
            areas[node] = area
        elif local.slides:
            sides = zip(given[0], local.slides, values[node].shape[2:], strict=True)
            rows, columns = (span.behind(slide, extent) for span, slide, extent in sides)
            areas[node] = rows, columns
        elif local.axes:
            rows, columns = (reduce(Span.joined, spans) for spans in zip(*given, strict=True))
            areas[node] = rows, columns
    return areas


def _cuts(node: fx.Node, local: Local, areas: Mapping[fx.Node, Area]) -> Cuts:
    """What a node has to be given of other nodes' maps for its own area, beyond their patches."""
    given = {source: areas[source] for source in node.all_input_nodes if source in areas}
    if local.axes is None:
        return {}
    if local.slides is None:
        return {
            source: (moved(rows, areas[node][0]), moved(columns, areas[node][1]))
            for source, (rows, columns) in given.items()
            if not (rows.same(areas[node][0]) and columns.same(areas[node][1]))
        }
    (source, (rows, columns)), (down, across) = *given.items(), local.slides
    return {source: (seen(rows, areas[node][0], down), seen(columns, areas[node][1], across))}


def _on(device: torch.device, cuts: Cuts) -> Cuts:
    return {node: (rows.to(device), columns.to(device)) for node, (rows, columns) in cuts.items()}


def _pasted(
    head: Sequence[fx.Node], values: Mapping[fx.Node, Any], areas: Mapping[fx.Node, Area]
) -> Cuts | None:
    """What the tail behind these nodes is given: whole maps; None where it takes something else."""
    inside = set(head)
    taken = [node for node in head if not inside.issuperset(node.users)]
    if not all(node in areas and isinstance(values[node], Tensor) for node in taken):
        return None
    return {node: (whole(areas[node][0]), whole(areas[node][1])) for node in taken}


def _work(node: fx.Node, known: Mapping[fx.Node, Local], values: Mapping[fx.Node, Any]) -> float:
    """What it costs to run a node for a whole image, in multiplications."""
    axes, value = known[node].axes, values[node]
    if axes is None or not isinstance(value, Tensor):
        return 0.0
    places = value.shape[axes[0]] * value.shape[axes[1]]
    return float(known[node].weight * places + _TRAFFIC * value.numel())


def _saved(
    node: fx.Node,
    known: Mapping[fx.Node, Local],
    values: Mapping[fx.Node, Any],
    areas: Mapping[fx.Node, Area],
    cuts: Cuts,
) -> float:
    """How much less a node costs on patches."""
    if node not in areas:
        return 0.0
    rows, columns = areas[node]
    share = rows.length * columns.length / (rows.extent * columns.extent)
    return _work(node, known, values) * (1 - share) - _traffic(cuts, values)


def _traffic(cuts: Cuts, values: Mapping[fx.Node, Any]) -> float:
    """What it costs to cut something out of maps."""
    return sum(
        float(_TRAFFIC * values[node].numel() * rows.share * columns.share)
        for node, (rows, columns) in cuts.items()
    )
