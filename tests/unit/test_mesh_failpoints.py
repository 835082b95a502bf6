"""Failpoints: a process dies, as by kill -9, at the place that the file names, once, and nowhere else."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
from pathlib import Path
from services.mesh.core import failpoints
if sys.argv[1:]:
    failpoints.arm(Path(sys.argv[1]))
failpoints.reach("relay.read")
print("passed", flush=True)
failpoints.reach("relay.settled")
print("ended", flush=True)
"""


def run(*words: str) -> tuple[int, list[str]]:
    """How the program ended, and what it said before."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words], capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout.split()


@pytest.mark.parametrize(("place", "said"), [("relay.read", []), ("relay.settled\n", ["passed"])])
def test_a_process_dies_where_the_file_says_and_once(tmp_path: Path, place: str, said: list[str]) -> None:
    file = tmp_path / "failpoint"
    file.write_text(place)
    assert run(str(file)) == (-signal.SIGKILL, said)
    assert not file.exists()
    assert run(str(file)) == (0, ["passed", "ended"])


def test_a_place_that_is_not_passed_stays_armed(tmp_path: Path) -> None:
    file = tmp_path / "failpoint"
    file.write_text("follower.applied")
    assert run(str(file)) == (0, ["passed", "ended"])
    assert file.exists()


def test_without_a_file_nothing_dies() -> None:
    assert run() == (0, ["passed", "ended"])
