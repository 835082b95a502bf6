"""What operators do with `npd`: each act reaches the registry, is recorded there, and tells a script how it went."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509

from npd.common.v1.evidence_pb2 import OUTCOME_DONE, OUTCOME_REFUSED, LogEntry
from npd.registry.v1 import rights_pb2, rights_pb2_grpc
from npd_client.channel import RotatingChannel
from npd_pki.identity import Kind
from npd_pki.profile import CLIENT_TLS
from services.local.credentials import LocalAuthority
from services.local.layout import Layout
from services.mesh.core.caller import key_id
from services.registry.app import ROOM as REGISTRY
from tests.mesh_fixture import ENVIRONMENT, Authority, Desk, Running, Stage, refused

Answer = subprocess.CompletedProcess[str]
Npd = Callable[..., Answer]


def run(*words: str, **variables: str) -> Answer:
    """Run `npd` as a process of its own, as a script does."""
    return subprocess.run(
        [sys.executable, "-m", "services", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": os.defpath, **variables},
    )


@pytest.fixture(scope="module")
def registry(stage: Stage) -> Running:
    running = stage.start(REGISTRY, operators=["lan"])
    desk = Desk(running, "lan")
    for name in ("tax/core", "moh/medical"):
        desk.register(name, officers=["o-1"])
    stage.settle()
    return running


@pytest.fixture
def npd(registry: Running, authority: Authority) -> Npd:
    """Runs a command as an operator, by default as one on the list."""

    def as_operator(*words: str, operator: str = "lan") -> Answer:
        directory = authority.tls(Kind.OPERATOR, operator)
        return run(*words, "-d", str(directory), "--address", registry.address)

    return as_operator


def last(registry: Running, method: str) -> LogEntry:
    """The last entry about a method."""
    return [entry for entry in registry.entries() if entry.method.endswith(f"/{method}")][-1]


def test_connections_as_a_table_and_as_json(npd: Npd) -> None:
    shown = npd("connections")
    assert shown.returncode == 0
    assert "System tax/core" in shown.stdout
    told = json.loads(npd("connections", "--json").stdout)
    [tax] = [one for one in told["connections"] if one["name"] == "tax/core"]
    assert (tax["system_state"], tax["state"]) == ("SYSTEM_STATE_ACTIVE", "CONNECTION_STATE_SILENT")


def test_a_system_is_suspended_and_resumed(npd: Npd, registry: Running, stage: Stage) -> None:
    assert npd("system", "suspend", "tax/core", "--cause", "too curious").returncode == 0
    entry = last(registry, "SuspendSystem")
    assert (entry.outcome, entry.object) == (OUTCOME_DONE, "system tax/core")
    stage.settle()
    stub = rights_pb2_grpc.RightsServiceStub(registry.channel(Kind.AGENCY, "tax/core"))
    assert stub.WhoAmI(rights_pb2.WhoAmIRequest()).cause == "too curious"

    resumed = npd("system", "resume", "tax/core", "--json")
    assert resumed.returncode == 0
    assert json.loads(resumed.stdout)["system"]["state"] == "SYSTEM_STATE_ACTIVE"
    assert last(registry, "ResumeSystem").outcome == OUTCOME_DONE


def test_what_the_registry_refuses_exits_with_1_and_says_why(npd: Npd, registry: Running) -> None:
    answered = npd("system", "resume", "moh/medical")
    assert answered.returncode == 1
    assert answered.stderr.startswith("REFUSED: STATE_NOT_ALLOWED")
    assert "Traceback" not in answered.stderr
    entry = last(registry, "ResumeSystem")
    assert (entry.outcome, entry.reason) == (OUTCOME_REFUSED, "STATE_NOT_ALLOWED")


def test_a_refusal_as_json_names_reason_and_metadata(npd: Npd) -> None:
    answered = npd("system", "suspend", "tax/nothing", "--cause", "why", "--json")
    assert answered.returncode == 1
    told = json.loads(answered.stderr)
    assert (told["reason"], told["metadata"]["system"]) == ("SYSTEM_UNKNOWN", "tax/nothing")


def test_an_operator_who_is_not_on_the_list_is_refused(npd: Npd) -> None:
    answered = npd("connections", operator="stranger")
    assert answered.returncode == 1
    assert "OPERATOR_UNKNOWN" in answered.stderr


@pytest.mark.parametrize("named_by", ["file", "numbers"])
def test_a_revoked_certificate_is_refused_from_then_on(
    npd: Npd, registry: Running, authority: Authority, stage: Stage, tmp_path: Path, named_by: str
) -> None:
    place = authority.issue(tmp_path / "tls", Kind.AGENCY, "moh/medical", CLIENT_TLS)
    leaf, issuer = x509.load_pem_x509_certificates((place / "tls.crt").read_bytes())
    numbers = ("--issuer-key-id", key_id(issuer), "--serial", f"{leaf.serial_number:X}")
    named = (str(place / "tls.crt"),) if named_by == "file" else numbers
    done = npd("cert", "revoke", *named, "--reason", "key_compromise", "--at-registry", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["serial_number"] == f"{leaf.serial_number:x}"
    assert last(registry, "RevokeCertificate").outcome == OUTCOME_DONE
    stage.settle()
    with RotatingChannel(registry.address, place) as channel:
        refusal = refused(rights_pb2_grpc.RightsServiceStub(channel).WhoAmI, rights_pb2.WhoAmIRequest())
    assert refusal.reason == "CERTIFICATE_REVOKED"


def test_nothing_listening_exits_with_3(authority: Authority) -> None:
    directory = str(authority.tls(Kind.OPERATOR, "lan"))
    answered = run("connections", "-d", directory, "--address", "localhost:1")
    assert answered.returncode == 3
    assert answered.stderr.startswith("UNREACHABLE")


def test_without_a_mesh_here_the_next_step_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    answered = run("connections")
    assert answered.returncode == 3
    assert "npd up" in answered.stderr


def test_the_directory_may_come_from_the_environment(registry: Running, authority: Authority) -> None:
    directory = str(authority.tls(Kind.OPERATOR, "lan"))
    assert run("connections", NPDCTL_DIRECTORY=directory, NPDCTL_REGISTRY=registry.address).returncode == 0


def test_the_addresses_are_those_of_the_mesh_that_the_certificate_lies_in(
    registry: Running, authority: Authority, tmp_path: Path
) -> None:
    place = authority.issue(tmp_path / "operators" / "lan", Kind.OPERATOR, "lan", CLIENT_TLS)
    (tmp_path / "endpoints.json").write_text(json.dumps({"registry": registry.address}))
    assert run("connections", "-d", str(place)).returncode == 0


def test_a_system_of_a_local_mesh_gets_a_new_certificate(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "mesh")
    layout.make()
    LocalAuthority(layout, ENVIRONMENT).ensure_system("tax", "core")
    before = (layout.system("tax", "core").tls / "tls.crt").read_bytes()
    assert run("cert", "issue", "tax/core", "-d", str(layout.directory)).returncode == 0
    assert (layout.system("tax", "core").tls / "tls.crt").read_bytes() != before
    assert run("cert", "issue", "tax/core", "-d", str(tmp_path)).returncode == 1
