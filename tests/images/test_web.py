"""Images of a web server on this machine, behind a proxy that counts and disturbs requests."""

from __future__ import annotations

import contextlib
import re
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from camcli.errors import CamcliError, ImageError
from camcli.images import web
from camcli.images.decode import decode
from camcli.images.find import find
from camcli.images.store import parse_path
from tests.support.certificates import make_certificate
from tests.support.command import TINY, Run, problems, stderr
from tests.support.files import files, make_photo
from tests.support.s3 import HOST, Fault, Proxy
from tests.support.snapshots import PEAK, write_output

NAMES = ("z.png", "a%20b.jpg", "sub/x.jpg", "sub/deep/y.jpg", "%C3%BC.jpg")


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Proxy]:
    """A server of the folder `tmp_path/in`, with four photos and a text."""
    for i, name in enumerate(NAMES):
        make_photo(tmp_path / "in" / name.replace("%20", " ").replace("%C3%BC", "ü"), 60 + i, 50)
    (tmp_path / "in" / "notes.txt").touch()
    handler = partial(_Quiet, directory=str(tmp_path))
    with ThreadingHTTPServer((HOST, 0), handler) as files, Proxy(files.server_port) as proxy:
        for each in (files, proxy):
            threading.Thread(target=each.serve_forever, args=[0.02], daemon=True).start()
        yield proxy
        proxy.silence.set()
        for each in (files, proxy):
            each.shutdown()


def url(server: Proxy, name: str = "") -> str:
    return f"http://{HOST}:{server.server_port}/in/{name}"


def test_a_folder_is_listed_with_its_folders(server: Proxy) -> None:
    """A page may link to other folders and to the one above; the names are those of the links."""
    names = [source.image for source in find([url(server)])]
    assert names == ["%C3%BC.jpg", "a%20b.jpg", "z.png", "sub/x.jpg", "sub/deep/y.jpg"]
    assert [one.image for one in find([url(server)], recursive=False)] == names[:3]
    (source,) = find([url(server, "a b.jpg") + "?signature=secret"])
    assert (source.image, "secret" in str(source.path)) == ("a b.jpg", False)
    assert decode(source.path).shape == (50, 61, 3)


def test_an_image_takes_one_request(server: Proxy, run: Run, tmp_path: Path) -> None:
    few = (*TINY, "--save", "map", "--output")
    found = run("explain", url(server), *few, tmp_path / "out")
    assert found.exit_code == 0, found.stderr_bytes
    asked = [one.key for one in server.requests if one.key.endswith(("jpg", "png"))]
    assert sorted(asked) == sorted(["ü.jpg", "a b.jpg", *(n for n in NAMES if "%" not in n)])
    local = tmp_path / "local"
    assert run("explain", tmp_path / "in", *few, local).exit_code == 0
    maps = {name: data for name, data in files(tmp_path / "out").items() if "manifest" not in name}
    assert sorted(maps.values()) == sorted(
        data for name, data in files(local).items() if "manifest" not in name
    )


@pytest.mark.parametrize("what", ["slow down", "dropped", "truncated", "silent"])
def test_a_failure_that_passes_is_repeated(
    server: Proxy, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "SECONDS", 0.5)
    server.faults = [Fault(what, "GET", "z.png", times=2)]
    assert decode(parse_path(url(server, "z.png"))).shape == (50, 60, 3)
    assert [one.key for one in server.requests] == ["z.png"] * 3


@pytest.mark.parametrize(
    ("what", "times", "reason"),
    [
        ("gone", 1, "No such file"),
        ("denied", 1, "HTTP Error 403: Forbidden"),
        ("slow down", 3, "HTTP Error 503"),
        ("truncated", 3, r"an answer that is not whole \(IncompleteRead\)"),
    ],
)
def test_a_failure_that_stays_is_one_line(
    server: Proxy, what: str, times: int, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "PAUSES", (0.0, 0.0))
    server.faults = [Fault(what, "GET", times=99)]
    with pytest.raises(ImageError, match=f"^http://.*/in/z.png: {reason}") as raised:
        decode(parse_path(url(server, "z.png")))
    assert "\n" not in str(raised.value)
    assert len(server.requests) == times
    with pytest.raises(CamcliError, match=f"^'http://.*/in/': {reason}"):
        find([url(server)])


def test_folders_without_end_are_one_line(server: Proxy, tmp_path: Path) -> None:
    (tmp_path / "in" / "sub" / "again").symlink_to(tmp_path / "in")
    with pytest.raises(CamcliError, match="more than 30 folders inside each other"):
        find([url(server)])


