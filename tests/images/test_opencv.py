"""The message for an OpenCV that cannot be loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_a_missing_system_library_is_one_line(tmp_path: Path, photo: Path) -> None:
    (tmp_path / "cv2.py").write_text(
        "raise ImportError('libGL.so.1: cannot open shared object file: No such file')"
    )
    found = subprocess.run(
        [sys.executable, "-m", "camcli", "explain", photo, "--weights", "none"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 2
    assert found.stderr.startswith("Error: OpenCV cannot be loaded (libGL.so.1: cannot open")
    assert "apt-get install libgl1" in found.stderr
    assert found.stderr.count("\n") == 1
