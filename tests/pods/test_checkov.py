"""Checkov finds nothing in what prod and sandbox would apply, nor in the Dockerfile; what it skips has a reason."""

import json
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from tests.k8s.manifests import K8S
from tests.programs import program

CONFIG = K8S / "checkov.yaml"
CHECKOV = K8S.parent / ".venv-checkov" / "bin" / "checkov"
SKIPPED = frozenset(yaml.safe_load(CONFIG.read_text(encoding="utf-8"))["skip-check"])


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with all that is looked at."""
    directory = tmp_path_factory.mktemp("checkov")
    for overlay in ("prod", "sandbox"):
        for part in ("", "migrations"):
            place = K8S / "overlays" / overlay / part
            out = subprocess.run([program("kubectl"), "kustomize", str(place)], capture_output=True, check=True).stdout
            (directory / f"{overlay}-{part or 'rooms'}.yaml").write_bytes(out)
    shutil.copy(K8S / "Dockerfile", directory)
    return directory


def failed(directory: Path, *options: str) -> dict[str, set[str]]:
    """Which checks fail, and where. At least one framework must have been looked at: its reports say so."""
    assert CHECKOV.exists(), "make k8s-check prepares its environment"
    command = [str(CHECKOV), "--config-file", str(CONFIG), "--directory", str(directory), "--output", "json", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=directory)
    reports = json.loads(done.stdout)
    assert {report["check_type"] for report in reports} == {"kubernetes", "dockerfile"}, done.stderr
    found: dict[str, set[str]] = {}
    for report in reports:
        assert report["summary"]["parsing_errors"] == 0, report
        for check in report["results"]["failed_checks"]:
            found.setdefault(check["check_id"], set()).add(f"{check['file_path']} {check['resource']}")
    return found


def test_nothing_fails(rendered: Path) -> None:
    assert failed(rendered) == {}


def test_every_skipped_check_would_find_something(rendered: Path) -> None:
    assert set(failed(rendered, "--skip-check", "none")) == SKIPPED


def test_it_finds_a_privileged_pod(rendered: Path, tmp_path: Path) -> None:
    text = (rendered / "prod-rooms.yaml").read_text(encoding="utf-8")
    broken = text.replace("allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true")
    (tmp_path / "prod-rooms.yaml").write_text(broken, encoding="utf-8")
    shutil.copy(K8S / "Dockerfile", tmp_path)
    assert "CKV_K8S_20" in failed(tmp_path)


def test_every_skip_has_its_reason() -> None:
    lines = CONFIG.read_text(encoding="utf-8").partition("skip-check:\n")[2].splitlines()
    before = {line.split("- ")[1]: above.strip() for above, line in pairwise(lines) if "- CKV" in line}
    assert set(before) == SKIPPED
    assert all(above.startswith("# ") for above in before.values()), before
