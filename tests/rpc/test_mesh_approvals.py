"""What needs a second person: refused at first, done once when another has approved that very request."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid4

import grpc
import pytest
from google.protobuf.any_pb2 import Any as Packed
from sqlalchemy import text

from npd.common.v1 import approval_pb2, approval_pb2_grpc
from npd.common.v1.evidence_pb2 import LogEntry, Outcome
from npd.registry.v1 import agency_pb2
from npd_client.errors import Refusal, refusal_of
from npd_pki.identity import Kind
from services.mesh.core.answers import RequestIdReused
from services.mesh.core.approvals import (
    NEWEST,
    ApprovalAltered,
    ApprovalExpired,
    Approvals,
    ApprovalState,
    ApprovalUnknown,
    approval_id_of,
)
from services.mesh.core.caller import Caller, CallerKind
from services.mesh.core.clock import SystemClock
from services.mesh.core.errors import InvalidField, StateNotAllowed
from services.mesh.core.methods import Rule, allow, operator
from services.mesh.wire.room import Composition, House, Room
from services.registry.app import ROOM as REGISTRY
from tests.mesh_fixture import ENVIRONMENT, Authority, Desk, Running, Stage, new_id, refused

SERVICE = "/npd.common.v1.ApprovalService"
SUSPEND = "/npd.registry.v1.SystemService/SuspendSystem"
LIFE = timedelta(hours=1)
LAN, MINH, HOA = (f"spiffe://operator.{ENVIRONMENT}/{name}" for name in ("lan", "minh", "hoa"))
STATES = agency_pb2.SystemState


class MovedClock(SystemClock):
    """The machine's clock, that much ahead."""

    ahead = timedelta()

    def now(self) -> datetime:
        return super().now() + self.ahead


class Decided:
    """Counts the calls of a room's hook."""

    count = 0

    def __call__(self) -> None:
        self.count += 1


CLOCK, DECIDED = MovedClock(), Decided()


def with_two_persons(room: Room) -> Room:
    """The same room, in which suspending a system needs a second person."""

    def compose(house: House) -> Composition:
        composition = room.compose(house)
        methods: dict[str, Rule] = {**composition.methods, SUSPEND: allow(operator(), approvals=2)}
        return replace(composition, methods=methods, approved=DECIDED)

    return replace(room, compose=compose)


@pytest.fixture(scope="module")
def registry(stage: Stage) -> Running:
    return stage.start(with_two_persons(REGISTRY), operators=["lan", "minh", "hoa"], clock=CLOCK, approval_life=LIFE)


@pytest.fixture(autouse=True)
def anew(registry: Running) -> Iterator[None]:
    yield
    CLOCK.ahead = timedelta()
    with registry.house.engine.begin() as connection:
        connection.execute(text("DELETE FROM approvals"))


@pytest.fixture
def system(stage: Stage, desk: Desk) -> str:
    """An active system that no other test knows."""
    name = f"agency-{uuid4().hex[:8]}/core"
    desk.register(name)
    stage.settle()
    return name


def suspension(system: str, *, cause: str = "unusual use", request_id: str = "") -> agency_pb2.SuspendSystemRequest:
    agency_id, system_id = system.split("/")
    return agency_pb2.SuspendSystemRequest(
        request_id=request_id or new_id(), agency_id=agency_id, system_id=system_id, cause=cause
    )


def approvals_of(registry: Running, name: str, kind: Kind = Kind.OPERATOR) -> approval_pb2_grpc.ApprovalServiceStub:
    return approval_pb2_grpc.ApprovalServiceStub(registry.channel(kind, name))


def suspend(registry: Running, request: agency_pb2.SuspendSystemRequest, name: str = "lan") -> agency_pb2.System:
    return Desk(registry, name).systems.SuspendSystem(request).system


def suspend_refused(registry: Running, request: agency_pb2.SuspendSystemRequest, name: str = "lan") -> Refusal:
    return refused(Desk(registry, name).systems.SuspendSystem, request)


