"""Remote paths on a server of the S3 protocol: requests, faults, whole files."""

from __future__ import annotations

import io
import signal
import socket
import threading
from functools import partial

import pytest

from camcli.errors import CamcliError, ImageError
from camcli.images.decode import decode
from camcli.images.find import find
from camcli.images.store import RemotePath, parse_path
from tests.support.s3 import HOST, S3, Fault, url
from tests.support.waiting import wait_until

TEXT = bytes(range(256)) * 300
KINDS = ("GET", "PUT", "HEAD", "LIST")


@pytest.mark.parametrize("size", [0, 1, 70_000, 8_000_000])
def test_a_file_takes_one_put_and_is_read_by_one_get(s3: S3, size: int) -> None:
    """pyarrow asks for the size with HEAD before it reads."""
    file, data = s3.folder / "a" / "b c%20ü.bin", (TEXT * 110)[:size]
    file.write_bytes(data)
    assert s3.count() == {"PUT": 1}
    s3.requests.clear()
    assert file.read_bytes() == data
    assert s3.count() == {"HEAD": 1} | ({"GET": 1} if size else {})
    s3.requests.clear()
    with file.open() as stream:
        assert b"".join(iter(partial(stream.read, 1 << 20), b"")) == data
    assert s3.count() == {"HEAD": 1} | ({"GET": 1} if size else {})


@pytest.mark.parametrize(
    ("what", "kind"),
    [
        *((what, kind) for what in ("slow down", "broken", "dropped") for kind in KINDS),
        *(("truncated", kind) for kind in ("GET", "LIST")),
    ],
)
def test_a_request_that_fails_is_repeated(s3: S3, what: str, kind: str) -> None:
    file = s3.folder / "a" / "b.bin"
    fault = Fault(what, kind, times=3)
    s3.fail(fault)
    file.write_bytes(TEXT)
    assert [*(s3.folder / "a").files(recursive=True)] == [file]
    assert file.read_bytes() == TEXT
    assert fault.times == 0


@pytest.mark.parametrize("what", ["slow down", "broken"])
def test_a_file_that_is_smaller_than_the_error_is_read_again(s3: S3, what: str) -> None:
    """pyarrow does not repeat this, since it has no room for the answer."""
    (s3.folder / "a").write_bytes(b"1")
    s3.fail(Fault(what, "GET", times=3))
    assert (s3.folder / "a").read_bytes() == b"1"


@pytest.mark.parametrize("kind", ["GET", "HEAD", "LIST"])
def test_a_silent_store_is_asked_again(s3: S3, kind: str) -> None:
    (s3.folder / "a" / "b.bin").write_bytes(TEXT)
    fault = Fault("silent", kind, times=1)
    s3.fail(fault)
    folder = s3.at(s3.proxy.server_port, request_timeout=0.5) / "a"
    assert [file.read_bytes() for file in folder.files(recursive=True)] == [TEXT]
    assert fault.times == 0


@pytest.mark.parametrize(
    ("what", "kind", "reason"),
    [
        ("denied", "GET", "ACCESS_DENIED"),
        ("denied", "HEAD", "ACCESS_DENIED"),
        ("gone", "GET", "(RESOURCE_NOT_FOUND|NO_SUCH_KEY)"),
    ],
)
def test_an_answer_that_does_not_change_is_one_line(
    s3: S3, what: str, kind: str, reason: str
) -> None:
    """A file may vanish after it is listed, and between the request for its size and the other."""
    (s3.folder / "in" / "a.jpg").write_bytes(TEXT)
    s3.fail(Fault(what, kind, "a.jpg", times=1))
    with pytest.raises(ImageError, match=rf"^s3://{s3.bucket}/in/a.jpg: .*{reason}") as raised:
        decode(s3.folder / "in" / "a.jpg")
    assert "\n" not in str(raised.value)


