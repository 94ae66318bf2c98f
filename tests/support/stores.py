"""Remote folders: how local files get there and what they contain."""

from __future__ import annotations

from pathlib import Path

from camcli.images.store import RemotePath


def upload(folder: Path, store: RemotePath) -> None:
    for file in folder.rglob("*"):
        if file.is_file():
            (store / file.relative_to(folder)).write_bytes(file.read_bytes())


def stored(folder: RemotePath, *, unfinished: bool = True) -> dict[str, bytes]:
    """Return the content of remote files as `tests.support.files.files` does for local ones.

    Without `unfinished`, temporary files are left out.
    """
    found = {file.key[len(folder.key) + 1 :]: file for file in folder.files(recursive=True)}
    found = {name: file for name, file in found.items() if unfinished or ".tmp" not in name}
    return {name: found[name].read_bytes() for name in sorted(found) if name != "run.json"}