def state_of(registry: Running, system: str) -> Any:
    request = agency_pb2.ListSystemsRequest(agency_id=system.partition("/")[0])
    (found,) = Desk(registry, "lan").systems.ListSystems(request).systems
    return found.state


def asked(registry: Running, request: agency_pb2.SuspendSystemRequest, name: str = "lan") -> approval_pb2.Approval:
    """The approval of a request that was refused for want of it."""
    refusal = suspend_refused(registry, request, name)
    assert refusal.reason == "APPROVAL_NEEDED"
    return found(registry, refusal.metadata["approval"])


def found(registry: Running, approval_id: str) -> approval_pb2.Approval:
    listed = approvals_of(registry, "minh").ListApprovals(approval_pb2.ListApprovalsRequest()).approvals
    return next(one for one in listed if one.approval_id == approval_id)


def approving(approval: approval_pb2.Approval, **changed: Any) -> approval_pb2.ApproveRequestRequest:
    facts = {
        "request_id": new_id(),
        "approval_id": approval.approval_id,
        "request_digest": approval.request_digest,
        **changed,
    }
    return approval_pb2.ApproveRequestRequest(**facts)


def denying(approval: approval_pb2.Approval, reason: str = "not now") -> approval_pb2.DenyRequestRequest:
    return approval_pb2.DenyRequestRequest(request_id=new_id(), approval_id=approval.approval_id, reason=reason)


def entries_of(registry: Running, method: str, before: int) -> list[LogEntry]:
    """What was recorded of a method since there were so many entries."""
    return [entry for entry in registry.entries()[before:] if entry.method == method]


# The way through


def test_what_needs_a_second_person_is_refused_approved_by_another_and_done_once(
    registry: Running, system: str
) -> None:
    before, decided, request = len(registry.entries()), DECIDED.count, suspension(system)
    refusal = suspend_refused(registry, request)
    assert (refusal.reason, set(refusal.metadata)) == ("APPROVAL_NEEDED", {"approval", "expire_time"})
    assert "npd approval approve" in refusal.sentence()
    assert state_of(registry, system) == STATES.SYSTEM_STATE_ACTIVE

    approval = found(registry, refusal.metadata["approval"])
    assert approval.state == approval_pb2.APPROVAL_STATE_PENDING
    assert (approval.requester, approval.method, approval.decider) == (LAN, SUSPEND, "")
    packed = agency_pb2.SuspendSystemRequest()
    assert approval.request.Unpack(packed)
    assert packed == request
    assert approval.request_digest == sha256(approval.request.value).digest()
    assert approval.expire_time.ToDatetime() - approval.request_time.ToDatetime() == LIFE
    assert datetime.fromisoformat(refusal.metadata["expire_time"]) == approval.expire_time.ToDatetime(UTC)
    again = suspend_refused(registry, request)
    assert (again.reason, again.metadata) == (refusal.reason, refusal.metadata), "asked once, however often it is sent"

    answer = approvals_of(registry, "minh").ApproveRequest(approving(approval)).approval
    assert (answer.state, answer.decider) == (approval_pb2.APPROVAL_STATE_APPROVED, MINH)
    assert answer.HasField("decide_time")
    assert DECIDED.count == decided + 1
    assert state_of(registry, system) == STATES.SYSTEM_STATE_ACTIVE, "an approval by itself does nothing"

    done = suspend(registry, request)
    assert done.state == STATES.SYSTEM_STATE_SUSPENDED
    Desk(registry, "lan").systems.ResumeSystem(
        agency_pb2.ResumeSystemRequest(request_id=new_id(), agency_id=done.agency_id, system_id=done.system_id)
    )
    assert suspend(registry, request) == done, "a repeat gets the first answer"
    assert state_of(registry, system) == STATES.SYSTEM_STATE_ACTIVE, "and changes nothing"

    recorded = entries_of(registry, SUSPEND, before)
    assert [(entry.reason, entry.outcome) for entry in recorded] == [
        ("APPROVAL_NEEDED", Outcome.OUTCOME_REFUSED),
        ("APPROVAL_NEEDED", Outcome.OUTCOME_REFUSED),
        ("", Outcome.OUTCOME_DONE),
    ]
    (decision,) = entries_of(registry, f"{SERVICE}/ApproveRequest", before)
    assert (decision.caller, decision.outcome) == (MINH, Outcome.OUTCOME_DONE)
    assert decision.object == f"approval {approval.approval_id} of {SUSPEND} for {LAN}"


