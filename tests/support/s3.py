"""A server of the S3 protocol on this machine, behind a proxy that counts and disturbs requests."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import threading
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import pytest

from camcli.images.find import find
from camcli.images.store import RemotePath
from camcli.runs.job import Job
from tests.support.files import files
from tests.support.stores import upload

HOST = "127.0.0.1"
ERRORS = {
    "slow down": (503, "SlowDown"),
    "too many": (429, "TooManyRequests"),
    "broken": (500, "InternalError"),
    "denied": (403, "AccessDenied"),
    "gone": (404, "NoSuchKey"),
}
"""The faults that are answers, with their status and code."""


class Request(NamedTuple):
    """A request that the proxy received. `key` is without the bucket."""

    method: str
    key: str
    query: str

    @property
    def kind(self) -> str:
        """The method, or LIST for a listing."""
        return "LIST" if "list-type" in self.query else self.method


@dataclass
class Fault:
    """What happens to the next `times` requests of a kind whose keys contain `part`.

    `what` is a name in ERRORS, or `truncated` (the connection ends in the middle of the body),
    `dropped` (it ends without an answer), or `silent` (there is no answer until the test ends).
    """

    what: str
    kind: str
    part: str = ""
    times: float = 1


@dataclass
class S3:
    """A bucket on the server. `requests` and `faults` are those of the proxy."""

    proxy: Proxy
    bucket: str

    @property
    def folder(self) -> RemotePath:
        """The bucket's top."""
        return self.at(self.proxy.server_port)

    def at(self, port: int, **options: object) -> RemotePath:
        """Return the bucket's top through another port, with more options in the URL."""
        known = {"endpoint_override": f"{HOST}:{port}", "scheme": "http", "region": "us-east-1"}
        query = "&".join(f"{name}={value}" for name, value in (known | options).items())
        return RemotePath(f"s3://key:secret@{self.bucket}?{query}", "")

    @property
    def requests(self) -> list[Request]:
        return self.proxy.requests

    def fail(self, *faults: Fault) -> None:
        """Add faults."""
        self.proxy.faults += faults

    def count(self, part: str = "") -> Counter[str]:
        """Return the numbers of requests of each kind whose keys contain `part`."""
        return Counter(one.kind for one in self.requests if part in one.key)


def url(path: RemotePath) -> str:
    """Return the URL of a path for a command line, with its secrets."""
    address, _, query = path.root.partition("?")
    return f"{address}/{path.key}?{query}"


class Proxy(ThreadingHTTPServer):
    """Passes requests to the port of a server."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int) -> None:
        super().__init__((HOST, 0), _Handler)
        self.port = port
        self.lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Forget requests and faults."""
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.silence = threading.Event()

    def received(self, request: Request) -> str | None:
        """Note a request, and return what is to happen to it."""
        with self.lock:
            self.requests.append(request)
            for fault in self.faults:
                if fault.times > 0 and fault.kind == request.kind and fault.part in request.key:
                    fault.times -= 1
                    return fault.what
        return None

    def handle_error(self, *_: object) -> None:
        """Say nothing of connections that a client ends."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy
    disable_nagle_algorithm = True

    def _pass(self) -> None:
        body = self._body()
        parts = urlsplit(self.path)
        key = unquote(parts.path).lstrip("/").partition("/")[2]
        what = self.server.received(Request(self.command, key, parts.query))
        if what in ERRORS:
            self._send(*_error(*ERRORS[what]))
        elif what == "dropped":
            self.close_connection = True
        elif what == "silent":
            self.server.silence.wait(60)
            self.close_connection = True
        else:
            self._send(*self._answer(body), truncated=what == "truncated")

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _pass  # noqa: N815 - http.server's names

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _answer(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(HOST, self.server.port)
        headers = {k: v for k, v in self.headers.items() if k.lower() not in _HOP_HEADERS}
        connection.request(self.command, self.path, body, headers)
        with contextlib.closing(connection), connection.getresponse() as found:
            kept = {k: v for k, v in found.getheaders() if k.lower() not in _HOP_HEADERS}
            if self.command == "HEAD":
                kept["Content-Length"] = found.headers.get("Content-Length", "0")
            return found.status, kept, found.read()

    def _send(
        self, status: int, headers: dict[str, str], body: bytes, *, truncated: bool = False
    ) -> None:
        self.send_response_only(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if truncated else body)
        self.close_connection |= truncated

    def log_message(self, *_: object) -> None:
        """Print nothing."""


_HOP_HEADERS = ("connection", "content-length", "transfer-encoding", "expect")


def _error(status: int, code: str) -> tuple[int, dict[str, str], bytes]:
    text = f"<Error><Code>{code}</Code><Message>{code}</Message></Error>"
    return status, {"Content-Type": "application/xml"}, text.encode()


@contextlib.contextmanager
def served() -> Iterator[Proxy]:
    """Run the server and the proxy inside. Skip the test where the server is not installed."""
    pytest.importorskip("pyarrow", reason="stores need the extra camcli[ray]")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reason = "a server of S3 needs the extra camcli[moto]"
        for module in ("moto", "flask", "flask_cors"):
            pytest.importorskip(module, reason=reason)
        from moto.server import ThreadedMotoServer

        server: Any = ThreadedMotoServer(ip_address=HOST, port=0, verbose=False)
        server.start()
    _silence_log()
    _, port = server.get_host_and_port()
    with Proxy(port) as proxy:
        threading.Thread(target=proxy.serve_forever, args=[0.02], daemon=True).start()
        yield proxy
        proxy.shutdown()
    server.stop()


def _silence_log() -> None:
    import logging

    logging.getLogger("werkzeug").setLevel(logging.ERROR)


_numbers = itertools.count()


@contextlib.contextmanager
def bucket_of(proxy: Proxy) -> Iterator[S3]:
    """Create a bucket inside, without requests and faults of earlier ones."""
    bucket = f"bucket-{next(_numbers)}"
    connection = http.client.HTTPConnection(HOST, proxy.port)
    with contextlib.closing(connection):
        connection.request("PUT", f"/{bucket}")
        assert connection.getresponse().status == 200
    proxy.reset()
    try:
        yield S3(proxy, bucket)
    finally:
        proxy.silence.set()
        proxy.reset()


def on_s3(job: Job, s3: S3, tmp_path: Path) -> Job:
    """Return the job with its images and its output on S3, without a trace of the upload."""
    upload(tmp_path / "in", s3.folder / "in")
    remote = replace(job, sources=find([url(s3.folder / "in")]), output=s3.folder / "out")
    s3.requests.clear()
    return remote


def expected(tmp_path: Path, s3: S3) -> dict[str, bytes]:
    """Return the files of the local run, with the names of the images on S3 in messages."""
    found = files(tmp_path / "out")
    local, remote = (str(at / "in").encode() for at in (tmp_path, s3.folder))
    found["manifest.jsonl"] = found["manifest.jsonl"].replace(local, remote)
    return found
