"""The names of networks and layers that are known without importing torch, for a shell.

`make zoo` writes the files of torchvision's networks. The layers of another network are known once
`camcli layers` has listed them.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path

ASSETS = Path(__file__).parents[1] / "assets"
FACTS = ASSETS / "zoo.json"
"""The facts of torchvision's networks by name."""
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "camcli")
"""The user's cache, with a file of layers for each network that `camcli layers` has listed."""
LAYERS = ASSETS / "layers.txt.gz"
"""A line for each network of torchvision, and for mini: the name and the layers, with spaces."""


def torchvision_names() -> list[str]:
    """Return the names of torchvision's networks, for all of its tasks that camcli explains."""
    return list(json.loads(FACTS.read_text(encoding="utf-8")))


def timm_names() -> list[str]:
    """Return the names of timm's networks, read from its source. Without timm, there are none."""
    found = find_spec("timm")
    folders = found.submodule_search_locations if found else None
    files = (file for folder in folders or () for file in Path(folder, "models").glob("*.py"))
    entries = (re.findall(r"^@register_model\s+def (\w+)", _text(file), re.M) for file in files)
    return sorted(f"timm:{name}" for names in entries for name in names)


def layer_paths(name: str) -> list[str]:
    """Return the layers of a network, in the order in which they run; none if it is unknown."""
    if found := _stored_layers(name):
        return found
    try:
        return _text(_file_of(name)).split()
    except (OSError, ValueError):
        return []


def remember_layers(name: str, paths: Iterable[str]) -> None:
    """Write the layers of a network that is not stored into the user's cache. Raises OSError."""
    if not _stored_layers(name):
        file = _file_of(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(paths), encoding="utf-8")


def write_layers(paths: Mapping[str, Iterable[str]]) -> None:
    """Write the layers of networks into LAYERS."""
    text = "".join(f"{' '.join([name, *layers])}\n" for name, layers in paths.items())
    LAYERS.write_bytes(gzip.compress(text.encode(), mtime=0))


def _stored_layers(name: str) -> list[str]:
    with gzip.open(LAYERS, "rt", encoding="utf-8") as lines:
        line = next((line for line in lines if line.startswith(f"{name} ")), "")
    return line.split()[1:]


def _file_of(name: str) -> Path:
    """Return the file in the user's cache for the layers of a network, which may be a path."""
    key = os.path.abspath(name) if os.path.exists(name.partition(":")[0]) else name
    return CACHE / "layers" / hashlib.sha256(os.fsencode(key)).hexdigest()[:32]


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8")
