"""Replacing the content of a baseline."""

from __future__ import annotations

from pathlib import Path

import pytest

from camcli.errors import CamcliError, OutputError
from camcli.snapshots.accept import accept
from tests.support.snapshots import PEAK, contents, write_output


def test_baseline_gets_the_new_files_and_loses_its_old_ones(tmp_path: Path) -> None:
    new = write_output(tmp_path / "new", {"a.jpg": PEAK * 2, "sub/c.jpg": PEAK})
    old = write_output(tmp_path / "old", {"a.jpg": PEAK, "gone/b.jpg": PEAK})
    (old / "README").write_text("written by the user")
    (old / ".camcli-update-killed").mkdir()
    accept(new, old)
    assert contents(old) == contents(new) | {"README": b"written by the user"}
    assert {path.name for path in old.iterdir()} == {
        *("README", "a.gradcam.npy", "manifest.jsonl", "sub")
    }


def test_baseline_is_created_with_its_parents(tmp_path: Path) -> None:
    new = write_output(tmp_path / "new", {"a.jpg": PEAK})
    accept(new, tmp_path / "deep" / "made")
    assert contents(tmp_path / "deep" / "made") == contents(new)


def test_folder_cannot_be_its_own_baseline(tmp_path: Path) -> None:
    new = write_output(tmp_path / "new", {"a.jpg": PEAK})
    with pytest.raises(CamcliError, match="is the baseline itself"):
        accept(new, new)


def test_failed_update_changes_nothing(tmp_path: Path) -> None:
    new = write_output(tmp_path / "new", {"a.jpg": PEAK * 2, "b.jpg": PEAK})
    old = write_output(tmp_path / "old", {"a.jpg": PEAK, "c.jpg": PEAK})
    before = contents(old)
    (new / "b.gradcam.npy").unlink()
    with pytest.raises(OutputError, match=r"cannot update '.*old': .*/b\.gradcam\.npy: No such"):
        accept(new, old)
    assert contents(old) == before
    assert not [path for path in old.iterdir() if path.is_dir()]


def test_update_removes_nothing_outside_the_baseline(tmp_path: Path) -> None:
    new = write_output(tmp_path / "new", {"a.jpg": PEAK})
    (tmp_path / "precious.npy").touch()
    old = write_output(tmp_path / "old", {"a.jpg": PEAK}, map="../precious.npy")
    with pytest.raises(CamcliError, match="outside of its folder"):
        accept(new, old)
    assert (tmp_path / "precious.npy").exists()