def test_a_done_request_gets_its_first_answer_after_its_approval_has_expired(registry: Running, system: str) -> None:
    request = suspension(system)
    approvals_of(registry, "minh").ApproveRequest(approving(asked(registry, request)))
    done = suspend(registry, request)
    CLOCK.ahead = LIFE + timedelta(minutes=1)
    assert suspend(registry, request) == done
    altered = suspension(system, cause="another", request_id=request.request_id)
    assert suspend_refused(registry, altered).reason == "REQUEST_ID_REUSED"


def test_the_repeat_of_a_decision_gets_its_first_answer_and_is_recorded_once(registry: Running, system: str) -> None:
    before, stub = len(registry.entries()), approvals_of(registry, "minh")
    command = approving(asked(registry, suspension(system)))
    first = stub.ApproveRequest(command)
    CLOCK.ahead = LIFE + timedelta(minutes=1)
    assert stub.ApproveRequest(command) == first
    assert len(entries_of(registry, f"{SERVICE}/ApproveRequest", before)) == 1
    command.request_digest = b"other"
    assert refused(stub.ApproveRequest, command).reason == "REQUEST_ID_REUSED"


# Who and what


def test_nobody_approves_what_he_asked_for_himself(registry: Running, system: str) -> None:
    request = suspension(system)
    approval = asked(registry, request)
    refusal = refused(approvals_of(registry, "lan").ApproveRequest, approving(approval))
    assert (refusal.reason, refusal.metadata) == ("APPROVER_IS_REQUESTER", {"approval": approval.approval_id})
    entry = registry.entries()[-1]
    assert (entry.caller, entry.method, entry.reason) == (LAN, f"{SERVICE}/ApproveRequest", "APPROVER_IS_REQUESTER")
    assert found(registry, approval.approval_id) == approval
    assert suspend_refused(registry, request).reason == "APPROVAL_NEEDED"


def test_an_approval_is_of_its_requester_alone(registry: Running, system: str) -> None:
    """Neither the approver nor a third operator can use it under the same request id."""
    request = suspension(system)
    approval = asked(registry, request)
    approvals_of(registry, "minh").ApproveRequest(approving(approval))
    for name in ("minh", "hoa"):
        other = suspend_refused(registry, request, name)
        assert other.reason == "APPROVAL_NEEDED"
        assert other.metadata["approval"] != approval.approval_id
    assert state_of(registry, system) == STATES.SYSTEM_STATE_ACTIVE


def test_an_approval_is_of_its_request_id_alone(registry: Running, system: str) -> None:
    request = suspension(system)
    approvals_of(registry, "minh").ApproveRequest(approving(asked(registry, request)))
    assert suspend_refused(registry, suspension(system)).reason == "APPROVAL_NEEDED"


@pytest.mark.parametrize("approved", [False, True], ids=["while it waits", "when it is approved"])
def test_an_altered_request_is_refused_under_the_same_request_id(
    registry: Running, system: str, approved: bool
) -> None:
    request = suspension(system)
    approval = asked(registry, request)
    if approved:
        approvals_of(registry, "minh").ApproveRequest(approving(approval))
    altered = suspension(system, cause="another", request_id=request.request_id)
    assert suspend_refused(registry, altered).reason == "REQUEST_ID_REUSED"
    assert registry.entries()[-1].reason == "REQUEST_ID_REUSED"
    upper = suspension(system, request_id=request.request_id.upper())
    assert suspend_refused(registry, upper).reason == "REQUEST_ID_REUSED", "an id is the same in any case of letters"
    assert state_of(registry, system) == STATES.SYSTEM_STATE_ACTIVE
    assert found(registry, approval.approval_id).request == approval.request


