"""A server of the part of the Hugging Face hub's protocol that reads data sets, on this machine."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest

from camcli.images import store
from tests.support.s3 import HOST, Proxy

PAGE = 2
"""The entries of one page of a listing. The real hub has 1000."""
TOKEN = "hf_secret"  # noqa: S105
"""The token that may read the repository `private`."""


class _Handler(SimpleHTTPRequestHandler):
    """Answers for the folders NAMESPACE/REPOSITORY below `directory`.

    The repository `private` needs the token, and the files of `gated` are refused. The hub refuses
    a private one with 401 alone. Its client takes that for RepoNotFound on https:// only.
    """

    def do_GET(self) -> None:
        _, first, *names = urlsplit(self.path).path.split("/")
        if first == "api":
            self._answer(*map(unquote, names))
        elif names[1] == "gated":
            self._send(403, {"error": "Please ask for access."}, {"X-Error-Code": "GatedRepo"})
        elif names[2] == "resolve":  # datasets/NAMESPACE/REPOSITORY/resolve/main/...
            self._send(302, None, {"Location": self.path.replace("/resolve/", "/content/")})
        else:
            self.path = "/" + "/".join(names[:2] + names[4:])
            super().do_GET()

    def _answer(self, *names: str) -> None:
        repository, kind = "/".join(names[1:3]), "".join(names[3:4])
        folder = Path(self.directory, repository)
        if not folder.is_dir():
            self._send(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        elif repository == "me/private" and self.headers["Authorization"] != f"Bearer {TOKEN}":
            self._send(401, {"error": "Invalid username"}, {"X-Error-Code": "RepoNotFound"})
        elif kind and names[4] != "main":
            self._send(404, {"error": "Invalid rev"}, {"X-Error-Code": "RevisionNotFound"})
        elif kind == "tree":
            self._list(folder, "/".join(names[5:]))
        else:
            self._send(200, {"id": repository, "sha": "0", "siblings": []})

    def _list(self, top: Path, below: str) -> None:
        """Send a page of a folder, and the address of the next page in the header Link."""
        if not (top / below).is_dir():
            self._send(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
            return
        parts = urlsplit(self.path)
        query = dict(parse_qsl(parts.query))
        recursive = query["recursive"] == "true"
        found = sorted((top / below).rglob("*") if recursive else (top / below).iterdir())
        start = int(query.get("cursor", 0))
        again = f"http://{self.headers['Host']}{parts.path}?recursive={query['recursive']}"
        link = f'<{again}&cursor={start + PAGE}>; rel="next"'
        page = [_entry(one, top) for one in found[start : start + PAGE]]
        self._send(200, page, {"Link": link} if start + PAGE < len(found) else {})

    def _send(self, status: int, answer: Any, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


def _entry(path: Path, top: Path) -> dict[str, Any]:
    kind = "directory" if path.is_dir() else "file"
    name, size = path.relative_to(top).as_posix(), path.stat().st_size
    return {"type": kind, "oid": "0", "size": size, "path": name}


@contextlib.contextmanager
def hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """Serve a folder inside, as what `hf://datasets/` names, behind a proxy."""
    pytest.importorskip("pyarrow", reason="stores need the extra camcli[ray]")
    pytest.importorskip("huggingface_hub", reason="hf:// needs huggingface_hub")
    handler = partial(_Handler, directory=str(folder))
    with ThreadingHTTPServer((HOST, 0), handler) as server, Proxy(server.server_port) as proxy:
        for each in (server, proxy):
            threading.Thread(target=each.serve_forever, args=[0.02], daemon=True).start()
        at = f"http://{HOST}:{proxy.server_port}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", at)  # of HF_ENDPOINT at import
        template = f"{at}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        store._file_system.cache_clear()
        yield proxy
        store._file_system.cache_clear()
        proxy.silence.set()
        for each in (server, proxy):
            each.shutdown()
