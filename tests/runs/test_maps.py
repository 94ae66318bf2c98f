"""Raw maps are read whatever wrote them, and damaged ones are one line."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from camcli.errors import CamcliError
from camcli.runs.maps import read_map


def npy(header: str, values: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY" + version + len(text).to_bytes(2, "little") + text + values


def layout(descr: str = "'<f4'", order: str = "False", shape: str = "(2, 2)") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 5), (0, 3), (1, 1)])
@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_maps_of_numpy_are_read(shape: tuple[int, ...], dtype: str, order: str) -> None:
    values = np.random.default_rng(0).random(shape).astype(dtype)
    np.save("map.npy", np.asarray(values, order=order))  # type: ignore[arg-type]
    assert np.array_equal(read_map(Path("map.npy")), values)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no map",
        npy(layout())[:40],
        npy(layout()),
        npy(layout(), bytes(15)),
        npy("{'descr': " + "(" * 20_000),
        npy("{'descr': '<f4', 'shape': (2, 2"),
        npy("{" * 9_999),
        npy("__import__('os').abort()"),
        npy(layout(shape="(99999999, 99999999)"), bytes(16)),
        npy(layout(shape="(" + "9" * 5000 + ", 2)"), bytes(16)),
        npy(layout(shape="(-2, -2)"), bytes(16)),
        npy(layout(shape="(4,)"), bytes(16)),
        npy(layout(shape="(1, 1, 2, 2)"), bytes(16)),
        npy(layout(shape="()"), bytes(16)),
        npy(layout("'|O'"), bytes(16)),
        npy(layout("'<c8'"), bytes(64)),
        npy(layout("[('a', '<f4')]"), bytes(16)),
        npy(layout(), bytes(16), b"\x09\x00"),
    ],
)
def test_other_contents_are_one_line(content: bytes) -> None:
    Path("map.npy").write_bytes(content)
    with pytest.raises(CamcliError) as refused:
        read_map(Path("map.npy"))
    assert str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_zip_is_no_map() -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("map.npy", npy(layout(), bytes(16)))
    Path("map.npy").write_bytes(stream.getvalue())
    with pytest.raises(CamcliError, match=r"expected a \.npy file of floats"):
        read_map(Path("map.npy"))


def test_a_shape_is_compared_with_the_file_before_anything_is_read() -> None:
    with Path("map.npy").open("wb") as file:
        file.write(npy(layout(shape="(99999999, 99999999)")))
        file.truncate(1 << 40)  # a sparse file
    with pytest.raises(CamcliError, match=r"shape \(99999999, 99999999\) in a file of"):
        read_map(Path("map.npy"))


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
