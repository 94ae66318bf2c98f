"""Fixtures that many tests share: small networks, images, a command runner and a store."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from click.testing import Result
from torch import Tensor

from camcli import cli
from camcli.images.store import RemotePath
from camcli.models import known
from tests.support.files import make_photo
from tests.support.networks import DeepHead, GapNet
from tests.support.s3 import S3, Proxy, bucket_of, served

# For networks this small, a second thread costs more than it saves.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # so that commands in subprocesses write the same bytes
# Background jobs of a shell ignore SIGINT, and their subprocesses would inherit this.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)  # before pytest deselects by marker
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that open a browser."""
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.browser)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the user's cache of layers alone."""
    monkeypatch.setattr(known, "CACHE", tmp_path_factory.getbasetemp() / "cache")


@pytest.fixture
def gap_net() -> GapNet:
    torch.manual_seed(0)
    return GapNet().double()


@pytest.fixture
def deep_head() -> DeepHead:
    torch.manual_seed(1)
    return DeepHead().double()


@pytest.fixture
def images() -> Tensor:
    return torch.randn(3, 3, 30, 26, generator=torch.Generator().manual_seed(2)).double()


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A small JPEG in landscape format."""
    return make_photo(tmp_path / "photo.jpg")


@pytest.fixture
def run(capfdbinary: pytest.CaptureFixture[bytes]) -> Callable[..., Result]:
    """Run a command line in this process and return its exit code, stdout and stderr."""

    def call(*arguments: object) -> Result:
        capfdbinary.readouterr()
        with pytest.raises(SystemExit) as stopped:
            cli.main([str(argument) for argument in arguments])
        out, err = capfdbinary.readouterr()
        return Result(None, out, err, out + err, None, int(stopped.value.code), None)  # type: ignore

    return call


@pytest.fixture
def store() -> Iterator[RemotePath]:
    """A remote folder on a store in this process's memory."""
    pytest.importorskip("pyarrow", reason="stores need the extra camcli[ray]")
    fsspec = pytest.importorskip("fsspec", reason="a store in memory needs fsspec")
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]  # empty folders
    yield RemotePath("fsspec+memory://", "bucket")
    memory.store.clear()


@pytest.fixture(scope="session")
def s3_proxy() -> Iterator[Proxy]:
    """A server of the S3 protocol on this machine, behind a proxy."""
    with served() as proxy:
        yield proxy


@pytest.fixture
def s3(s3_proxy: Proxy) -> Iterator[S3]:
    """An empty bucket on that server."""
    with bucket_of(s3_proxy) as bucket:
        yield bucket