@pytest.mark.parametrize("digest", [b"x", bytes(32)])
def test_an_approver_who_has_seen_something_else_is_refused(registry: Running, system: str, digest: bytes) -> None:
    approval = asked(registry, suspension(system))
    refusal = refused(approvals_of(registry, "minh").ApproveRequest, approving(approval, request_digest=digest))
    assert (refusal.reason, refusal.metadata) == ("APPROVAL_ALTERED", {"approval": approval.approval_id})
    assert registry.entries()[-1].reason == "APPROVAL_ALTERED"
    assert found(registry, approval.approval_id).state == approval_pb2.APPROVAL_STATE_PENDING


def test_an_approval_that_does_not_exist_is_unknown(registry: Running) -> None:
    stub = approvals_of(registry, "minh")
    nothing = approval_pb2.Approval(approval_id=new_id(), request_digest=bytes(32))
    for call, request in ((stub.ApproveRequest, approving(nothing)), (stub.DenyRequest, denying(nothing))):
        assert refused(call, request).reason == "APPROVAL_UNKNOWN"
        assert registry.entries()[-1].reason == "APPROVAL_UNKNOWN"


def test_a_malformed_request_asks_for_nothing(registry: Running, system: str) -> None:
    assert suspend_refused(registry, suspension(system, request_id="x")).reason == "FIELD_INVALID"
    assert suspend_refused(registry, suspension(system, cause="")).reason == "FIELD_REQUIRED"
    stub = approvals_of(registry, "minh")
    assert not stub.ListApprovals(approval_pb2.ListApprovalsRequest()).approvals
    nowhere = approval_pb2.Approval(approval_id="x", request_digest=b"x")
    assert refused(stub.ApproveRequest, approving(nowhere)).reason == "FIELD_INVALID"
    assert refused(stub.DenyRequest, denying(nowhere)).reason == "FIELD_INVALID"


def test_only_operators_on_the_list_see_and_decide(
    registry: Running, authority: Authority, stage: Stage, desk: Desk
) -> None:
    desk.register("curious/core")
    stage.settle()
    approval = approval_pb2.Approval(approval_id=new_id(), request_digest=bytes(32))
    for kind, name, reason in (
        (Kind.AGENCY, "curious/core", "METHOD_NOT_ALLOWED"),
        (Kind.MESH, "sharing", "METHOD_NOT_ALLOWED"),
        (Kind.OPERATOR, "stranger", "OPERATOR_UNKNOWN"),
    ):
        stub = approvals_of(registry, name, kind)
        for call, request in (
            (stub.ListApprovals, approval_pb2.ListApprovalsRequest()),
            (stub.ApproveRequest, approving(approval)),
            (stub.DenyRequest, denying(approval)),
        ):
            assert refused(call, request).reason == reason
            assert registry.entries()[-1].reason == reason


def test_whom_the_table_refuses_asks_for_nothing(registry: Running, system: str) -> None:
    stub = Desk(registry, "stranger").systems
    assert refused(stub.SuspendSystem, suspension(system)).reason == "OPERATOR_UNKNOWN"
    assert not approvals_of(registry, "minh").ListApprovals(approval_pb2.ListApprovalsRequest()).approvals


# Denied, expired, decided


