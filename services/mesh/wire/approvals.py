"""Approvals on the wire: the guard that stops what needs a second person, and npd.common.v1.ApprovalService."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import grpc
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.message import Message
from sqlalchemy import Connection

from npd.common.v1 import approval_pb2, approval_pb2_grpc
from services.mesh.core.answers import AnswerKey, Answers, RequestIdReused
from services.mesh.core.approvals import (
    NEWEST,
    Approval,
    ApprovalAltered,
    Approvals,
    ApprovalState,
    Place,
    approval_id_of,
)
from services.mesh.core.caller import Caller
from services.mesh.core.clock import Clock
from services.mesh.core.db import Database
from services.mesh.core.errors import InvalidField, PageTokenInvalid
from services.mesh.core.evidence.entry import Entry, Outcome
from services.mesh.core.evidence.log import Log
from services.mesh.core.methods import Methods, allow, operator
from services.mesh.wire import paging
from services.mesh.wire.access import uuid_from_wire
from services.mesh.wire.call import Call, answer_key, caller_of

METHODS = {
    "/npd.common.v1.ApprovalService/ListApprovals": allow(operator()),
    "/npd.common.v1.ApprovalService/ApproveRequest": allow(operator()),
    "/npd.common.v1.ApprovalService/DenyRequest": allow(operator()),
}


class Deciding:
    """A room's approvals, the decisions on them and the acts that they allow, inside a transaction."""

    def __init__(self, connection: Connection, log: Log) -> None:
        self.answers = Answers(connection)
        self.approvals = Approvals(connection)
        self.log = log

    def approve(self, caller: Caller, approval_id: UUID, digest: bytes, now: datetime, key: AnswerKey) -> Approval:
        """Approve what the caller has seen; recorded as an act. Raises what Approvals.decide raises."""
        with self.answers.once(caller, key, Approval) as answer:
            if answer.given:
                return answer.given
            approval = self.approvals.decide(approval_id, caller, digest, approved=True, reason="", now=now)
            return answer.give(self._recorded(caller, key, approval))

    def deny(self, caller: Caller, approval_id: UUID, reason: str, now: datetime, key: AnswerKey) -> Approval:
        """Deny with a reason; recorded as an act. Raises what Approvals.decide raises."""
        with self.answers.once(caller, key, Approval) as answer:
            if answer.given:
                return answer.given
            approval = self.approvals.decide(approval_id, caller, None, approved=False, reason=reason, now=now)
            return answer.give(self._recorded(caller, key, approval))

    def _recorded(self, caller: Caller, key: AnswerKey, approval: Approval) -> Approval:
        named = f"approval {approval.approval_id} of {approval.method} for {approval.requester}"
        self.log.record(Entry(caller, key.method, Outcome.DONE, object=named))
        return approval


class ApprovalGuard:
    """Lets a call of a method that needs a second person pass only if one has approved that very request.

    An approval is of one request: of its caller, method, request id and every byte of its payload. What the method does
    under `answers.once` is done once for a request id, so an approval can allow one act only, and nothing has to be
    marked as used.

    Must come after the guards who say who calls and what he may, and after validation; never among the standing ones.
    """

    def __init__(self, methods: Methods, database: Database[Deciding], life: timedelta, clock: Clock) -> None:
        self._guarded = frozenset(method for method, rule in methods.items() if rule.approvals == 2)
        self._database = database
        self._life = life
        self._clock = clock

    def __call__(self, call: Call, request: Message) -> None:
        """Ask for an approval in a transaction of its own, or find it as it stands.

        1. A request that was done gets its first answer, even after its approval has expired.
        2. Another payload under the same request id is refused as everywhere: a new request takes a new id.
        3. What nobody has approved is refused.

        Raises InvalidField, RequestIdReused, ApprovalNeeded, ApprovalDenied, ApprovalExpired.
        """
        if call.method not in self._guarded:
            return
        caller = caller_of(call.as_context())
        key = answer_key(call.as_context(), request, request.request_id)  # type: ignore[attr-defined]  # a rule of tests
        with self._database.transaction() as deciding:
            if deciding.answers.has(caller, key):  # (1)
                return
            approval = self._asked(deciding.approvals, caller, key, request)
        approval.require_approved()  # (3)

    def _asked(self, approvals: Approvals, caller: Caller, key: AnswerKey, request: Message) -> Approval:
        packed = Packed()
        packed.Pack(request, deterministic=True)
        approval_id = approval_id_of(caller.identity, key.method, key.request_id)
        asked = (caller.identity, key.method, packed.SerializeToString(), key.payload_hash)
        try:
            return approvals.ask(approval_id, *asked, self._clock.now(), self._life)
        except ApprovalAltered as error:  # (2)
            raise RequestIdReused() from error


