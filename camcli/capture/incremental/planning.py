"""Plan how far a network runs on patches: as far as they save work, in multiplications."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import accumulate
from typing import Any, TypeAlias

from torch import Tensor, fx

from camcli.capture.incremental.locality import Local, locality
from camcli.capture.incremental.regions import Cut, Span, cut, cut_input, cut_whole
from camcli.models.graph import apply

Area: TypeAlias = tuple[Span, Span]
"""The rows and the columns that change, for each position of the window along a side."""
Cuts: TypeAlias = Mapping[fx.Node, tuple[Cut, Cut]]
"""The rows and the columns to cut out of the maps of some nodes."""

_TRAFFIC = 16
"""The number of multiplications that take as long as reading and writing one number."""


@dataclass(frozen=True)
class Plan:
    """A network split into a head of local nodes, which run on patches of an `area`, and a tail.

    `cuts` are the inputs of each node of the head, and under None those of the tail, that are cut
    out of kept maps around patches. Other inputs are the patches alone.
    """

    network: fx.Interpreter
    head: Mapping[fx.Node, Local]
    area: Area
    cuts: Mapping[fx.Node | None, Cuts]


def make_plan(network: fx.Interpreter, image: Tensor, area: Area, least: float) -> Plan | None:
    """Return the plan that saves the most work for images like this one (1,C,H,W).

    Return None if it saves less than `least`, a share of the work of all local nodes.
    """
    known, values = _local_nodes(network, image)
    areas = _changed_areas(known, values, area)
    cuts: dict[fx.Node | None, Cuts] = {
        node: _input_cuts(node, local, areas) for node, local in known.items()
    }
    nodes = [*known]
    saved = accumulate(_saved_work(node, known, values, areas, cuts[node]) for node in nodes)
    most = least * sum(_work(node, known, values) for node in nodes)
    head = 0
    for count, so_far in enumerate(saved, 1):
        pasted = _tail_cuts(nodes[:count], values, areas)
        if pasted is not None and so_far - _cutting_work(pasted, values) > most:
            most = so_far - _cutting_work(pasted, values)
            head, cuts[None] = count, pasted
    if not head:
        return None
    return Plan(
        network=network,
        head={node: known[node] for node in nodes[:head]},
        area=area,
        cuts={
            user: {
                node: (rows.to(image.device), columns.to(image.device))
                for node, (rows, columns) in cuts[user].items()
            }
            for user in (*nodes[:head], None)
        },
    )


def _local_nodes(
    network: fx.Interpreter, image: Tensor
) -> tuple[dict[fx.Node, Local], dict[fx.Node, Any]]:
    """Return the nodes before the first that is not local, and their values for an image."""
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


def _changed_areas(
    known: Mapping[fx.Node, Local], values: Mapping[fx.Node, Any], area: Area
) -> dict[fx.Node, Area]:
    """Return the positions that change in the map, or the maps, of each node."""
    areas: dict[fx.Node, Area] = {}
    for node, local in known.items():
        given = [areas[source] for source in node.all_input_nodes if source in areas]
        if node.op == "placeholder":
            areas[node] = area
        elif local.slides:
            sides = zip(given[0], local.slides, values[node].shape[2:], strict=True)
            rows, columns = (span.after(slide, extent) for span, slide, extent in sides)
            areas[node] = rows, columns
        elif local.axes:
            rows, columns = (reduce(Span.union, spans) for spans in zip(*given, strict=True))
            areas[node] = rows, columns
    return areas


def _input_cuts(node: fx.Node, local: Local, areas: Mapping[fx.Node, Area]) -> Cuts:
    """Return what a node needs of its inputs' kept maps, beyond their patches."""
    given = {source: areas[source] for source in node.all_input_nodes if source in areas}
    if local.axes is None:
        return {}
    down, across = areas[node]
    if local.slides is None:
        return {
            source: (cut(rows, down.start, down.length), cut(columns, across.start, across.length))
            for source, (rows, columns) in given.items()
            if not (rows.has_same_patches(down) and columns.has_same_patches(across))
        }
    (source, (rows, columns)), slides = *given.items(), local.slides
    return {source: (cut_input(rows, down, slides[0]), cut_input(columns, across, slides[1]))}


def _tail_cuts(
    head: Sequence[fx.Node], values: Mapping[fx.Node, Any], areas: Mapping[fx.Node, Area]
) -> Cuts | None:
    """Return the tail's inputs as whole maps; None if one of them is not a map."""
    inside = set(head)
    taken = [node for node in head if not inside.issuperset(node.users)]
    if not all(node in areas and isinstance(values[node], Tensor) for node in taken):
        return None
    return {node: (cut_whole(areas[node][0]), cut_whole(areas[node][1])) for node in taken}


def _work(node: fx.Node, known: Mapping[fx.Node, Local], values: Mapping[fx.Node, Any]) -> float:
    """Return the work of a node for a whole image, in multiplications."""
    axes, value = known[node].axes, values[node]
    if axes is None or not isinstance(value, Tensor):
        return 0.0
    places = value.shape[axes[0]] * value.shape[axes[1]]
    return float(known[node].weight * places + _TRAFFIC * value.numel())


def _saved_work(
    node: fx.Node,
    known: Mapping[fx.Node, Local],
    values: Mapping[fx.Node, Any],
    areas: Mapping[fx.Node, Area],
    cuts: Cuts,
) -> float:
    if node not in areas:
        return 0.0
    rows, columns = areas[node]
    share = rows.length * columns.length / (rows.extent * columns.extent)
    return _work(node, known, values) * (1 - share) - _cutting_work(cuts, values)


def _cutting_work(cuts: Cuts, values: Mapping[fx.Node, Any]) -> float:
    return sum(
        float(_TRAFFIC * values[node].numel() * rows.share * columns.share)
        for node, (rows, columns) in cuts.items()
    )
