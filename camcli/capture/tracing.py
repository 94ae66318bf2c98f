"""Trace a forward pass: what each module of a network does in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from camcli.capture.axes import AxisTracer
from camcli.capture.endings import LastCalls, seen_ending
from camcli.capture.hooks import borrowed, cloned
from camcli.capture.readers import Reader
from camcli.models.atoms import Line
from camcli.models.axes import Axes, line_of
from camcli.models.families import recorded_layout
from camcli.models.layouts import Layout, from_axes

Note: TypeAlias = Callable[[str, nn.Module, Any, Any], Tensor | None]
"""Called after each module's run with its path, the module, its first argument and its output.

It returns the output that the network goes on with, or None for the module's own."""


class Lines(NamedTuple):
    """The centres of a map's rows and columns in the image; None where they are not known."""

    y: Line | None = None
    x: Line | None = None


@dataclass(frozen=True, eq=False)
class Call:
    """One module's run in a traced forward pass, for the first image.

    `maker` is the module that computed the output: a container often returns the output of its last
    part. `layout` is None if the output is no map, and `scattered` tells that its cells may have
    places in the image which are not known. `mean` (C,) and `rectified_mean` (C,) average the map
    and its positive part over space. `given` (C,) averages the input of a linear map over space,
    and is None for other modules. `lines` are the centres of the map's cells. `once` is false for a
    module that runs several times.
    """

    path: str
    module: nn.Module
    output: Tensor
    maker: nn.Module
    layout: Layout | None
    scattered: bool
    mean: Tensor
    rectified_mean: Tensor
    given: Tensor | None
    lines: Lines
    once: bool = True

    @property
    def spatial(self) -> bool:
        """Whether the output is one map of several cells."""
        if self.layout is None:
            return False
        maps = self.map_of(self.output)
        return len(maps) == 1 and maps[0, 0].numel() > 1

    def map_of(self, x: Tensor) -> Tensor:
        """Return a tensor with the shape of the output as a map (1,C,h,w)."""
        assert self.layout is not None
        return self.layout.to_map(x)


def trace(
    module: nn.Module,
    inputs: tuple[Any, ...],
    reader: Reader | None = None,
    *,
    differentiable: bool = True,
) -> tuple[list[Call], Any]:
    """Run the first image through a network, and return the calls of its modules and its output.

    Calls are in the order in which modules finish. With a `reader`, the output is Ended for a
    network that ends in a softmax or sigmoid. With `differentiable`, everything that depends on the
    image has a graph. Use it inside `borrowed(module)`.
    """
    calls: list[Call] = []
    runs: Counter[str] = Counter()
    makers: dict[int, tuple[Any, int, nn.Module]] = {}
    first = [x[:1].detach() if isinstance(x, Tensor) and x.ndim else x for x in inputs]
    tracer = AxisTracer()
    if (image := next((x for x in first if _is_image(x)), None)) is not None:
        tracer.follow(image.requires_grad_(differentiable))

    def note(path: str, part: nn.Module, given: Any, output: Any) -> Tensor | None:
        runs[path] += 1
        if not _is_layer_output(output) or output.is_inference():
            return None
        if not (output.requires_grad or tracer.axes_of(output)):
            return None  # it does not depend on the image
        known, version, maker = makers.get(id(output), (None, 0, part))
        if known is not output or version != output._version:  # else it is passed on as it is
            maker = part
        live, passed = _live_copy(output) if differentiable else (output, output)
        makers[id(passed)] = passed, passed._version, maker
        axes = tracer.axes_of(output) or ()
        layout = _layout(axes, module, path, live)
        calls.append(_call(path, part, maker, live, given, *layout, _lines(axes)))
        return passed

    last = LastCalls()
    with _noted(module, note), tracer, last, torch.set_grad_enabled(differentiable):
        output = module(*cloned(first))
    if reader is not None:
        output = seen_ending(last, output, reader.values_in, reader.endings)
    return [replace(call, once=runs[call.path] == 1) for call in calls], output


def _live_copy(output: Tensor) -> tuple[Tensor, Tensor]:
    """Return an output with a graph, and a copy of it that the network may change in place."""
    with torch.enable_grad():  # the network may disable gradients before this layer
        live = output if output.requires_grad else output.detach().requires_grad_()
        return live, live.clone()


def _is_image(x: Any) -> bool:
    return isinstance(x, Tensor) and x.ndim == 4 and x.is_floating_point()