def test_a_denial_reaches_the_requester_with_its_reason(registry: Running, system: str) -> None:
    before, decided, request = len(registry.entries()), DECIDED.count, suspension(system)
    approval = asked(registry, request)
    answer = approvals_of(registry, "minh").DenyRequest(denying(approval, "Hỏi cơ quan chủ quản trước")).approval
    assert (answer.state, answer.decider) == (approval_pb2.APPROVAL_STATE_DENIED, MINH)
    assert answer.reason == "Hỏi cơ quan chủ quản trước"
    assert DECIDED.count == decided + 1
    refusal = suspend_refused(registry, request)
    assert refusal.reason == "APPROVAL_DENIED"
    assert refusal.metadata == {"approval": approval.approval_id, "cause": "Hỏi cơ quan chủ quản trước"}
    (decision,) = entries_of(registry, f"{SERVICE}/DenyRequest", before)
    assert (decision.caller, decision.outcome) == (MINH, Outcome.OUTCOME_DONE)
    assert decision.object == f"approval {approval.approval_id} of {SUSPEND} for {LAN}"
    CLOCK.ahead = LIFE + timedelta(minutes=1)
    assert suspend_refused(registry, request).reason == "APPROVAL_DENIED", "what was denied stays denied"
    assert state_of(registry, system) == STATES.SYSTEM_STATE_ACTIVE


def test_a_requester_withdraws_his_own(registry: Running, system: str) -> None:
    request = suspension(system)
    answer = approvals_of(registry, "lan").DenyRequest(denying(asked(registry, request))).approval
    assert (answer.state, answer.decider) == (approval_pb2.APPROVAL_STATE_DENIED, LAN)
    assert suspend_refused(registry, request).reason == "APPROVAL_DENIED"


@pytest.mark.parametrize("reason", [" ", "a" * 501, "two\nlines", "about 001099012345"])
def test_a_reason_is_short_and_names_nobody(registry: Running, system: str, reason: str) -> None:
    approval = asked(registry, suspension(system))
    refusal = refused(approvals_of(registry, "minh").DenyRequest, denying(approval, reason))
    assert (refusal.reason, refusal.violations[0].field) == ("FIELD_INVALID", "reason")
    assert found(registry, approval.approval_id).state == approval_pb2.APPROVAL_STATE_PENDING


def test_what_nobody_decides_in_time_expires(registry: Running, system: str) -> None:
    request = suspension(system)
    approval = asked(registry, request)
    CLOCK.ahead = LIFE + timedelta(minutes=1)
    refusal = suspend_refused(registry, request)
    assert (refusal.reason, set(refusal.metadata)) == ("APPROVAL_EXPIRED", {"approval", "expire_time"})
    assert found(registry, approval.approval_id).state == approval_pb2.APPROVAL_STATE_EXPIRED
    stub = approvals_of(registry, "minh")
    for call, command in ((stub.ApproveRequest, approving(approval)), (stub.DenyRequest, denying(approval))):
        assert refused(call, command).reason == "APPROVAL_EXPIRED"
        assert registry.entries()[-1].reason == "APPROVAL_EXPIRED"


def test_what_was_approved_and_not_used_in_time_expires(registry: Running, system: str) -> None:
    request = suspension(system)
    approvals_of(registry, "minh").ApproveRequest(approving(asked(registry, request)))
    CLOCK.ahead = LIFE + timedelta(minutes=1)
    assert suspend_refused(registry, request).reason == "APPROVAL_EXPIRED"
    assert registry.entries()[-1].reason == "APPROVAL_EXPIRED"
    assert state_of(registry, system) == STATES.SYSTEM_STATE_ACTIVE


def test_what_is_decided_is_decided(registry: Running, system: str) -> None:
    approved, denied = asked(registry, suspension(system)), asked(registry, suspension(system))
    stub = approvals_of(registry, "minh")
    stub.ApproveRequest(approving(approved))
    stub.DenyRequest(denying(denied))
    other = approvals_of(registry, "hoa")
    for approval, state in ((approved, "APPROVED"), (denied, "DENIED")):
        for call, command in ((other.ApproveRequest, approving(approval)), (other.DenyRequest, denying(approval))):
            refusal = refused(call, command)
            assert refusal.reason == "STATE_NOT_ALLOWED"
            assert refusal.metadata == {"object": f"approval {approval.approval_id}", "state": state}
            assert registry.entries()[-1].reason == "STATE_NOT_ALLOWED"


