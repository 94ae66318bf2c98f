"""The keys of a state dict, renamed to those of a network."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping
from itertools import takewhile

from torch import Tensor

from camcli.errors import CamcliWarning
from camcli.models.families import ModelSpec

_COUNTERS = frozenset({"n_averaged"})
"""Keys beside those of a network: AveragedModel counts the states that it has averaged."""


def match_keys(
    state: Mapping[str, Tensor],
    expected: Iterable[str],
    given: str,
    spec: ModelSpec | None = None,
) -> dict[str, Tensor]:
    """Return a state dict with a network's keys in place of those of wrappers around it.

    Removes a prefix of all keys, such as `module.` of DataParallel or `model.` of Lightning, and
    what is used in training only. A linear layer in a Sequential takes the place of a layer without
    it. `given` names the weights in a warning about the latter.
    """
    known = set(expected)
    renamed = {_current_key(k, spec): v for k, v in state.items() if k not in _COUNTERS}
    start = len(_prefix(renamed, known))
    unused = spec.unused if spec else ()
    bare = {k[start:]: v for k, v in renamed.items() if not k.startswith(unused, start)}
    return _unwrapped(bare, known, given)


def _current_key(key: str, spec: ModelSpec | None) -> str:
    for old, new in spec.renamed if spec else ():
        key = re.sub(old, new, key)
    return key


def _prefix(keys: Iterable[str], known: set[str]) -> str:
    """Return the prefix of all keys without which most are known; the shortest of several."""
    parts = [key.split(".")[:-1] for key in keys]
    common = [n for n, *_ in takewhile(lambda n: len(set(n)) == 1, zip(*parts, strict=False))]
    prefixes = ["".join(f"{part}." for part in common[:n]) for n in range(len(common) + 1)]
    return max(prefixes, key=lambda p: sum(key[len(p) :] in known for key in keys))


def _unwrapped(state: dict[str, Tensor], known: set[str], given: str) -> dict[str, Tensor]:
    """Return a state dict with `fc.weight` for `fc.1.weight`, if the network has the former.

    People write Sequential(Dropout, Linear) in place of a Linear. Several indices are several
    layers, which are left as they are.
    """
    found: dict[str, set[str]] = {}
    for key in state.keys() - known:
        if match := re.fullmatch(r"(.+)\.(\d+)\.(weight|bias)", key):
            path, index, kind = match.groups()
            if f"{path}.{kind}" in known - state.keys():
                found.setdefault(path, set()).add(index)
    renames = {f"{path}.{index}.": f"{path}." for path, (index, *more) in found.items() if not more}
    for old, new in renames.items():
        warnings.warn(
            f"weights '{given}': {old[:-1]} is loaded as {new[:-1]}; layers without weights around "
            f"it, other than dropout, would be missing",
            CamcliWarning,
            stacklevel=2,
        )
    return {
        next((new + key[len(old) :] for old, new in renames.items() if key.startswith(old)), key): v
        for key, v in state.items()
    }
