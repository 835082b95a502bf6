"""The image's directory, made by the steps of k8s/Dockerfile. Without a container engine it stands for the image."""

import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]


def built_image() -> Path:
    """The directory that holds `app`, made if the sources have changed since; two at once make it once.

    It belongs to this state of the sources, and stays whole when a later one is built.
    """
    command = [sys.executable, str(ROOT / "k8s" / "image" / "directory.py")]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    if built.returncode != 0:
        raise AssertionError(f"the image's directory was not built:\n{built.stderr[-4000:]}")
    return Path(built.stdout.strip())