class ApprovalServicer(approval_pb2_grpc.ApprovalServiceServicer):
    """Adapts the wire to approvals: convert, one step, convert. `decided` is called after a decision was committed."""

    def __init__(self, database: Database[Deciding], clock: Clock, decided: Callable[[], None]) -> None:
        self._database = database
        self._clock = clock
        self._decided = decided

    def ListApprovals(
        self, request: approval_pb2.ListApprovalsRequest, context: grpc.ServicerContext
    ) -> approval_pb2.ListApprovalsResponse:
        size = paging.page_size(request.page_size, default=100, most=1000)
        state, after = _state(request.state), _place(paging.from_token(request.page_token, 2))
        with self._database.transaction() as deciding:
            found, following = deciding.approvals.page(state, after, size, self._clock.now())
        token = paging.to_token(following[0].isoformat(), str(following[1])) if following else ""
        return approval_pb2.ListApprovalsResponse(approvals=map(_to_wire, found), next_page_token=token)

    def ApproveRequest(
        self, request: approval_pb2.ApproveRequestRequest, context: grpc.ServicerContext
    ) -> approval_pb2.ApproveRequestResponse:
        key = answer_key(context, request, request.request_id)
        approval_id, digest = UUID(uuid_from_wire(request.approval_id, "approval_id")), request.request_digest
        with self._database.transaction() as deciding:
            approval = deciding.approve(caller_of(context), approval_id, digest, self._clock.now(), key)
        self._decided()
        return approval_pb2.ApproveRequestResponse(approval=_to_wire(approval))

    def DenyRequest(
        self, request: approval_pb2.DenyRequestRequest, context: grpc.ServicerContext
    ) -> approval_pb2.DenyRequestResponse:
        key = answer_key(context, request, request.request_id)
        approval_id = UUID(uuid_from_wire(request.approval_id, "approval_id"))
        with self._database.transaction() as deciding:
            approval = deciding.deny(caller_of(context), approval_id, request.reason, self._clock.now(), key)
        self._decided()
        return approval_pb2.DenyRequestResponse(approval=_to_wire(approval))


def _state(value: int) -> ApprovalState | None:
    if value == approval_pb2.APPROVAL_STATE_UNSPECIFIED:
        return None
    try:
        return ApprovalState(value)
    except ValueError:
        raise InvalidField("state", "must be a state of the contract") from None


def _place(token: tuple[str, ...]) -> Place:
    if not token:
        return NEWEST
    try:
        return datetime.fromisoformat(token[0]).astimezone(UTC), UUID(token[1])
    except (ValueError, OverflowError):
        raise PageTokenInvalid("page_token", "must be the next_page_token of the answer before") from None


def _to_wire(approval: Approval) -> approval_pb2.Approval:
    wire = approval_pb2.Approval(
        approval_id=str(approval.approval_id),
        state=approval.state.value,  # type: ignore[arg-type]  # a test holds the numbers equal
        requester=approval.requester,
        method=approval.method,
        request=Packed.FromString(approval.request),
        request_digest=approval.digest,
        decider=approval.decider,
        reason=approval.reason,
    )
    wire.request_time.FromDatetime(approval.request_time)
    wire.expire_time.FromDatetime(approval.expire_time)
    if approval.decide_time is not None:
        wire.decide_time.FromDatetime(approval.decide_time)
    return wire
