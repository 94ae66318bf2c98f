"""Only regular files are opened, and no more of them is read than a limit."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from camcli.images.regular import check_regular, limited, open_regular, read_regular


@pytest.fixture(params=["pipe", "device", "link", "socket"])
def irregular(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    file = tmp_path / "photo.jpg"
    if request.param == "pipe":
        os.mkfifo(file)
    elif request.param == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(file))
    else:
        device = Path("/dev/zero")
        if request.param == "device":
            return device
        file.symlink_to(device)
    return file


def test_other_files_are_refused_at_once(irregular: Path) -> None:
    with pytest.raises(OSError) as refused:  # noqa: PT011 - the number depends on the kind
        check_regular(irregular)
    assert refused.value.strerror


def test_a_regular_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "a.bin"
    file.write_bytes(b"12345")
    with open_regular(file) as stream:
        assert stream.read() == b"12345"
    assert read_regular(file, 5) == b"12345"


def test_a_file_above_the_limit_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.bin"
    with file.open("wb") as stream:
        stream.truncate(1 << 40)  # a sparse file of a terabyte
    with pytest.raises(OSError, match="larger than 1 MB"):
        read_regular(file, 1_000_000)


def test_no_more_than_a_part_of_a_large_file_is_read_at_once(tmp_path: Path) -> None:
    file = tmp_path / "a.bin"
    file.write_bytes(b"0123456789")
    with limited(open_regular(file), 10) as stream:
        assert stream.read() == b"0123456789"
    with limited(open_regular(file), 4) as stream:
        stream.left = 1 << 20
        assert stream.read(2) == b"01"
        assert stream.readline(2) == b"23"
        with pytest.raises(OSError, match="more than 0 MB is read whole"):
            stream.readline()
        stream.seek(6)
        assert stream.read() == b"6789"
        stream.seek(0)
        for size in (-1, None, 5, 1 << 40):
            with pytest.raises(OSError, match="more than 0 MB is read whole"):
                stream.read(size)
            stream.seek(0)


def test_a_folder_and_a_missing_file_have_their_own_errors(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        open_regular(tmp_path)
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "none")
