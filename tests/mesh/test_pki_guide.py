"""The admin guide in pki/README.md: every command in it runs as it stands, from top to bottom, in one shell."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from services.local.cluster import binary
from tests.mesh_fixture import wait_until
from tests.programs import program

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "pki" / "README.md").read_text(encoding="utf-8")
FIRST_PORT = "32001"


def commands(part: str) -> str:
    """The commands of a part, as one script that stops at the first that fails, and shows each before it runs."""
    blocks = re.findall(r"```sh\n(.*?)```", part, re.DOTALL)
    assert len(blocks) >= 3
    return "\n".join(["set -euo pipefail", "PS4='$ '", "set -x", *blocks])


def run(script: str, place: Path) -> None:
    """Run a script as a new user would, with the programs of this environment."""
    program("openssl")
    paths = [Path(sys.executable).parent, binary("psql").parent, os.environ["PATH"]]
    env = {
        "PATH": ":".join(map(str, paths)),
        "HOME": str(place),
        "LANG": "C.UTF-8",
        "CEREMONIES": str(ROOT / "pki" / "ceremonies"),
    }
    ran = subprocess.run(["bash", "-c", script], cwd=place, env=env, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, (ran.stdout + ran.stderr)[-6000:]


@contextmanager
def mesh_up(place: Path) -> Iterator[None]:
    """`npd up` in a directory, as in another terminal."""
    up = [sys.executable, "-m", "services", "up", "--citizens", "0", "--port", FIRST_PORT]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with (place / "up.log").open("wb") as log:
        running = subprocess.Popen(up, cwd=place, env=env, stdout=log, stderr=log)
        try:
            wait_until(lambda: (place / ".npd" / "endpoints.json").exists() or running.poll() is not None, 120)
            assert running.poll() is None, (place / "up.log").read_text()
            yield
        finally:
            running.send_signal(signal.SIGINT)
            running.wait(30)


@pytest.mark.timeout(360)
def test_what_is_done_offline(tmp_path: Path) -> None:
    offline, _, _ = GUIDE.partition("## Part two")
    run(commands(offline.partition("## Part one")[2]), tmp_path)
    assert (tmp_path / "cross" / "agency" / "ca.crt").exists()


@pytest.mark.timeout(480)
def test_what_is_done_with_a_mesh(tmp_path: Path) -> None:
    online = GUIDE.partition("## Part two")[2].partition("## Who may be named")[0]
    with mesh_up(tmp_path):
        run(commands(online), tmp_path)
    assert not re.search(r"Traceback", (tmp_path / "up.log").read_text())