def test_a_store_that_stays_broken_is_one_line(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("camcli.images.store._RETRIES", 3)
    folder = s3.at(s3.proxy.server_port, connect_timeout=1) / "in"  # not that of other tests
    (folder / "a.jpg").write_bytes(TEXT)
    s3.fail(*(Fault("slow down", kind, times=99) for kind in ("GET", "PUT", "LIST")))
    with pytest.raises(OSError, match="SLOW_DOWN") as raised:
        (folder / "a.jpg").write_bytes(b"later")
    assert "\n" not in str(raised.value.strerror)
    with pytest.raises(ImageError, match=r"^s3://.*/in/a.jpg: .*(SLOW_DOWN|SERVICE_UNAVAILABLE)"):
        decode(folder / "a.jpg")
    with pytest.raises(CamcliError, match=r"^'s3://.*/in': .*SLOW_DOWN"):
        find([url(folder)])
    assert s3.count()["PUT"] == 1 + 4
    s3.proxy.faults.clear()
    assert (folder / "a.jpg").read_bytes() == TEXT


def test_a_store_that_refuses_connections_is_one_line(
    s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("camcli.images.store._RETRIES", 2)
    with socket.create_server((HOST, 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(CamcliError, match=r"^'s3://.*/in': .*NETWORK_CONNECTION") as raised:
        find([url(s3.at(port) / "in")])
    assert "\n" not in str(raised.value)
    with pytest.raises(OSError, match="NETWORK_CONNECTION"):
        (s3.at(port) / "a").write_bytes(TEXT)


@pytest.mark.parametrize("size", [100, 12_000_000])
def test_a_source_that_breaks_leaves_no_file(s3: S3, size: int) -> None:
    class Broken(io.BytesIO):
        def read(self, count: int | None = -1, /) -> bytes:
            if found := super().read(count):
                return found
            raise OSError(5, "broken")

    with pytest.raises(OSError, match="Input/output error"):
        (s3.folder / "file").write_from(Broken(b"x" * size))
    assert [*s3.folder.files(recursive=True)] == []


def test_a_store_that_breaks_in_a_large_file_keeps_the_earlier_one(
    s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("camcli.images.store._RETRIES", 1)
    file = s3.at(s3.proxy.server_port, connect_timeout=2) / "file"
    file.write_bytes(b"before")
    s3.fail(Fault("broken", "PUT", times=99))
    with pytest.raises(OSError, match="INTERNAL_FAILURE"):
        file.write_bytes(b"x" * 12_000_000)
    assert file.read_bytes() == b"before"


def test_an_interrupted_write_is_whole(s3: S3) -> None:
    """A file that is given up in the middle would be completed where it is."""
    interrupted = threading.Event()

    class Interrupting(io.BytesIO):
        def read(self, count: int | None = -1, /) -> bytes:
            if self.tell() == 1 << 20:
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
                wait_until(interrupted.is_set)
            return super().read(count)

    def interrupt(*_: object) -> None:
        interrupted.set()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            (s3.folder / "file").write_from(Interrupting(TEXT * 40))
    finally:
        signal.signal(signal.SIGINT, before)
    wait_until((s3.folder / "file").is_file)
    assert (s3.folder / "file").read_bytes() == TEXT * 40


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("request_timeout=soon", "could not convert string to float: 'soon'"),
        ("region=x&request_timeout=3&tls_verify_certificates=false", "cannot be combined with tls"),
        ("region=x&nothing=1", "Unexpected query parameter in S3 URI: 'nothing'"),
    ],
)
def test_options_that_s3_does_not_take(query: str, reason: str) -> None:
    pytest.importorskip("pyarrow", reason="stores need the extra camcli[ray]")
    path = parse_path(f"s3://bucket/a?endpoint_override=localhost:1&{query}")
    with pytest.raises(CamcliError, match=reason):
        path.read_bytes()


def test_a_url_without_verified_certificates_is_taken(s3: S3) -> None:
    """pyarrow takes this option in a URL only."""
    folder = s3.at(s3.proxy.server_port, tls_verify_certificates="false")
    (folder / "a").write_bytes(TEXT)
    assert isinstance(s3.folder, RemotePath)
    assert (s3.folder / "a").read_bytes() == TEXT
