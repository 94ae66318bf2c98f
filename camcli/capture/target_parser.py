"""Targets as users write them: names, indices and forms of classes, and other scores."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from operator import index
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from camcli.capture.forms import FORMS
from camcli.capture.instances import ALL, Instances
from camcli.capture.parted import ClassesAbove
from camcli.capture.similarity import LIKE, LikeTarget
from camcli.capture.targets import (
    ClassTarget,
    FunctionTarget,
    Target,
    TargetLike,
    ValueTarget,
)
from camcli.errors import TargetError, nearest

VALUE_TARGETS: Mapping[str, int] = MappingProxyType({"score": 1, "+score": 1, "-score": -1})
"""The targets of a regression with one value, and their signs."""


def parse_target(
    spec: TargetLike,
    names: Sequence[str] | None = None,
    count: int | None = None,
    *,
    truth: bool = False,
) -> Target:
    """Return the target that a user gave; a Target is returned as it is.

    `pred` is the best class of each image, `topK` the K-th best. A class index or class name is the
    same class for all images, and a tensor (N,) of indices is one class for each. A name in FORMS
    and a colon may precede a class; alone, as in `not:`, they apply to `pred`. The names in
    VALUE_TARGETS are the value of a regression, unless a class has this name. `p>0.5` is every
    class with a probability above 0.5. `dog#3` are the three best boxes that a detection network
    gives for a class, `dog#all` all of them, and `pred#all` those of all classes. `like:REF.jpg` is
    the similarity to an image. A function from the model's output to scores (N,) explains that
    score. Class names match as a whole, ignore
    case, and `_` matches a space. `names` are the model's class names and `count` their number;
    without `count` an index is checked against the model's output. With `truth`, `true` is the best
    one of the classes `among`, which are to be given for each image. Raises TargetError, and
    TypeError for what is no target.
    """
    if isinstance(spec, Target):
        return spec
    if isinstance(spec, Tensor) and spec.ndim == 1 and _has_integers(spec):
        return ClassTarget("classes", given=spec)
    if callable(spec):
        return FunctionTarget(getattr(spec, "__name__", "score"), spec)
    spec = spec.strip() if isinstance(spec, str) else str(_index(spec))
    form, _, base = spec.partition(":")
    if spec.startswith(LIKE) and spec != LIKE:
        return LikeTarget(spec, spec.removeprefix(LIKE))
    if spec in VALUE_TARGETS and spec not in map(folded, names or ()):
        return ValueTarget(spec, VALUE_TARGETS[spec])
    parts = re.fullmatch(rf"(.+)#(\d+|{ALL})", spec)
    if parts and folded(spec) not in map(folded, names or ()):
        return _instances(parse_target(parts[1], names, count, truth=truth), parts[2], spec)
    if above := re.fullmatch(r"p *> *(\S+)", spec):
        return ClassesAbove(f"p>{above[1]}", _probability(above[1], spec))
    if form not in FORMS:
        return _class_target(spec, names, count, truth=truth)
    base = base.strip() or "pred"
    if base.partition(":")[0] in FORMS:
        raise TargetError(f"target '{spec}': expected one of {', '.join(FORMS)}, not both")
    return replace(_class_target(base, names, count, truth=truth), spec=spec, form=form)


def split_targets(
    given: Sequence[str], names: Sequence[str] | None, count: int | None = None
) -> tuple[str, ...]:
    """Return targets of which some are lists with commas, each once; a class name may have commas.

    The path of `like:REF.jpg` takes all commas behind it.
    """

    def is_target(text: str) -> bool:
        try:
            parse_target(text, names, count, truth=True)
        except TargetError:
            return False
        return True

    return tuple(dict.fromkeys(one for text in given for one in split_list(text, is_target)))


def split_list(text: str, accepts: Callable[[str], bool]) -> Iterator[str]:
    """Yield the values between the commas of a text, joined as far as `accepts` takes them."""
    parts = text.split(",")
    while parts:
        most = range(len(parts), 1, -1)
        size = next((n for n in most if accepts(",".join(parts[:n]).strip())), 1)
        yield ",".join(parts[:size]).strip()
        parts = parts[size:]


def _has_integers(x: Tensor) -> bool:
    return not (x.is_floating_point() or x.is_complex() or x.dtype == torch.bool)


def _index(spec: Any) -> int:
    """Return a class index as an int. Raises TypeError."""
    is_tensor, given = isinstance(spec, Tensor), type(spec).__name__
    try:
        if not is_tensor or (spec.ndim == 0 and _has_integers(spec)):
            return index(spec)
    except TypeError:
        pass
    if is_tensor:
        given = f"a tensor {tuple(spec.shape)} of {spec.dtype}"
    raise TypeError(
        f"target: expected a name, an index or a tensor of integers (N,), got {given}"
    ) from None


def _probability(text: str, spec: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 < found < 1:
        raise TargetError(f"target '{spec}': expected a probability between 0 and 1, as in p>0.5")
    return found


def _instances(base: Target, most: str, spec: str) -> Instances:
    is_class = isinstance(base, ClassTarget) and not base.form and base.among is None
    if most.strip("0") and (is_class or isinstance(base, ClassesAbove)):
        return Instances(base, None if most == ALL else int(most))  # type: ignore[arg-type]
    raise TargetError(
        f"target '{spec}': expected pred, topK, a class or p>T before #, and a number from 1 or "
        f"{ALL} after it"
    )


def _class_target(
    spec: str, names: Sequence[str] | None, count: int | None, *, truth: bool
) -> ClassTarget:
    if spec == "pred":
        return ClassTarget(spec)
    if spec == "true" and truth:
        return ClassTarget(spec, among=())
    if spec == "true" and spec not in map(folded, names or ()):
        raise TargetError(
            "target 'true' needs true classes: expected --truth of camcli explain, or in "
            "Python a tensor of indices"
        )
    if match := re.fullmatch(r"top(\d+)", spec):
        rank = int(match[1])
        if rank < 1 or (count is not None and rank > count):
            raise TargetError(f"target '{spec}': expected top1 to top{count or 'K'}")
        return ClassTarget(spec, rank=rank)
    if re.fullmatch(r"-?\d+", spec):
        if int(spec) < 0 or (count is not None and int(spec) >= count):
            upto = "" if count is None else f" to {count - 1}"
            raise TargetError(f"target {spec}: expected a class index from 0{upto}")
        return ClassTarget(spec, index=int(spec))
    return ClassTarget(spec, index=_index_of(spec, names))


def _index_of(name: str, names: Sequence[str] | None) -> int:
    if names is None:
        raise TargetError(
            f"target '{name}': this model has no class names; give an index or a labels file"
        )
    found = [i for i, known in enumerate(names) if folded(known) == folded(name)]
    if len(found) == 1:
        return found[0]
    if found:
        raise TargetError(
            f"target '{name}' names {len(found)} classes: "
            f"give one of the indices {', '.join(map(str, found))}"
        )
    raise TargetError(f"unknown target '{name}': did you mean {nearest(name, names)}?")


def folded(name: str) -> str:
    """Return a class name in the form in which names are compared: casefolded, spaces for `_`."""
    return " ".join(name.replace("_", " ").casefold().split())
