"""What a second operator does with `npd approval`: sees what waits, reads it in full, approves or denies it."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

import pytest
from google.protobuf.any_pb2 import Any

from npd.common.v1 import approval_pb2
from npd.registry.v1 import agency_pb2
from npd_pki.identity import Kind
from services.cli import approval_view
from services.mesh.core.approvals import Approvals
from services.registry.app import ROOM as REGISTRY
from tests.mesh.test_cli_operators import Answer, run
from tests.mesh_fixture import ENVIRONMENT, NOWHERE, Authority, Desk, Running, Stage, refused
from tests.rpc.test_mesh_approvals import SUSPEND, suspend, suspend_refused, suspension, with_two_persons

Npd = Callable[..., Answer]


@pytest.fixture(scope="module")
def registry(stage: Stage) -> Running:
    running = stage.start(with_two_persons(REGISTRY), operators=["lan", "minh"])
    Desk(running, "lan").register("tax/core")
    stage.settle()
    return running


@pytest.fixture
def npd(registry: Running, authority: Authority, tmp_path: Path) -> Npd:
    """Runs a command as an operator, by default as the second one."""
    endpoints = tmp_path / "endpoints.json"

    def as_operator(*words: str, operator: str = "minh", also: str = "") -> Answer:
        endpoints.write_text(json.dumps({"registry": registry.address} | ({also: NOWHERE} if also else {})))
        return run(*words, "-d", str(authority.tls(Kind.OPERATOR, operator)), "--endpoints", str(endpoints))

    return as_operator


@pytest.fixture
def request_(registry: Running) -> agency_pb2.SuspendSystemRequest:
    return suspension("tax/core", cause="Tra cứu bất thường")


@pytest.fixture
def approval_id(registry: Running, request_: agency_pb2.SuspendSystemRequest) -> str:
    """The id of the approval that a request waits for."""
    return str(suspend_refused(registry, request_).metadata["approval"])


def test_the_second_operator_reads_it_in_full_and_approves_just_that(
    npd: Npd, registry: Running, request_: agency_pb2.SuspendSystemRequest, approval_id: str
) -> None:
    listed = npd("approval", "list")
    assert listed.returncode == 0
    assert approval_id in listed.stdout
    assert "PENDING" in listed.stdout
    shown = npd("approval", "show", "registry", approval_id)
    assert shown.returncode == 0
    for fact in (SUSPEND, "/lan", "npd.registry.v1.SuspendSystemRequest", '"agency_id": "tax"', "Tra cứu bất thường"):
        assert fact in shown.stdout
    assert sha256(request_.SerializeToString(deterministic=True)).hexdigest() in shown.stdout
    approved = npd("approval", "approve", "registry", approval_id)
    assert approved.returncode == 0
    assert '"agency_id": "tax"' in approved.stdout
    assert "APPROVED by spiffe://" in approved.stdout.splitlines()[-1]
    assert registry.entries()[-1].method.endswith("/ApproveRequest")
    assert suspend(registry, request_).cause == "Tra cứu bất thường"
    assert approval_id not in npd("approval", "list", "registry").stdout
    assert approval_id in npd("approval", "list", "registry", "--state", "approved").stdout


def test_a_script_gets_the_same_as_json(npd: Npd, approval_id: str) -> None:
    told = json.loads(npd("approval", "list", "--json").stdout)
    (one,) = (one for one in told["approvals"] if one["approval_id"] == approval_id)
    assert (one["room"], one["state"], one["method"]) == ("registry", "APPROVAL_STATE_PENDING", SUSPEND)
    assert one == json.loads(npd("approval", "show", "registry", approval_id, "--json").stdout)
    assert one["request"]["fields"]["cause"] == "Tra cứu bất thường"
    assert one["request"]["is_whole"] is True
    approved = json.loads(npd("approval", "approve", "registry", approval_id, "--json", "--yes").stdout)
    assert approved["state"] == "APPROVAL_STATE_APPROVED"
    assert approved["request_digest"] == one["request_digest"]


def test_a_denial_takes_its_reason_to_the_requester(
    npd: Npd, registry: Running, request_: agency_pb2.SuspendSystemRequest, approval_id: str
) -> None:
    denied = npd("approval", "deny", "registry", approval_id, "--reason", "Not before the audit")
    assert denied.returncode == 0
    assert "DENIED by spiffe://" in denied.stdout
    assert denied.stdout.endswith(": Not before the audit\n")
    assert suspend_refused(registry, request_).metadata["cause"] == "Not before the audit"


def test_refusals_say_what_to_do(npd: Npd, approval_id: str) -> None:
    own = npd("approval", "approve", "registry", approval_id, operator="lan")
    assert own.returncode == 1
    assert "APPROVER_IS_REQUESTER" in own.stderr
    assert "another operator" in own.stderr
    unknown = str(uuid4())
    for words in (("show",), ("approve",)):
        missed = npd("approval", *words, "registry", unknown)
        assert missed.returncode == 1
        assert f"registry has no approval {unknown}" in missed.stderr
    missed = npd("approval", "deny", "registry", unknown, "--reason", "why")
    assert (missed.returncode, "APPROVAL_UNKNOWN" in missed.stderr) == (1, True)


def test_what_is_not_what_it_says_is_not_approved(npd: Npd, registry: Running) -> None:
    altered, packed = uuid4(), Any()
    packed.Pack(suspension("tax/core"))
    with registry.house.engine.begin() as connection:
        asked = (f"spiffe://operator.{ENVIRONMENT}/lan", SUSPEND, packed.SerializeToString(), bytes(32))
        Approvals(connection).ask(altered, *asked, datetime.now(UTC), timedelta(hours=1))
    missed = npd("approval", "approve", "registry", str(altered))
    assert missed.returncode == 1
    assert "not that of the request shown" in missed.stderr
    assert str(altered) in npd("approval", "list", "registry", "--state", "pending").stdout


def test_what_cannot_be_read_whole_is_not_approved(npd: Npd, registry: Running) -> None:
    unknown_type = Any(type_url="type.googleapis.com/npd.common.v1.NoSuchThing", value=b"\x08\x01")
    unknown_field = Any()
    unknown_field.Pack(suspension("tax/core"))
    unknown_field.value += b"\xfa\x01\x01x"  # field 31, a string
    for packed in (unknown_type, unknown_field):
        approval_id, digest = uuid4(), sha256(packed.value).digest()
        asked = (f"spiffe://operator.{ENVIRONMENT}/lan", SUSPEND, packed.SerializeToString(), digest)
        with registry.house.engine.begin() as connection:
            Approvals(connection).ask(approval_id, *asked, datetime.now(UTC), timedelta(hours=1))
        for words in ((), ("--json", "--yes")):
            missed = npd("approval", "approve", "registry", str(approval_id), *words)
            assert (missed.returncode, "cannot read whole" in missed.stdout + missed.stderr) == (1, True)
        assert str(approval_id) in npd("approval", "list", "registry", "--state", "pending").stdout


def test_a_room_that_does_not_answer_is_named(npd: Npd, approval_id: str) -> None:
    listed = npd("approval", "list", also="sharing")
    assert listed.returncode == 3
    assert approval_id in listed.stdout
    assert "sharing did not answer" in listed.stdout


def test_a_type_that_is_not_known_here_is_said_to_be_unreadable(capsys: pytest.CaptureFixture[str]) -> None:
    for url in ("type.googleapis.com/npd.common.v1.NoSuchThing", "type.googleapis.com/npd.nowhere.v1.X", "evil/os.X"):
        one = approval_pb2.Approval(approval_id=str(uuid4()), request_digest=b"\x01" * 32)
        one.request.type_url, one.request.value = url, b"\x08\x01"
        assert approval_view.facts("room", one)["request"] == {"type_url": url, "fields": None, "is_whole": False}
        approval_view.show("room", one)
        shown = capsys.readouterr().out
        assert url in shown
        assert "01" * 32 in shown
        assert "cannot be shown" in shown


def test_fields_that_are_not_known_here_are_not_passed_over(capsys: pytest.CaptureFixture[str]) -> None:
    one = approval_pb2.Approval(approval_id=str(uuid4()))
    one.request.Pack(agency_pb2.SuspendSystemRequest(agency_id="tax"))
    assert approval_view.facts("room", one)["request"]["is_whole"] is True
    one.request.value += b"\xfa\x01\x01x"  # field 31, a string
    assert approval_view.facts("room", one)["request"]["is_whole"] is False
    approval_view.show("room", one)
    assert "holds more" in capsys.readouterr().out


def test_nothing_that_a_requester_writes_can_move_an_approvers_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    one = approval_pb2.Approval(approval_id=str(uuid4()), method="/x\x1b[2J", reason="\u202egnp.exe")
    one.request.Pack(agency_pb2.SuspendSystemRequest(cause="\u202e\x9b2J\x1b[1A"))
    approval_view.show("room", one)
    shown = capsys.readouterr().out
    assert all(sign.isprintable() or sign == "\n" for sign in shown)
    assert "\\u202e" in shown


def test_whom_the_room_refuses_sees_nothing(npd: Npd, registry: Running) -> None:
    stranger = npd("approval", "list", operator="stranger")
    assert stranger.returncode == 1
    assert "OPERATOR_UNKNOWN" in stranger.stderr
    assert (
        refused(Desk(registry, "stranger").systems.SuspendSystem, suspension("tax/core")).reason == "OPERATOR_UNKNOWN"
    )
