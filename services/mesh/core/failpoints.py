"""Failpoints: places where a fault test kills this process, once, to see what a crash just there loses or repeats.

Armed by the setting `failpoint_file` alone: the process dies at the place whose name stands in that file, and removes
the file before. Without the setting a failpoint is one comparison.
"""

import os
import signal
from pathlib import Path

_file: Path | None = None


def arm(file: Path | None) -> None:
    """Look into this file at every failpoint; None: at none."""
    global _file
    _file = file


def reach(name: str) -> None:
    """Die here, as by kill -9, if the file names this place."""
    if _file is None:
        return
    try:
        wanted = _file.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return
    if wanted == name:
        _file.unlink(missing_ok=True)
        os.kill(os.getpid(), signal.SIGKILL)
