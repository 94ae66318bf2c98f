"""Class names from a file."""

from __future__ import annotations

import json
from pathlib import Path

from camcli.errors import ModelError, one_line


def read_labels(labels: str | Path, count: int | None) -> tuple[str, ...]:
    """Read class names from a JSON list or from a text file with one name per line.

    Raises ModelError if the file is not readable or does not hold `count` names.
    """
    names = _read(Path(labels))
    if count is not None and len(names) != count:
        raise ModelError(f"labels '{labels}': {len(names)} names, the model has {count} classes")
    return names


def _read(file: Path) -> tuple[str, ...]:
    try:
        text = file.read_text(encoding="utf-8-sig")
        if file.suffix != ".json":
            return tuple(line.strip() for line in text.splitlines() if line.strip())
        names = json.loads(text)
    except OSError as error:
        raise ModelError(f"labels '{file}': {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ModelError(f"labels '{file}': not readable ({one_line(error)})") from None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ModelError(f"labels '{file}': expected a JSON list of names")
    return tuple(names)