def test_of_two_who_decide_at_once_one_wins(registry: Running, system: str) -> None:
    for _ in range(5):
        before, approval = len(registry.entries()), asked(registry, suspension(system))
        start = threading.Barrier(2)
        calls = {
            "minh": lambda stub, one=approval: stub.ApproveRequest(approving(one)),
            "hoa": lambda stub, one=approval: stub.DenyRequest(denying(one)),
        }

        def decide(name: str, calls: Any = calls, start: Any = start) -> str:
            def call(_: object, timeout: float) -> object:
                start.wait(10)
                return calls[name](approvals_of(registry, name))

            return attempt(call)

        with ThreadPoolExecutor(2) as pool:
            ended = list(pool.map(decide, ("minh", "hoa")))
        assert sorted(ended) == ["", "STATE_NOT_ALLOWED"]
        winner = (MINH, HOA)[ended.index("")]
        assert found(registry, approval.approval_id).decider == winner
        done = [
            entry.caller
            for entry in registry.entries()[before:]
            if entry.method.startswith(SERVICE) and entry.outcome == Outcome.OUTCOME_DONE
        ]
        assert done == [winner]


def test_a_request_that_is_sent_many_times_at_once_asks_once_and_is_done_once(registry: Running, system: str) -> None:
    request = suspension(system)
    with ThreadPoolExecutor(6) as pool:
        ended = list(pool.map(lambda _: attempt(Desk(registry, "lan").systems.SuspendSystem, request), range(6)))
    assert ended == ["APPROVAL_NEEDED"] * 6
    (approval,) = approvals_of(registry, "minh").ListApprovals(approval_pb2.ListApprovalsRequest()).approvals
    approvals_of(registry, "minh").ApproveRequest(approving(approval))
    before = len(registry.entries())
    with ThreadPoolExecutor(6) as pool:
        ended = list(pool.map(lambda _: attempt(Desk(registry, "lan").systems.SuspendSystem, request), range(6)))
    assert ended == [""] * 6
    assert len(entries_of(registry, SUSPEND, before)) == 1


def attempt(call: Any, request: object = None) -> str:
    """The reason of the refusal that a call gets, or nothing."""
    try:
        call(request, timeout=10)
    except grpc.RpcError as error:
        return refusal_of(error).reason
    return ""


# Listing


def test_approvals_are_listed_newest_first_by_state_in_pages(registry: Running, system: str) -> None:
    made = [asked(registry, suspension(system)) for _ in range(4)]
    stub = approvals_of(registry, "minh")
    stub.ApproveRequest(approving(made[0]))
    stub.DenyRequest(denying(made[1]))

    def listed(**asked_for: Any) -> list[str]:
        ids: list[str] = []
        request = approval_pb2.ListApprovalsRequest(**asked_for)
        while True:
            answer = stub.ListApprovals(request)
            assert len(answer.approvals) <= (request.page_size or 100)
            ids += [one.approval_id for one in answer.approvals]
            if not answer.next_page_token:
                return ids
            request.page_token = answer.next_page_token

    newest_first = [one.approval_id for one in reversed(made)]
    assert listed() == newest_first
    for size in (1, 2, 3, 4):
        assert listed(page_size=size) == newest_first
    assert listed(state=approval_pb2.APPROVAL_STATE_PENDING) == newest_first[:2]
    assert listed(state=approval_pb2.APPROVAL_STATE_APPROVED) == [made[0].approval_id]
    assert listed(state=approval_pb2.APPROVAL_STATE_DENIED) == [made[1].approval_id]
    assert listed(state=approval_pb2.APPROVAL_STATE_EXPIRED) == []
    CLOCK.ahead = LIFE + timedelta(minutes=1)
    assert listed(state=approval_pb2.APPROVAL_STATE_EXPIRED, page_size=2) == [
        made[3].approval_id,
        made[2].approval_id,
        made[0].approval_id,
    ]
    assert listed(state=approval_pb2.APPROVAL_STATE_PENDING) == []
    for wrong, reason in (
        ({"page_token": "~"}, "PAGE_TOKEN_INVALID"),
        ({"page_size": 1001}, "FIELD_INVALID"),
        ({"state": 9}, "FIELD_INVALID"),
    ):
        assert refused(stub.ListApprovals, approval_pb2.ListApprovalsRequest(**wrong)).reason == reason
        assert registry.entries()[-1].reason == reason