def test_a_name_and_a_password_are_not_shown() -> None:
    with pytest.raises(ImageError, match="expected a URL without a user name") as raised:
        decode(parse_path("https://name:secret@host/a.jpg"))
    assert "secret" not in str(raised.value)


def test_nothing_is_written_to_a_web_server(server: Proxy, run: Run, photo: Path) -> None:
    output = url(server, "out")
    found = run("explain", photo, *TINY, "--output", output)
    assert found.exit_code == 2
    *_, line = stderr(found).splitlines()
    assert line == f"Error: cannot write to '{output}': a web server is only read"
    assert not server.requests


class _Secure(ThreadingHTTPServer):
    """A server of the folder of `photo.jpg`, with TLS if it has a certificate."""

    connections = 0

    def __init__(self, folder: Path, certificate: Path | None) -> None:
        super().__init__((HOST, 0), partial(_Quiet, directory=str(folder)))
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True)

    def get_request(self) -> Any:
        """Count a connection, and accept it."""
        self.connections += 1
        return super().get_request()


Served: TypeAlias = Callable[[Path | None], _Secure]


@pytest.fixture
def secure(photo: Path) -> Iterator[Served]:
    """Start a server of `photo` with a certificate, or without one and without TLS."""
    with contextlib.ExitStack() as stack:

        def start(certificate: Path | None) -> _Secure:
            server = stack.enter_context(_Secure(photo.parent, certificate))
            threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
            stack.callback(server.shutdown)
            return server

        web._opener.cache_clear()
        yield start
        web._opener.cache_clear()


def test_https_is_read_as_http(
    secure: Served, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The certificates of the system are read once: that takes 20 ms."""
    certificate, read = make_certificate(tmp_path / "trusted.pem", days=9), Counter[str]()
    load = ssl.SSLContext.load_default_certs

    def counted(context: ssl.SSLContext, *purpose: ssl.Purpose) -> None:
        read["certificates"] += 1
        load(context, *purpose)

    monkeypatch.setattr(ssl.SSLContext, "load_default_certs", counted)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    path = parse_path(f"https://{HOST}:{secure(certificate).server_port}/photo.jpg")
    assert path.read_bytes() == path.read_bytes() == photo.read_bytes()
    assert read["certificates"] == 1


@pytest.mark.parametrize(
    ("days", "trusted", "host", "reason"),
    [
        (9, "other", HOST, "a certificate that is not trusted: self.signed certificate"),
        (-1, "own", HOST, "a certificate that is not trusted: certificate has expired"),
        (9, "own", "localhost", "a certificate that is not trusted: Hostname mismatch, .*"),
        (None, "own", HOST, r"TLS failed: \w+"),
    ],
)
def test_a_server_that_is_not_trusted_is_one_line(
    secure: Served, run: Run, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    days: int | None, trusted: str, host: str, reason: str,
) -> None:  # fmt: skip
    """The request is not repeated, and the other images of the run are explained."""
    monkeypatch.setattr(web, "PAUSES", (0.0, 0.0))
    other = make_certificate(tmp_path / "other.pem", days=9)
    own = make_certificate(tmp_path / "own.pem", days) if days else None
    monkeypatch.setenv("SSL_CERT_FILE", str((trusted == "own" and own) or other))
    server = secure(own)
    url = f"https://{host}:{server.server_port}/photo.jpg"
    found = run("explain", url, photo, *TINY, "--output", tmp_path / "out", "--quiet")
    assert found.exit_code == 1
    (line,) = (one for one in problems(found) if one.startswith("Error: "))
    assert re.fullmatch(f"Error: {url}: {reason}", line)
    assert server.connections == 1
    assert [name for name in files(tmp_path / "out") if name.endswith("png")]


def test_output_folders_are_checked_and_copied(server: Proxy, run: Run, tmp_path: Path) -> None:
    heat = write_output(tmp_path / "in" / "heat", {"a.jpg": PEAK})
    found = run("check", url(server, "heat/"), heat)
    assert (found.exit_code, found.stdout_bytes) == (0, b"1 result: 1 alike\n")
    keys = [one.key for one in server.requests]
    assert keys == ["heat/manifest.jsonl", "heat/a.gradcam.npy"]
    assert run("check", url(server, "heat"), tmp_path / "copy", "--update").exit_code == 0
    assert files(tmp_path / "copy") == files(heat)
