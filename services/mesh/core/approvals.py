"""Approvals: what was asked for, and what a second person said to it. Knows no method and no act."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, TypeAlias
from uuid import UUID, uuid5

from sqlalchemy import ColumnElement, Connection, Row, and_, literal, tuple_
from sqlalchemy.dialects.postgresql import insert

from services.mesh.core.caller import Caller
from services.mesh.core.errors import InvalidField, Kind, MeshError, StateNotAllowed
from services.mesh.core.person.pin import holds_pin
from services.mesh.core.tables import APPROVALS

LONGEST_REASON = 500
_PAGE_BYTES, _FETCHED = 2 << 20, 100
_NAMESPACE = UUID("9b2f7f3e-5a0c-5d55-8c5e-6f0f6d0f7a10")

Place: TypeAlias = tuple[datetime, UUID]
"""A place in the order of approvals: when one was asked for, and its id."""

NEWEST: Place = (datetime.max.replace(tzinfo=UTC), UUID(int=2**128 - 1))


class ApprovalNeeded(MeshError):
    """The act needs a second person. It was not done."""

    kind, reason = Kind.FAILED_PRECONDITION, "APPROVAL_NEEDED"


class ApprovalDenied(MeshError):
    """A second person denied the act."""

    kind, reason = Kind.FAILED_PRECONDITION, "APPROVAL_DENIED"


class ApprovalExpired(MeshError):
    """Nobody decided in time, or what was approved was not used in time."""

    kind, reason = Kind.FAILED_PRECONDITION, "APPROVAL_EXPIRED"


class ApprovalUnknown(MeshError):
    """No such approval."""

    kind, reason = Kind.NOT_FOUND, "APPROVAL_UNKNOWN"


class ApproverIsRequester(MeshError):
    """Nobody approves what he asked for himself."""

    kind, reason = Kind.PERMISSION_DENIED, "APPROVER_IS_REQUESTER"


class ApprovalAltered(MeshError):
    """What is to be approved is not what was asked for, or not what the approver has seen."""

    kind, reason = Kind.FAILED_PRECONDITION, "APPROVAL_ALTERED"


class ApprovalState(Enum):
    """State of an approval, with the numbers of npd.common.v1.ApprovalState."""

    PENDING = 1
    APPROVED = 2
    DENIED = 3
    EXPIRED = 4


@dataclass(frozen=True, slots=True)
class Approval:
    """What needs a second person, and how it stands at the moment at which it was read.

    `request` is a serialised google.protobuf.Any, for the approver to read; `digest` is SHA-256 of what it holds.
    `requester` and `decider` are identities.
    """

    approval_id: UUID
    method: str
    requester: str
    request: bytes
    digest: bytes
    request_time: datetime
    expire_time: datetime
    state: ApprovalState
    decider: str = ""
    decide_time: datetime | None = None
    reason: str = ""

    def require_approved(self) -> None:
        """Raises ApprovalNeeded while nobody has decided, ApprovalDenied, ApprovalExpired."""
        match self.state:
            case ApprovalState.PENDING:
                raise ApprovalNeeded(approval=self.approval_id, expire_time=self.expire_time.isoformat())
            case ApprovalState.DENIED:
                raise ApprovalDenied(approval=self.approval_id, cause=self.reason)
            case ApprovalState.EXPIRED:
                raise ApprovalExpired(approval=self.approval_id, expire_time=self.expire_time.isoformat())

    def require_of(self, digest: bytes) -> None:
        """Raises ApprovalAltered unless this is the approval of just what has that digest."""
        if self.digest != digest:
            raise ApprovalAltered(approval=self.approval_id)


def approval_id_of(requester: str, method: str, request_id: str) -> UUID:
    """The id of the approval of a request: a function of who asks, what for and by which id, so that a repeat finds it.

    `request_id` is a UUID in any case of letters. Source: RFC 9562, 5.5.
    """
    return uuid5(_NAMESPACE, f"{requester}\n{method}\n{request_id.lower()}")


class Approvals:
    """The approvals of one room, inside a transaction. They are kept: who approved what remains to be seen.

    That one has expired is not stored: it is told by `now` whenever one is read.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def ask(
        self,
        approval_id: UUID,
        requester: str,
        method: str,
        request: bytes,
        digest: bytes,
        now: datetime,
        life: timedelta,
    ) -> Approval:
        """Ask for an approval, PENDING until `now` + `life`; asked for before, it is returned as it stands.

        Raises ApprovalAltered if it was asked for something else.
        """
        asked = {
            "approval_id": approval_id,
            "method": method,
            "requester": requester,
            "request": request,
            "digest": digest,
            "request_time": now,
            "expire_time": now + life,
            "state": ApprovalState.PENDING.name,
        }
        self._connection.execute(insert(APPROVALS).values(asked).on_conflict_do_nothing())
        approval = self.find(approval_id, now)
        approval.require_of(digest)
        return approval

    def find(self, approval_id: UUID, now: datetime) -> Approval:
        """An approval by its id. Raises ApprovalUnknown."""
        return self._one(approval_id, now, lock=False)

    def page(
        self, state: ApprovalState | None, after: Place, limit: int, now: datetime
    ) -> tuple[list[Approval], Place | None]:
        """Approvals in a state, or in any, newest first, after a place in that order, and where the next page begins.

        They are `limit` at most, and fewer if an answer could not hold their requests; a next page is None if there is
        none.
        """
        order = (APPROVALS.c.request_time, APPROVALS.c.approval_id)
        rows = APPROVALS.select().where(tuple_(*order) < tuple_(*map(literal, after)))
        if state is not None:
            rows = rows.where(_is_in(state, now))
        rows = rows.order_by(*(column.desc() for column in order)).limit(limit + 1)
        found: list[Approval] = []
        size = 0
        with self._connection.execute(rows, execution_options={"yield_per": _FETCHED}) as result:
            for row in result:
                size += len(row.request)
                if len(found) == limit or (found and size > _PAGE_BYTES):
                    return found, (found[-1].request_time, found[-1].approval_id)
                found.append(_approval(row, now))
        return found, None

    def decide(
        self, approval_id: UUID, decider: Caller, digest: bytes | None, *, approved: bool, reason: str, now: datetime
    ) -> Approval:
        """Approve what has this digest, or deny it with a reason; returns the approval as it is decided.

        1. It is locked: of two who decide at once, the second finds it decided.
        2. Nobody approves what he asked for himself; he may deny it, which withdraws it.
        3. It is the approval of just what the decider has seen, if he says what.
        4. Nobody has decided, and it has not expired.

        Raises ApprovalUnknown, ApproverIsRequester, ApprovalAltered, ApprovalExpired, StateNotAllowed; InvalidField for
        the reason.
        """
        if not approved:
            _require_reason(reason)
        approval = self._one(approval_id, now, lock=True)  # (1)
        if approved and approval.requester == decider.identity:  # (2)
            raise ApproverIsRequester(approval=approval_id)
        if approved or digest is not None:  # (3)
            approval.require_of(digest or b"")
        if approval.state is ApprovalState.EXPIRED:  # (4)
            approval.require_approved()
        if approval.state is not ApprovalState.PENDING:
            raise StateNotAllowed(object=f"approval {approval_id}", state=approval.state.name)
        decided = replace(
            approval,
            state=ApprovalState.APPROVED if approved else ApprovalState.DENIED,
            decider=decider.identity,
            decide_time=now,
            reason="" if approved else reason,
        )
        self._connection.execute(
            APPROVALS.update()
            .where(APPROVALS.c.approval_id == approval_id)
            .values(
                state=decided.state.name,
                decider=decided.decider,
                decide_time=decided.decide_time,
                reason=decided.reason,
            )
        )
        return decided

    def _one(self, approval_id: UUID, now: datetime, *, lock: bool) -> Approval:
        rows = APPROVALS.select().where(APPROVALS.c.approval_id == approval_id)
        row = self._connection.execute(rows.with_for_update() if lock else rows).first()
        if row is None:
            raise ApprovalUnknown()
        return _approval(row, now)