# The store, as another room uses it


def test_the_store_keeps_what_is_no_call(registry: Running) -> None:
    """As the issuer keeps applications: under ids of their own, asked for by systems."""
    now = datetime(2026, 11, 24, 8, tzinfo=UTC)
    minh = Caller(MINH, CallerKind.OPERATOR, "minh")
    system, method = f"spiffe://agency.{ENVIRONMENT}/tax/core", "/npd.issuer.v1.CertificateService/Apply"
    packed = Packed(type_url="type.googleapis.com/x.Y", value=b"y").SerializeToString()
    asked_for = (system, method, packed, b"d")
    first, second = uuid4(), uuid4()
    with registry.house.engine.begin() as connection:
        approvals = Approvals(connection)
        made = approvals.ask(first, *asked_for, now, LIFE)
        assert approvals.ask(first, *asked_for, now + LIFE / 2, LIFE) == made == approvals.find(first, now)
        with pytest.raises(ApprovalAltered):
            approvals.ask(first, system, method, packed, b"e", now, LIFE)
        with pytest.raises(ApprovalUnknown):
            approvals.find(second, now)
        approvals.ask(second, *asked_for, now, LIFE)
        approved = approvals.decide(first, minh, None, approved=False, reason="why", now=now)
        assert approvals.find(first, now) == approved
        with pytest.raises(ApprovalAltered):
            approvals.decide(second, minh, None, approved=True, reason="", now=now)
        with pytest.raises(InvalidField):
            approvals.decide(second, minh, None, approved=False, reason="", now=now)
        with pytest.raises(ApprovalExpired):
            approvals.decide(second, minh, b"d", approved=True, reason="", now=now + LIFE)
        approvals.decide(second, minh, b"d", approved=True, reason="", now=now + LIFE - timedelta(microseconds=1))
        with pytest.raises(StateNotAllowed):
            approvals.decide(first, minh, b"d", approved=True, reason="", now=now)
        assert {one.approval_id for one in approvals.page(None, NEWEST, 10, now)[0]} == {first, second}


def test_a_page_holds_no_more_than_an_answer_can(registry: Running) -> None:
    now, large = datetime(2026, 11, 24, 8, tzinfo=UTC), bytes(900_000)
    with registry.house.engine.begin() as connection:
        approvals = Approvals(connection)
        for number in range(5):
            approvals.ask(uuid4(), LAN, SUSPEND, large, b"d", now + timedelta(seconds=number), LIFE)
        sizes, after = [], NEWEST
        while after is not None:
            found, after = approvals.page(ApprovalState.PENDING, after, 10, now)  # type: ignore[assignment]
            sizes.append(len(found))
    assert sizes == [2, 2, 1]


def test_the_id_of_an_approval_is_its_requests(registry: Running) -> None:
    request_id = "6f1c24a0-9d8b-4d57-9e0f-3c1b6a7f5d21"
    named = approval_id_of(LAN, SUSPEND, request_id)
    assert named == approval_id_of(LAN, SUSPEND, request_id.upper())
    others = {
        approval_id_of(MINH, SUSPEND, request_id),
        approval_id_of(LAN, SUSPEND + "s", request_id),
        approval_id_of(LAN, SUSPEND, str(UUID(int=1))),
    }
    assert len(others | {named}) == 4


def test_the_states_are_those_of_the_contract() -> None:
    wire = {name.removeprefix("APPROVAL_STATE_"): number for name, number in approval_pb2.ApprovalState.items()}
    assert {state.name: state.value for state in ApprovalState} | {"UNSPECIFIED": 0} == wire
    assert RequestIdReused.kind is ApprovalAltered.kind
