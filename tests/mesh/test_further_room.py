"""A further room of the common shape serves without an edit of any existing file; its stubs are generated here."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FURTHER = Path(__file__).parent / "further_room"
CODEGEN = ROOT / ".venv-codegen" / "bin" / "python"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the services with the room of notices beside the others, and the room's stubs."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "services", tmp_path / "tree" / "services", ignore=ignored)
    shutil.copytree(FURTHER / "room", tmp_path / "tree" / "services" / "notice", ignore=ignored)
    generated = tmp_path / "generated"
    generated.mkdir()
    if not CODEGEN.exists():
        pytest.fail("the codegen environment is missing: run the tests by `make test`, or `make protos` first")
    find_google = "from google.rpc import status_pb2; print(status_pb2.__file__)"
    google = subprocess.run([CODEGEN, "-c", find_google], capture_output=True, text=True, check=True).stdout.strip()
    command = [str(CODEGEN), "-m", "grpc_tools.protoc", f"-I{FURTHER}", f"-I{Path(google).parents[2]}"]
    command += [f"--python_out={generated}", f"--grpc_python_out={generated}", "npd/notice/v1/notice.proto"]
    subprocess.run(command, check=True, cwd=FURTHER)
    return tmp_path


def test_further_room_serves_without_an_edit_elsewhere(tree: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{tree / 'tree'}:{tree / 'generated'}"}
    command = [sys.executable, str(FURTHER / "journey.py"), str(tree / "mesh")]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=tree / "tree", timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines() == [
        "rooms civil_status identity issuer notice registry residence sharing",
        "numbers 1 1",
        "refused FIELD_REQUIRED",
        "refused METHOD_NOT_ALLOWED",
    ]
