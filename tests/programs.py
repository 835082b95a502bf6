"""Programs of the operating system that a test may use: without one it skips, visibly; in CI it fails."""

import os
import shutil

import pytest

# It cannot begin with NPD_: such variables are settings of rooms, which refuse those that they do not know.
REQUIRED = "MESH_TESTS_REQUIRE_PROGRAMS"


_PACKAGES = {  # where the package is not named like its program
    "promtool": "prometheus",
    "setpriv": "util-linux",
    "softhsm2-util": "softhsm2",
    "unshare": "util-linux",
}


def program(name: str) -> str:
    """The path of a program. Without it the test skips, or fails where the variable REQUIRED is 1 (.ci/run)."""
    found = shutil.which(name)
    if found is not None:
        return found
    missing = f"the program {name} is not installed; on Debian: apt-get install {_PACKAGES.get(name, name)}"
    if os.environ.get(REQUIRED) == "1":
        pytest.fail(missing)
    pytest.skip(missing)