def _is_in(state: ApprovalState, now: datetime) -> ColumnElement[bool]:
    """Whether a row is in a state at a moment, as `_approval` reads it."""
    open_ended = APPROVALS.c.state.in_([ApprovalState.PENDING.name, ApprovalState.APPROVED.name])
    match state:
        case ApprovalState.DENIED:
            return APPROVALS.c.state == state.name
        case ApprovalState.EXPIRED:
            return and_(open_ended, APPROVALS.c.expire_time <= now)
    return and_(APPROVALS.c.state == state.name, APPROVALS.c.expire_time > now)


def _approval(row: Row[Any], now: datetime) -> Approval:
    state = ApprovalState[row.state]
    if state is not ApprovalState.DENIED and row.expire_time <= now:
        state = ApprovalState.EXPIRED
    return Approval(
        row.approval_id,
        row.method,
        row.requester,
        row.request,
        row.digest,
        row.request_time,
        row.expire_time,
        state,
        row.decider or "",
        row.decide_time,
        row.reason or "",
    )


def _require_reason(reason: str) -> None:
    if not reason.strip() or len(reason) > LONGEST_REASON or not reason.isprintable() or holds_pin(reason):
        raise InvalidField(
            "reason", f"must be 1 to {LONGEST_REASON} printable characters without a line break, and hold no PIN"
        )
