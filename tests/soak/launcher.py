"""Run a command as the child of a small process: `launcher.py SECONDS FIGURES COMMAND...`.

Linux counts the memory of the parent, which a child has until it starts its program, in the peak of
the child. The command is killed after SECONDS. Its exit code, seconds, seconds of CPU and peak in
bytes are written to the file FIGURES.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

if __name__ == "__main__":
    seconds, figures, *words = sys.argv[1:]
    began = time.monotonic()
    process = subprocess.Popen(words)
    deadline = threading.Timer(float(seconds), process.kill)
    deadline.daemon = True
    deadline.start()
    _, status, usage = os.wait4(process.pid, 0)
    deadline.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    found = [process.returncode, time.monotonic() - began, usage.ru_utime + usage.ru_stime]
    Path(figures).write_text(json.dumps([*found, usage.ru_maxrss * 1024]))