def _is_layer_output(x: Any) -> bool:
    return isinstance(x, Tensor) and x.ndim in (2, 3, 4, 5) and x.is_floating_point()


def _layout(
    axes: Axes, network: nn.Module, path: str, output: Tensor
) -> tuple[Layout | None, bool]:
    """Return the layout of a layer's output, and whether the places of its cells are not known."""
    layout = from_axes(axes, output.shape) if axes else None
    recorded = recorded_layout(network, path)
    if recorded is not None:
        layout = recorded if recorded.ndim == output.ndim else None
    return layout, layout is None and any("?" in axis.kinds for axis in axes)


def _lines(axes: Axes) -> Lines:
    return Lines(line_of(axes, "y"), line_of(axes, "x"))


def _call(
    path: str,
    part: nn.Module,
    maker: nn.Module,
    output: Tensor,
    given: Any,
    layout: Layout | None,
    scattered: bool,
    lines: Lines,
) -> Call:
    seen = output.detach()
    flat = (layout.to_map(seen) if layout else seen)[0]
    flat = flat.flatten(1) if flat.ndim > 1 else flat[:, None]
    means = flat.mean(1), flat.relu().mean(1)
    given_mean = _mean_given(part, given)
    return Call(path, part, output, maker, layout, scattered, *means, given_mean, lines)


def _mean_given(part: nn.Module, given: Any) -> Tensor | None:
    """Return the mean (C,) over space of a linear map's input; None for other modules."""
    if not isinstance(given, Tensor):
        return None
    if isinstance(part, nn.Linear):
        return given.detach()[0].reshape(-1, given.shape[-1]).mean(0)
    if isinstance(part, nn.Conv2d):
        return given.detach()[0].flatten(1).mean(1) if given.ndim == 4 else None
    return None


def map_shapes(
    module: nn.Module, image: Tensor, run: nn.Module | None = None
) -> dict[str, tuple[int, int, int]]:
    """Return the shape (C,h,w) of each layer that gives a map for an image (1,C,H,W).

    `run` is the part of the network that runs; None is the whole. Layers are in the order in which
    they run. Those that run more than once, that give several maps, or whose map has one cell, are
    left out.
    """
    shapes: dict[str, tuple[int, int, int]] = {}
    runs: Counter[str] = Counter()
    tracer = AxisTracer()
    image = image.detach().requires_grad_()  # for GuidedReLU, which counts what a gradient passes
    tracer.follow(image)

    def note(path: str, _part: nn.Module, _given: Any, output: Any) -> None:
        runs[path] += 1
        if _is_layer_output(output):
            layout, _ = _layout(tracer.axes_of(output) or (), module, path, output)
            if layout is not None:
                count, channels, height, width = layout.to_map(output).shape
                if count == 1:
                    shapes[path] = channels, height, width

    with borrowed(module), _noted(module, note), tracer:
        (run or module)(*cloned([image]))
    return {
        path: shape for path, shape in shapes.items() if runs[path] == 1 and shape[1] * shape[2] > 1
    }


def lines_at(module: nn.Module, paths: Sequence[str], inputs: tuple[Any, ...]) -> dict[str, Lines]:
    """Return the centres of the cells of layers, by a forward pass over the first image.

    They are not known for a layer that runs several times. Use it inside `borrowed(module)`.
    """
    first = [x[:1].detach() if isinstance(x, Tensor) and x.ndim else x for x in inputs]
    tracer, found = AxisTracer(), dict[str, Lines]()

    def note(path: str, _part: nn.Module, _given: Any, output: Any) -> None:
        axes = tracer.axes_of(output) if isinstance(output, Tensor) else None
        found[path] = _lines(axes) if axes and path not in found else Lines()

    if (image := next((x for x in first if _is_image(x)), None)) is not None:
        tracer.follow(image)
    with _noted(module, note, paths), tracer, torch.no_grad():
        module(*cloned(first))
    return found


@contextmanager
def _noted(module: nn.Module, note: Note, paths: Sequence[str] | None = None) -> Iterator[None]:
    """Call `note` after each run of each part of a network inside, or of those at some paths.

    Scripted parts are left out: they have no hooks.
    """

    def hook_of(path: str) -> Callable[..., Tensor | None]:
        def hook(part: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> Tensor | None:
            return note(path, part, args[0] if args else kwargs.get("input"), output)

        return hook

    handles = [
        part.register_forward_hook(hook_of(path), with_kwargs=True)
        for path, part in module.named_modules()
        if path
        and (paths is None or path in paths)
        and not isinstance(part, torch.jit.ScriptModule)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
